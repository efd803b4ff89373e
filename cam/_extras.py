"""Say which extra is missing, and the command that installs it."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from cam.errors import MissingExtraError

# Extra → the packages that its work imports first; `requirements/` lists all that it installs.
PACKAGES = {
    "dashboard": ("streamlit", "plotly", "pandas", "duckdb"),
    "evaluate": ("pandas", "pyarrow", "duckdb", "statsmodels", "scikit_posthocs", "matplotlib"),
    "ray": ("ray",),
    "video": ("av",),
    "hf": ("transformers", "sentencepiece"),
    "open-clip": ("open_clip",),
    "notebook": ("anywidget",),
    "onnx": ("onnxruntime",),
    "fast": ("onnxruntime", "onnx", "onnxscript"),
}


def require(extra: str, purpose: str) -> None:
    """Check that an extra's packages are installed, without importing them.

    Args:
        extra: One of :data:`PACKAGES`.
        purpose: What needs it, as the subject of a sentence: "cam.evaluate".

    Raises:
        MissingExtraError: One of them is not.
    """
    if all(find_spec(package) for package in PACKAGES[extra]):
        return
    try:
        version("cam")
        source = f"'cam[{extra}]'"
    except PackageNotFoundError:
        # A checkout that is not installed: a `cam` of the registry would be another package.
        source = f"-e '.[{extra}]'"
    raise MissingExtraError(f"{purpose} needs the extra {extra!r}: pip install {source}")
