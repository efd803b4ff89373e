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

from cam.pages.ui.server.resources import share
from cam.pages.ui.state import address
from cam.pages.ui.state.choices import Weights
from cam.pages.ui.state.selection import OF_MODEL
from cam.pages.ui.state.visitor import get_visitor, read_widget
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.prose import escape_markdown, write_small

KINDS = ["safetensors", "pth", "pt"]
LIMIT_MB, LABELS_MB = 200, 1
# On the disk; what was not looked at for longest goes first.
CAPACITY = 8


class Store:
    """The latest uploads of all visitors, each once, in a folder that goes with the server."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="cam-uploads-")
        self.folder = Path(self._temporary.name)
        self._capacity = capacity
        self._paths: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, content: bytes, name: str) -> str:
        """Keep a file below its digest, under a harmless form of its name; returns its path."""
        harmless = re.sub(r"[^\w. -]", "_", PurePath(name).name)[-80:].lstrip(".") or "weights"
        path = self.folder / hashlib.sha256(content).hexdigest() / harmless
        with self._lock:
            if str(path) not in self._paths:
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
            self._paths[str(path)] = None
            self._paths.move_to_end(str(path))
            while len(self._paths) > self._capacity:
                old, _ = self._paths.popitem(last=False)
                Path(old).unlink(missing_ok=True)
                if not any(Path(old).parent.iterdir()):
                    shutil.rmtree(Path(old).parent)
        return str(path)

    def has(self, path: str) -> bool:
        """Return whether a file is still kept; who asks keeps it."""
        with self._lock:
            if path in self._paths:
                self._paths.move_to_end(path)
            return path in self._paths


@share()
def get_store() -> Store:
    """Return the store of this server."""
    return Store()


def choose_weights() -> Weights | None:
    """Show the weights that this visitor uploaded, on whichever page, and where to upload."""
    weights = get_visitor().weights
    if weights is not None:
        paths = filter(None, (weights.path, weights.labels_path))
        if not all(map(get_store().has, paths)):
            st.warning(f"{weights.upload} is not kept any more: upload it again.")
            _remove()
            weights = None
    if weights is not None:
        st.markdown(f"Weights: **{escape_markdown(weights.upload or '')}**, uploaded")
        if weights.labels:
            write_small(f"Names of its classes: {escape_markdown(weights.labels)}.")
        st.button("Remove these weights", icon=":material/close:", on_click=_remove)
    controls.draw_lazily(
        "Upload weights", "upload_file", "weights_box", _draw_uploads, weights, bound=False
    )
    return weights


def _draw_uploads(weights: Weights | None) -> None:
    write_small(
        f"A state dict for the model above, up to {LIMIT_MB} MB. It is read as tensors and "
        "never run. A link cannot carry it: who opens it sees the published weights."
    )
    # A new key after each upload: what lies on the disk needs no memory too.
    count = get_visitor().uploads
    about = "Another number of classes is taken from the file."
    _draw_upload("Weights", KINDS, f"weights_{count}", LIMIT_MB, about)
    if weights is not None:
        about = "One name a line, or JSON, in the order of the output."
        _draw_upload("Names of its classes", ["txt", "json"], f"names_{count}", LABELS_MB, about)


def _draw_upload(label: str, kinds: list[str], key: str, limit: int, about: str) -> None:
    st.file_uploader(
        label, kinds, key=key, max_upload_size=limit, help=about, on_change=_take, args=(key,)
    )


def _take(key: str) -> None:
    """Keep an upload and use it from now on."""
    upload, visitor = read_widget(key), get_visitor()
    if upload is None:
        return
    name, path = upload.name, get_store().put(upload.getvalue(), upload.name)
    if key.startswith("names_") and visitor.weights is not None:
        visitor.weights = replace(visitor.weights, labels=name, labels_path=path)
    else:
        visitor.weights = Weights(path=path, upload=name)
    visitor.uploads += 1
    address.write({}, OF_MODEL)


def _remove() -> None:
    get_visitor().weights = None
    address.write({}, OF_MODEL)
