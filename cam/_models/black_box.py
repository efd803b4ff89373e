"""Make models of functions and of files that hold a network."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cam._extras import require
from cam._models.model import Model
from cam._models.preprocessing import Transform
from cam.errors import MissingExtraError, ModelError

# What a file's name ends with → what reads it.
ONNX, EXPORTED, SCRIPTED = ".onnx", ".pt2", ".torchscript"
SUFFIXES = (ONNX, EXPORTED, SCRIPTED)


class BlackBox(nn.Module):
    """A function of a batch as a network; no gradient comes back from it.

    Args:
        function: From (B, C, H, W) to scores (B, classes), both of torch or of NumPy.
        arrays: Whether it takes and returns NumPy's arrays.
    """

    def __init__(self, function: Callable[[Any], Any], arrays: bool = False) -> None:
        super().__init__()
        self.function, self.arrays = function, arrays

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the scores (B, classes), detached."""
        batch = pixels.detach()
        try:
            scores = self.function(batch.cpu().numpy() if self.arrays else batch)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            # A service or another framework raises what it likes.
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        if isinstance(scores, np.ndarray | np.generic):
            scores = torch.from_numpy(np.asarray(scores))
        if not isinstance(scores, Tensor):
            raise TypeError(
                f"the function returned a {type(scores).__name__}; it must return a tensor or an "
                "array (B, classes)"
            )
        if not scores.ndim or len(scores) != len(batch):
            raise TypeError(
                f"the function returned shape {tuple(scores.shape)} for a batch of {len(batch)}; "
                "it must return scores (B, classes)"
            )
        return scores.detach().to(batch.device)


def black_box(
    function: Callable[[Any], Any],
    transform: Transform | None = None,
    labels: Sequence[str] | None = None,
    name: str | None = None,
    *,
    arrays: bool = False,
) -> Model:
    """Make a model of any function that gives scores.

    Methods that need gradients refuse it, and say which do not.

    Args:
        function: From a batch (B, C, H, W), float32, to scores (B, classes): a tensor or an array.
            It may call a remote service, another framework, a program.
        transform: As for :class:`cam.Model`.
        labels: As for :class:`cam.Model`.
        name: What to call it in results; by default the function's name.
        arrays: Whether it takes NumPy's arrays, and not tensors.

    Raises:
        ModelError: It cannot be called.
    """
    if not callable(function):
        raise ModelError(f"a black box is a function, and not a {type(function).__name__}")
    name = name or getattr(function, "__name__", type(function).__name__)
    return Model(BlackBox(function, arrays).eval(), transform, labels, name=name)


def names_program(name: str) -> bool:
    """Return whether a name is the path of a model's file that holds the network itself."""
    return name.lower().endswith(SUFFIXES)


def load_program(path: str) -> nn.Module:
    """Load a network from a file that holds it whole.

    Args:
        path: ``.onnx``, which ONNX Runtime runs, without gradients; ``.pt2`` of
            ``torch.export.save``; or ``.torchscript`` of ``torch.jit.save``.

    Raises:
        ModelError: There is no such file, or it is damaged.
        MissingExtraError: ONNX Runtime is not installed.
    """
    if not Path(path).is_file():
        raise ModelError(f"there is no file {path!r}")
    suffix = Path(path).suffix.lower()
    try:
        if suffix == ONNX:
            return OnnxNetwork(path).eval()
        if suffix == EXPORTED:
            module: nn.Module = torch.export.load(path).module()
            return module
        scripted: nn.Module = torch.jit.load(path, "cpu")  # type: ignore[no-untyped-call]
        return scripted.eval()
    except (ModelError, MissingExtraError):
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{Path(path).name} cannot be loaded: {reason}") from error


class OnnxNetwork(BlackBox):
    """A network that ONNX Runtime runs, on a GPU where it can."""

    def __init__(self, path: str) -> None:
        require("onnx", "an ONNX file")
        import onnxruntime

        self.path = path
        session = onnxruntime.InferenceSession(
            path, providers=onnxruntime.get_available_providers()
        )
        inputs = session.get_inputs()
        if len(inputs) != 1:
            names = ", ".join(each.name for each in inputs)
            raise ModelError(
                f"{Path(path).name} takes {len(inputs)} inputs ({names}), and an image is one; "
                "wrap it as cam.black_box(function)"
            )
        [image] = inputs

        def run(batch: np.ndarray) -> np.ndarray:
            # A file may be of one image only.
            parts = [batch] if self.shape[0] is None else np.split(batch, len(batch))
            feeds = ({image.name: part.astype(np.float32)} for part in parts)
            return np.concatenate([session.run(None, each)[0] for each in feeds])

        super().__init__(run, arrays=True)
        # (B, C, H, W), where a number is fixed.
        self.shape = tuple(side if isinstance(side, int) else None for side in image.shape)

    @property
    def size(self) -> tuple[int, int] | None:
        """Rows and columns that it takes; None where any will do."""
        height, width = self.shape[-2:] if len(self.shape) == 4 else (None, None)
        return None if height is None or width is None else (height, width)
