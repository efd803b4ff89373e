"""Random logit: does a map change with the class that it explains?"""

import torch
from torch import Tensor

from cam._metrics.base.map_ranking import is_constant, is_dead
from cam._metrics.base.metric_registry import register_metric
from cam._metrics.base.subject import Subject
from cam._metrics.randomisation.model_randomisation import SIMILAR, average_alive
from cam.errors import MetricError
from cam.parameters import SEED, integer, one_of


@register_metric(
    "random_logit",
    title="Random logit",
    family="randomisation",
    definition="mean over random classes of the similarity of A(x) and the map of that class",
    direction=-1,
    range=(-1, 1),
    baseline="a method that does not look at the class scores 1; a map of chance 0",
    cost="1 forward and 5 explanations by default",
    rules={"samples": integer(1), "similarity": one_of(SIMILAR), "seed": SEED},
    needs_method=True,
)
def random_logit(
    subject: Subject, *, samples: int = 5, similarity: str = "spearman", seed: int = 0
) -> Tensor:
    """How alike the heatmap is to those of other classes.

    A class that speaks of the same pixels gives a map that is rightly alike, so it is the mean over
    several that counts. Maps of other classes that are the same everywhere are left out, which a
    remark tells.

    Args:
        subject: A batch with its heatmaps, and how they were made.
        samples: How many other classes; all, if there are fewer. They are as far from the target
            in the list of classes for every image.
        similarity: "spearman", of the pixels' order, or "ssim", of the images the maps make, as
            in the paper.
        seed: Of the classes.

    Returns:
        (B,); NaN where the heatmap is the same everywhere, or more than half of the others are.

    Raises:
        MetricError: The target is no class, or there is no other.

    References:
        Sixt, Granz and Landgraf, When Explanations Lie: Why Many Modified BP Attributions Fail,
        ICML 2020, the random logit test
    """
    targets, logits = subject.passes.pixels.targets, subject.passes.pixels.logits
    if not isinstance(targets, Tensor) or logits.ndim != 2 or logits.shape[1] < 2:
        raise MetricError(
            "random_logit explains other classes too, so the target must be a class, of two or more"
        )
    classes = logits.shape[1]
    generator = torch.Generator().manual_seed(seed)
    offsets = (torch.randperm(classes - 1, generator=generator)[:samples] + 1).tolist()
    subject.refuse(is_constant(subject.importance), "the map is the same everywhere")
    every = torch.arange(len(targets), device=targets.device)
    subject.passes.expect(len(every) * len(offsets))
    similarities, dead = [], []
    for offset in offsets:
        maps = subject.explain(subject.inputs, every, classes=(targets + offset) % classes)
        similarities.append(SIMILAR[similarity](maps, subject.importance))
        dead.append(is_dead(maps, subject.importance))
    return average_alive(
        subject, torch.stack(similarities, 1), torch.stack(dead, 1), "of other classes"
    )
