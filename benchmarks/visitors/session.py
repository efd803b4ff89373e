"""Visit the dashboard without a browser, in Streamlit's own protocol.

Forty browsers would take more of two cores than the server that is measured. This visitor opens the
WebSocket that a browser opens, runs a page, clicks a widget, and keeps what the server draws.
"""

import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import requests
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.Common_pb2 import FileURLs, FileURLsRequest
from streamlit.proto.Element_pb2 import Element
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.sync.client import connect
from websockets.typing import Subprotocol

VIEWER = "cam.image_viewer"
XSRF = "_streamlit_xsrf"
# Without one the server closes a connection; that of a photo with all maps is the longest.
LONGEST_MESSAGE = 64 * 2**20
PATIENCE_SECONDS = 120


class VisitError(AssertionError):
    """What a visitor must never see: a traceback, an answer that does not come."""


class Session:
    """One visitor's connection, and what it shows.

    Args:
        address: Of the server, such as http://localhost:8501.
        page: As its address calls it: "explore".

    Attributes:
        elements: What is drawn, by the place in the page that the server gave it.
        query: The address's query as the server last wrote it, without the question mark.
    """

    def __init__(self, address: str, page: str = "explore") -> None:
        parts = urlsplit(address)
        self._address = address.rstrip("/")
        self._opened = ExitStack()
        self._socket = self._opened.enter_context(
            connect(
                f"ws://{parts.netloc}/_stcore/stream",
                subprotocols=[Subprotocol("streamlit")],
                origin=None,
                max_size=LONGEST_MESSAGE,
                compression=None,
            )
        )
        self._page = page
        self._script, self._session = "", ""
        self._widgets: dict[str, WidgetState] = {}
        self.elements: dict[tuple[int, ...], Element] = {}
        self.query = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._opened.close()

    def visit(self, query: str) -> float:
        """Open the page at an address, as a link or Back does; returns the seconds it took."""
        self.query = query
        return self._run(ClientState(query_string=query, is_history_navigation=True))

    def click(self, key: str, write: Callable[[WidgetState], object]) -> float:
        """Change a widget; returns the seconds until the page is drawn.

        Args:
            key: The widget's, as the page's code names it; a pattern of it.
            write: Sets its new value.

        Raises:
            VisitError: The page has no such widget.
        """
        state = WidgetState(id=self.find(key))
        write(state)
        self._widgets[state.id] = state
        return self._run(ClientState(query_string=self.query))

    def find(self, key: str) -> str:
        """Return the whole name of the widget whose key a pattern fits.

        Raises:
            VisitError: The page has no such widget.
        """
        for element in self.elements.values():
            widget = getattr(element, element.WhichOneof("type") or "", None)
            name = str(getattr(widget, "id", ""))
            if re.search(rf"-{key}$", name):
                return name
        raise VisitError(f"the page has no widget {key!r}")

    def upload(self, key: str, name: str, content: bytes) -> float:
        """Give a file to a field for files; returns the seconds until the page is drawn.

        Raises:
            VisitError: The server refuses the file, or the page has no such field.
        """
        start = time.perf_counter()
        target = self.ask_for_upload(name)
        # The page's own script proves with a cookie that it was loaded from this server.
        token = requests.get(f"{self._address}/_stcore/health", timeout=PATIENCE_SECONDS).cookies
        answer = requests.put(
            f"{self._address}{target.upload_url}",
            files={"file": (name, content)},
            headers={"X-Xsrftoken": token.get(XSRF) or ""},
            cookies=token,
            timeout=PATIENCE_SECONDS,
        )
        if not answer.ok:
            raise VisitError(f"the upload was refused with {answer.status_code}: {answer.text}")

        def write(state: WidgetState) -> None:
            info = state.file_uploader_state_value.uploaded_file_info.add()
            info.name, info.size, info.file_id = name, len(content), target.file_id
            info.file_urls.CopyFrom(target)

        self.click(key, write)
        return time.perf_counter() - start

    def ask_for_upload(self, name: str) -> FileURLs:
        """Ask the server where a file is to be put."""
        request = FileURLsRequest(request_id=name, file_names=[name], session_id=self._session)
        self._socket.send(BackMsg(file_urls_request=request).SerializeToString())
        while (message := self._receive()).WhichOneof("type") != "file_urls_response":
            self._take(message, set())
        target: FileURLs = message.file_urls_response.file_urls[0]
        return target

    def read_options(self, key: str) -> list[str]:
        """Return what a widget offers, as the visitor reads it.

        Raises:
            VisitError: The page has no such widget.
        """
        name = self.find(key)
        for element in self.elements.values():
            if element.button_group.id == name:
                return [option.content for option in element.button_group.options]
        raise VisitError(f"the widget {key!r} offers nothing to choose")

    def read_viewers(self) -> list[Mapping[str, Any]]:
        """Read what each viewer on the page was given to draw."""
        drawn = [
            element.bidi_component
            for element in self.elements.values()
            if element.WhichOneof("type") == "bidi_component"
        ]
        return [
            json.loads(component.mixed.json or component.json)
            for component in drawn
            if component.component_name == VIEWER
        ]

    def _run(self, state: ClientState) -> float:
        if not self._script:
            state.page_name = self._page
        state.page_script_hash = self._script
        state.widget_states.widgets.extend(self._widgets.values())
        start = time.perf_counter()
        self._socket.send(BackMsg(rerun_script=state).SerializeToString())
        drawn: set[tuple[int, ...]] = set()
        while (message := self._receive()).WhichOneof("type") != "script_finished":
            self._take(message, drawn)
        # What this run did not draw is stale, and a browser takes it away.
        if message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
            self.elements = {path: self.elements[path] for path in drawn}
        else:
            # A click that came meanwhile begins the page anew.
            while (message := self._receive()).WhichOneof("type") != "script_finished":
                self._take(message, drawn)
        return time.perf_counter() - start

    def _receive(self) -> ForwardMsg:
        content = self._socket.recv(timeout=PATIENCE_SECONDS)
        assert isinstance(content, bytes)
        message: ForwardMsg = ForwardMsg.FromString(content)
        return message

    def _take(self, message: ForwardMsg, drawn: set[tuple[int, ...]]) -> None:
        """Keep what a message draws, and where the visitor is."""
        kind = message.WhichOneof("type")
        if kind == "new_session":
            self._session = message.new_session.initialize.session_id
        elif kind == "navigation":
            self._script = message.navigation.page_script_hash
        elif kind == "page_info_changed":
            self.query = message.page_info_changed.query_string
        elif kind == "delta" and message.delta.WhichOneof("type") == "new_element":
            element = message.delta.new_element
            if element.WhichOneof("type") == "exception":
                raise VisitError(f"the page shows a traceback: {element.exception.message}")
            path = tuple(message.metadata.delta_path)
            self.elements[path] = element
            drawn.add(path)
