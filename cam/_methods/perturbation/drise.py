"""Mask the image at random and compare what is detected: D-RISE."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from cam._detection.candidates import Candidates, are_candidates
from cam._engine.method_sources import Capture, Pixels
from cam._engine.passes import Passes
from cam._methods.base.draws import STEADY
from cam._methods.base.method_registry import register_method
from cam._methods.perturbation.input_masking import rise
from cam._targets.detection_targets import Box, Missed, Sides, overlaps_with
from cam.errors import MethodError
from cam.parameters import SEED, integer, number
from cam.types import Maps


@register_method(
    "drise",
    rules={
        "masks": integer(1),
        "cells": integer(1),
        "probability": number(above=0, most=1),
        "steady": STEADY,
        "seed": SEED,
    },
    title="D-RISE",
    family="perturbation",
    kind="evidence",
    reads=Pixels,
    needs_gradients=False,
    cost=(
        "1 forward, and one for each mask: by default until another seed's map is expected to "
        "correlate by 0.95, at most 5000"
    ),
)
def drise(
    pixels: Pixels,
    passes: Passes,
    *,
    masks: int = 5000,
    cells: int = 16,
    probability: float = 0.5,
    steady: float = 0.95,
    seed: int = 0,
) -> Maps:
    """Which pixels are in view when a detector, shown the image in random parts, finds the box.

    RISE's map of s = max_j IoU(L_t, L_j) · O_j · cos(P_t, P_j): how like the target t the candidate
    j of a masked image is that is most like it, with boxes L, objectness O and vectors of class
    probabilities P.

    A target is a detection (:class:`cam.targets.Box`), whose P_t is that of its candidate, or an
    object that is missed (:class:`cam.targets.Missed`, or a box without a candidate), whose P_t is
    1 for its class alone. Objectness is one minus the probability of "no object", or the largest
    class score where there is no such class: of a head of sigmoids a cosine alone is near 1 for
    every cell. A detector that gives each box one label, as torchvision's, has 1 for that label
    alone in P, and its score as O; the paper leaves O out for it.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype.
        passes: Where the images go.
        masks: How many at most.
        cells: Cells along each side of a mask.
        probability: That a cell is open; above 0 and at most 1.
        steady: At which expected correlation with another seed's map no more are drawn; 1: all
            are.
        seed: Of the masks.

    Returns:
        Maps (B, H, W) float32. The raw one has no meaningful zero, so the other is min-max alone.

    Raises:
        MethodError: The target is no box, or the model no detector.

    References:
        Petsiuk et al., Black-box Explanation of Object Detectors via Saliency Maps, CVPR 2021,
        section 3, the similarity of detections and the sum of masks weighted by it
    """
    targets = [pixels.targets] if isinstance(pixels.targets, Tensor) else pixels.targets
    likenesses = tuple(
        Likeness.of(target, output) for target, output in zip(targets, pixels.logits, strict=False)
    )
    compared = replace(pixels, targets=likenesses)
    with passes.explaining(Capture(compared)):
        return rise(
            compared,
            passes,
            masks=masks,
            cells=cells,
            probability=probability,
            steady=steady,
            seed=seed,
        )


@dataclass(frozen=True, eq=False)
class Likeness:
    """How like a detection the candidate is that is most like it.

    Attributes:
        box: x0, y0, x1, y1 of the detection.
        label: Its class; None: any.
        classes: (C,) its class probabilities; None where the detector gives one label a box.
    """

    box: Sides
    label: int | None
    classes: Tensor | None

    @staticmethod
    def of(target: object, output: Tensor) -> "Likeness":
        """Describe a target by what the detector says of the whole image.

        Args:
            target: A box, with its label as an index.
            output: (N, 6) or (N, 7 + C), candidates.

        Raises:
            MethodError: It is no box, or the output has no candidates.
        """
        if not isinstance(target, Box | Missed) or not are_candidates(output[None]):
            raise MethodError(
                "drise explains a detection of a detector: its target must be a cam.targets.Box or "
                "cam.targets.Missed, such as model.detect(images)[0][0]"
            )
        candidates, label = Candidates(output), target.label
        index = None if label is None else int(label)
        scores = candidates.class_scores
        if scores is None:
            return Likeness(target.box, index, None)
        overlaps = overlaps_with(candidates, target.box)
        best = overlaps.argmax()
        if isinstance(target, Box) and float(overlaps[best]) >= target.overlap:
            return Likeness(target.box, index, scores[best].detach())
        if index is None:
            raise MethodError(
                "drise's box has no candidate and no label, so nothing says what should be there; "
                "give the box a label"
            )
        return Likeness(target.box, index, functional.one_hot(_at(index, scores), scores.shape[1]))

    def __call__(self, output: Tensor) -> Tensor:
        """Compute max_j IoU · O_j · cos(P_t, P_j); 0 where nothing is detected."""
        candidates = Candidates(output)
        if not len(output):
            return output.sum()
        scores = candidates.class_scores
        if scores is None or self.classes is None:
            same = torch.ones_like(candidates.labels)
            same = same if self.label is None else candidates.labels.eq(self.label).to(same)
        else:
            same = functional.cosine_similarity(scores, self.classes.to(scores)[None], dim=1)
        overlaps = overlaps_with(candidates, self.box)
        return (overlaps * candidates.objectness * same).amax()


def _at(index: int, scores: Tensor) -> Tensor:
    return torch.tensor(index, device=scores.device)
