"""Keep uploaded weights for a while; read them as tensors only."""

import hashlib
import re
import shutil
import tempfile
import threading
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path, PurePath

import streamlit as st

from cam.pages.ui.server.resources import OwnWeights
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.text import small

KINDS = ["safetensors", "pth", "pt"]
LIMIT_MB, LABELS_MB = 200, 1
# On the disk; what was not looked at for longest goes first.
FILES_KEPT = 8
_CHOSEN, _COUNT = "_own_weights", "_own_weights_count"


class Store:
    """The latest uploads of all visitors, each once, in a folder that goes with the server."""

    def __init__(self, kept: int = FILES_KEPT) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="cam-uploads-")
        self.folder = Path(self._temporary.name)
        self._kept = kept
        self._paths: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, content: bytes, name: str) -> str:
        """Where a file lies from now on: below its digest, under a harmless form of its name."""
        harmless = re.sub(r"[^\w. -]", "_", PurePath(name).name)[-80:].lstrip(".") or "weights"
        path = self.folder / hashlib.sha256(content).hexdigest() / harmless
        with self._lock:
            if str(path) not in self._paths:
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
            self._paths[str(path)] = None
            self._paths.move_to_end(str(path))
            while len(self._paths) > self._kept:
                old, _ = self._paths.popitem(last=False)
                Path(old).unlink(missing_ok=True)
                if not any(Path(old).parent.iterdir()):
                    shutil.rmtree(Path(old).parent)
        return str(path)

    def here(self, path: str) -> bool:
        """Whether it is still kept; who asks keeps it."""
        with self._lock:
            if path in self._paths:
                self._paths.move_to_end(path)
            return path in self._paths


@st.cache_resource(show_spinner=False)
def store() -> Store:
    """The server's."""
    return Store()


def choose() -> OwnWeights | None:
    """The weights that this visitor uploaded, on whichever page, and a place to upload them."""
    own: OwnWeights | None = st.session_state.get(_CHOSEN)
    if own is not None and not all(map(store().here, filter(None, (own.path, own.labels_path)))):
        st.warning(f"{own.name} is not kept any more: upload it again.")
        _remove()
        own = None
    if own is not None:
        st.markdown(f"Weights: **{controls.plain(own.name)}**, uploaded")
        if own.labels:
            small(f"Names of its classes: {controls.plain(own.labels)}.")
        st.button("Remove these weights", icon=":material/close:", on_click=_remove)
    box = controls.lazy_box(
        "or upload weights", ":material/upload_file:", "weights_box", bound=False
    )
    if box is None:
        return own
    with box:
        small(
            f"A state dict for the model above, up to {LIMIT_MB} MB. It is read as tensors and "
            "never run. A link cannot carry it: who opens it sees the published weights."
        )
        # A new key after each upload: what lies on the disk needs no place in memory too.
        count = st.session_state.setdefault(_COUNT, 0)
        _upload("Weights", KINDS, f"weights_{count}", LIMIT_MB)
        if own is not None:
            _upload("Names of its classes", ["txt", "json"], f"names_{count}", LABELS_MB)
    return own


def _upload(label: str, kinds: list[str], key: str, limit: int) -> None:
    helped = (
        "Another number of classes is taken from the file."
        if limit == LIMIT_MB
        else "One name a line, or JSON, in the order of the output."
    )
    st.file_uploader(
        label, kinds, key=key, max_upload_size=limit, help=helped, on_change=_take, args=(key,)
    )


def _take(key: str) -> None:
    """Keep an upload and use it from now on."""
    upload = st.session_state.get(key)
    if upload is None:
        return
    name, path = upload.name, store().put(upload.getvalue(), upload.name)
    if key.startswith("names_"):
        chosen = replace(st.session_state[_CHOSEN], labels=name, labels_path=path)
    else:
        chosen = OwnWeights(name, path)
    st.session_state[_CHOSEN] = chosen
    st.session_state[_COUNT] += 1
    controls.forget_target_and_layer()


def _remove() -> None:
    st.session_state.pop(_CHOSEN, None)
    controls.forget_target_and_layer()
