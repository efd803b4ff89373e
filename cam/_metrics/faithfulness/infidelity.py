"""Infidelity: does a heatmap predict how changes move the score?"""

import torch
from torch import Tensor

from cam._metrics.base.batch_noise import Noise
from cam._metrics.base.metric_registry import register_metric
from cam._metrics.base.subject import Subject
from cam.parameters import SEED, boolean, integer, number, one_of


@register_metric(
    "infidelity",
    title="Infidelity",
    family="faithfulness",
    definition="E[(β Iᵀφ - (p(x) - p(x - I)))²], φ = A, β = 1 or the one that makes it smallest",
    direction=-1,
    range=(0, float("inf")),
    baseline="the picture less I: noise, or a square at 0, the mean colour of a normalised one",
    cost="65 forwards by default",
    rules={
        "change": one_of(("square", "noise")),
        "samples": integer(1),
        "size": number(above=0, most=1),
        "noise": number(above=0),
        "normalise": boolean(),
        "seed": SEED,
    },
)
def infidelity(
    subject: Subject,
    *,
    change: str = "square",
    samples: int = 64,
    size: float = 0.25,
    noise: float = 0.2,
    normalise: bool = True,
    seed: int = 0,
) -> Tensor:
    """How far the score's change, when the picture is changed, is from what the heatmap predicts.

    I is what is taken from the picture: normal noise, or its own values inside a square at a random
    place, all channels together. The heatmap holds for every channel, so Iᵀφ = Σ_s A_s Σ_c I_cs.

    A heatmap in [0, 1] has no scale that p could be compared with, so by default it is multiplied
    with β = E[Iᵀφ · Δp] / E[(Iᵀφ)²], which leaves what no scale can repair.

    Args:
        subject: A batch with its heatmaps.
        change: "square" or "noise".
        samples: How many changes are tried.
        size: The square's side as a share of the picture's smaller one.
        noise: The noise's standard deviation, after normalisation.
        normalise: Whether β is the best one; otherwise 1.
        seed: Of places and noise, which are the same for every picture.

    Returns:
        (B,).

    References:
        Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019, definition
        2.1 and section 2.2; β as in captum 0.9, infidelity(normalize=True)
    """
    inputs = subject.inputs
    height, width = inputs.shape[2:]
    draws = Noise(inputs, samples, seed)
    generator = torch.Generator().manual_seed(seed)
    side = max(1, round(size * min(height, width)))
    tops, lefts = (
        torch.randint(length - side + 1, (samples, 1), generator=generator).to(inputs.device)
        for length in (height, width)
    )
    rows = torch.arange(height, device=inputs.device)
    columns = torch.arange(width, device=inputs.device)
    predictions = []

    def square(owner: Tensor, step: Tensor) -> Tensor:
        top, left = tops[step], lefts[step]  # (n, 1)
        over_rows = (rows >= top) & (rows < top + side)  # (n, H)
        over_columns = (columns >= left) & (columns < left + side)
        return inputs[owner] * (over_rows[:, :, None] & over_columns[:, None, :])[:, None]

    def normal(owner: Tensor, step: Tensor) -> Tensor:
        return draws.take(step) * noise

    def write(owner: Tensor, step: Tensor) -> Tensor:
        taken = (square if change == "square" else normal)(owner, step)
        products = taken.sum(1, dtype=torch.float32) * subject.heatmap[owner]
        predictions.append(products.flatten(1).sum(1, dtype=torch.float64))
        return inputs[owner] - taken

    scores = subject.try_steps(samples, write).double()
    change_of_score = subject.p.double()[:, None] - scores  # (B, samples)
    predicted = torch.cat(predictions).view(-1, samples)
    if normalise:
        square_mean = (predicted**2).mean(1, keepdim=True)
        # A map of zeros predicts nothing, whatever it is multiplied with.
        best = (predicted * change_of_score).mean(1, keepdim=True) / square_mean
        predicted = predicted * torch.where(square_mean == 0, 0, best)
    return ((predicted - change_of_score) ** 2).mean(1)
