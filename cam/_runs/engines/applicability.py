"""Try whether a method runs on a model, within one pass."""

import logging
import warnings

from torch import Tensor, nn

from cam._attribution.attribution import attribute
from cam._engine.layers import Layers
from cam._methods.base.method_registry import Method
from cam._methods.base.method_registry import method as named
from cam._models.model import Model
from cam._runs.engines.shard_reader import describe_error
from cam.errors import CamError, CamWarning, Cancelled
from cam.types import Progress

LOG = logging.getLogger("cam.evaluate")


def explain_refusal(
    model: Model | nn.Module,
    batch: Tensor,
    method: str | Method,
    layers: Layers = None,
) -> str | None:
    """Say why a model refuses a method; None where it runs.

    It is tried. What refuses does so before or in its first pass, so a method that would send
    hundreds of inputs through the network is stopped after one of them.

    Args:
        model: A :class:`cam.Model` or any classifier; it comes back as it was.
        batch: (1, 3, H, W) floats on the model's device: any picture, as ``model.prepare`` gives.
        method: A name, or :func:`cam.method` with parameters.
        layers: As for :func:`cam.attribute`.

    Raises:
        MethodError: There is no such method.
    """
    how = named(method) if isinstance(method, str) else method
    begun = False

    def enough(progress: Progress) -> bool:
        nonlocal begun
        begun = progress.done > 0
        return not begun

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CamWarning)
        try:
            attribute(
                model,
                batch,
                how,
                layers=layers if how.info.layer else None,
                batch_size=1,
                progress=enough,
            )
        except Cancelled:
            return None
        except CamError as error:
            return str(error)
        except Exception as error:
            LOG.debug("%s failed", how, exc_info=True)
            return describe_error(error)
    return None
