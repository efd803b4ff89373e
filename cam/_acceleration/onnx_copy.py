"""Copy a network into ONNX Runtime, which computes its logits."""

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cam._detection.final_detections import are_detections
from cam._engine.forward import find_logits
from cam.errors import ModelError

# A file of protocol buffers is smaller than 2 GiB.
LARGEST_BYTES = 2**31 - 2**20
# Loggers that report each step of a conversion.
_LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir")


class _Logits(nn.Module):
    """A network that returns its logits alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        output = self.network(pixels)
        logits = None if are_detections(output) else find_logits(output)
        if logits is None:
            raise ModelError(f"it returns a {type(output).__name__} without logits")
        return logits


def convert(module: nn.Module, batch: Tensor) -> bytes:
    """Convert a network to ONNX, for batches of any number of images.

    Args:
        module: The network, in evaluation mode on the CPU.
        batch: (N, C, H, W) float32, N of at least 2.

    Returns:
        The file's content.

    Raises:
        ModelError: It cannot be converted, and why.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    if size > LARGEST_BYTES:
        raise ModelError(f"its weights take {size / 2**30:.1f} GiB, and an ONNX file 2 at most")
    dynamic = ({0: torch.export.Dim("images")},)
    try:
        with _quiet(), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
            program = torch.onnx.export(
                _Logits(module).eval(), (batch,), dynamo=True, dynamic_shapes=dynamic, verbose=False
            )
            if program is None:
                raise ModelError("torch.onnx made no program of it")
            path = Path(folder) / "network.onnx"
            program.save(path, external_data=False)
            return path.read_bytes()
    except ModelError:
        raise
    except Exception as error:
        # Whatever the exporter meets: the network runs without it.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"it cannot be converted to ONNX: {reason}") from error


class OnnxCopy:
    """A converted network.

    Args:
        content: Of :func:`convert`.

    Raises:
        ModelError: ONNX Runtime does not take it.
    """

    def __init__(self, content: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Threads that spin while they wait would take the cores from torch's.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(f"ONNX Runtime does not take it: {reason}") from error
        self._input = self._session.get_inputs()[0].name

    def __call__(self, pixels: Tensor) -> Tensor:
        """Compute the logits of (N, C, H, W) float32 on the CPU."""
        batch = np.ascontiguousarray(pixels.detach().numpy())
        (logits,) = self._session.run(None, {self._input: batch})
        return torch.from_numpy(logits)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's steps out of the log: only its result counts."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
