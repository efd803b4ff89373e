"""A batch at once or, where that fails, image by image; and the memory that it took."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cam._runs.engines.shard_reader import in_a_line
from cam.errors import Cancelled

LOG = logging.getLogger("cam.evaluate")


def one_by_one(
    run: Callable[[Sequence[int]], Any], places: list[int]
) -> tuple[list[tuple[list[int], Any]], dict[int, str]]:
    """All at once; where that fails, each alone, with the reason of those that fail then too."""
    try:
        return [(places, run(places))], {}
    except Cancelled:
        raise
    except Exception as error:
        LOG.debug("a batch failed", exc_info=True)
        if len(places) == 1:
            return [], {places[0]: in_a_line(error)}
    found: list[tuple[list[int], Any]] = []
    reasons: dict[int, str] = {}
    for place in places:
        parts, broken = one_by_one(run, [place])
        found += parts
        reasons |= broken
    return found, reasons


def forget_peak(batch: Tensor) -> None:
    """Begin to look at how much memory a GPU holds."""
    if batch.is_cuda:
        torch.cuda.reset_peak_memory_stats(batch.device)


def peak(batch: Tensor) -> int | None:
    """Most memory that a GPU held since :func:`forget_peak`, in bytes; None on a processor."""
    return torch.cuda.max_memory_allocated(batch.device) if batch.is_cuda else None
