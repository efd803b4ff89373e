"""Draw part of the picture anew: F-Fidelity and sufficiency."""

import torch
from torch import Tensor

from cam._metrics.base.map_ranking import ranks
from cam._metrics.base.metric_registry import register_metric
from cam._metrics.base.subject import Subject
from cam._metrics.faithfulness.baselines import Baseline, Filler, baseline_rule
from cam._metrics.faithfulness.information_curves import Decision, require_top_class
from cam.parameters import SEED, integer, number


@register_metric(
    "f_fidelity",
    title="F-Fidelity, of the network as it is",
    family="faithfulness",
    definition=(
        "Fid⁺ - Fid⁻, p less the mean p with random pixels hidden: of the share s of the most "
        "important (Fid⁺), of the others (Fid⁻), each with chance α, or less, so that no more than "
        "β of the image is hidden"
    ),
    direction=1,
    range=(-1, 1),
    baseline="hidden pixels show 0, the mean colour of a normalised image; chance scores 0",
    cost="101 forwards by default",
    rules={
        "share": number(above=0, most=0.99),
        "alpha": number(above=0, most=1),
        "beta": number(above=0, most=1),
        "samples": integer(1),
        "baseline": baseline_rule(),
        "seed": SEED,
    },
)
def f_fidelity(
    subject: Subject,
    *,
    share: float = 0.2,
    alpha: float = 0.5,
    beta: float = 0.1,
    samples: int = 50,
    baseline: Baseline = 0.0,
    seed: int = 0,
) -> Tensor:
    """How much more random holes in the important pixels cost than random holes in the others.

    Few pixels are hidden, and no shape tells which, so that the images are hardly unlike those
    that the network learned. The paper goes one step further: it measures a copy of the network
    that was trained on, with β of the pixels of its images hidden at random. Nothing is trained
    here. Given that copy as the model, this is the paper's F-Fidelity with probabilities in the
    place of hits; given the network itself it is the authors' earlier robust fidelity, with their
    limit β.

    By default both parts lose β of the image, so that a map of chance scores 0.

    Args:
        subject: A batch with its heatmaps.
        share: s, of the pixels that count as important.
        alpha: α, the chance with which a pixel of a part is hidden.
        beta: β, the largest share of the image that is hidden on average.
        samples: How many random holes each part gets, the same for every image.
        baseline: As for :func:`.pixel_removal.deletion`.
        seed: Of the holes.

    Returns:
        (B,).

    References:
        Zheng et al., F-Fidelity: A Robust Framework for Faithfulness Evaluation of Explainable AI,
        ICLR 2025, section 4; Zheng et al., Towards Robust Fidelity for Evaluating Explainability of
        Graph Neural Networks, ICLR 2024
    """
    important = ranks(subject.importance) < round(share * subject.pixels)  # (B, H, W)
    fill = Filler(subject, baseline, seed)
    generator = torch.Generator().manual_seed(seed)
    seeds = torch.randint(2**62, (samples,), generator=generator).tolist()
    chances = torch.tensor([min(alpha, beta / share), min(alpha, beta / (1 - share))])

    def write(owner: Tensor, step: Tensor) -> Tensor:
        shape = subject.importance.shape[1:]
        draws = {
            number: torch.rand(shape, generator=generator.manual_seed(seeds[number]))
            for number in set((step % samples).tolist())
        }
        draw = torch.stack([draws[number] for number in (step % samples).tolist()])
        part = step // samples  # 0: of the important pixels
        hit = (draw < chances[part.cpu(), None, None]).to(owner.device)
        return fill(owner, hit & (important[owner] == (part == 0)[:, None, None]))

    without_important, without_others = subject.try_steps(2 * samples, write).chunk(2, dim=1)
    return without_others.mean(1) - without_important.mean(1)


@register_metric(
    "sufficiency",
    title="Sufficiency",
    family="faithfulness",
    definition=(
        "the chance that x′ has the class of x, x′: the share s of the most important pixels of x, "
        "and noise of each channel's range"
    ),
    direction=1,
    range=(0, 1),
    baseline="all other pixels are drawn anew, each from its channel's range",
    cost="21 forwards by default",
    rules={"share": number(above=0, most=1), "samples": integer(1), "seed": SEED},
)
def sufficiency(
    subject: Subject, *, share: float = 0.2, samples: int = 20, seed: int = 0
) -> Tensor:
    """How often the class stays when only the most important pixels do.

    The paper's sufficiency of an explanation is the chance that what it applies to gets the same
    class. Here "these pixels look so" is the explanation, and it applies to images that agree
    there. Quantus 0.6, and so LATEC, applies a map to images of the batch whose maps are near to
    it: a property of the batch, in which an image's value depends on its neighbours.

    Args:
        subject: A batch with its heatmaps.
        share: s, of the pixels that stay.
        samples: How often the others are drawn, the same for every image but for their range.
        seed: Of the draws.

    Returns:
        (B,); NaN where the target is not the model's top class.

    Raises:
        MetricError: The target is no class.

    References:
        Dasgupta, Frost and Moshkovitz, Framework for Evaluating Faithfulness of Local Explanations,
        ICML 2022, definition of local sufficiency
    """
    require_top_class(subject)
    order = ranks(subject.importance)
    stay = max(1, round(share * subject.pixels))
    fill = Filler(subject, "uniform", seed, samples)
    with subject.passes.through(Decision(subject.network)):
        scores = subject.try_steps(
            samples, lambda owner, step: fill(owner, order[owner] >= stay, step)
        )
    return scores.mean(1)
