"""Read torchvision's lists of detections; ask for all of their candidates."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeGuard

import torch
from torch import Tensor, nn

from cam._detection.candidates import PADDING

_KEYS = {"boxes", "scores", "labels"}
# The parts of torchvision's detectors that drop candidates, by what, and what drops none.
_PARTS = ("RoIHeads", "RetinaNet", "FCOS", "SSD")
_LIMITS = {"score_thresh": 0.0, "nms_thresh": 1.0, "detections_per_img": 100_000}


def are_detections(output: object) -> TypeGuard[Sequence[Mapping[str, Tensor]]]:
    """Test whether an output is a list with boxes, scores and labels of each image."""
    return (
        isinstance(output, tuple | list)
        and bool(output)
        and all(isinstance(part, Mapping) and part.keys() >= _KEYS for part in output)
    )


def read_detections(output: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """Read lists of detections as candidates, still in the graph.

    Returns:
        (B, D, 6), padded with rows of -1.
    """
    images = []
    for image in output:
        scores = image["scores"][:, None]
        images.append(torch.cat([image["boxes"], scores, image["labels"][:, None].to(scores)], 1))
    return nn.utils.rnn.pad_sequence(images, batch_first=True, padding_value=PADDING)


@contextmanager
def keep_all_candidates(module: nn.Module, everything: bool = True) -> Iterator[None]:
    """Make torchvision's detectors return what they would drop, and put them back.

    Their own scores are below a threshold, or a better box covers them. Other networks are left as
    they are, since what they return is complete.

    Args:
        module: The network.
        everything: Whether any target reads it; else nothing is changed.
    """
    with ExitStack() as stack:
        for child in module.modules() if everything else ():
            names = {kind.__name__ for kind in type(child).__mro__}
            if names.isdisjoint(_PARTS):
                continue
            for name, limit in _LIMITS.items():
                if isinstance(value := getattr(child, name, None), int | float):
                    stack.callback(setattr, child, name, value)
                    setattr(child, name, limit)
        yield
