"""Infidelity: does a map predict how changes move the score?"""

import torch
from torch import Tensor

from cam._metrics.base.batch_noise import Noise
from cam._metrics.base.metric_registry import register_metric
from cam._metrics.base.subject import Subject
from cam.errors import MetricError
from cam.parameters import SEED, boolean, integer, number, one_of


@register_metric(
    "infidelity",
    title="Infidelity",
    family="faithfulness",
    definition=(
        "E[(β P - (y(x) - y(x - I)))²], y: the explained score, β = 1 or the one that makes it "
        "smallest, P: Σ a over the hidden pixels; for a sensitivity Iᵀa"
    ),
    direction=-1,
    range=(0, float("inf")),
    baseline="the image less I: noise, or a square at 0, the mean colour of a normalised one",
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
    """How far the score's change, when the image is changed, is from what the map predicts.

    I is what is taken from the image: its own values inside a square at a random position, all
    channels together, or normal noise. What a signed map a predicts depends on what its numbers
    are. A contribution contains the image already, as evidence does: a hidden pixel takes its
    whole value away, P = Σ a over the square. A sensitivity is what the score moves by a unit of
    the pixel: P = Iᵀa = Σ_s a_s Σ_c I_cs.

    y is the raw score that was explained, not its probability. Maps of evidence have no unit, so by
    default the prediction is multiplied by β = E[P · Δy] / E[P²], which leaves what no scale can
    repair.

    Args:
        subject: A batch with its maps, and what their numbers are.
        change: "square", or "noise", which asks for a sensitivity.
        samples: How many changes are tried.
        size: The square's side as a share of the image's smaller side.
        noise: The noise's standard deviation, after normalisation.
        normalise: Whether β is the best value; otherwise 1.
        seed: Of positions and noise, which are the same for every image.

    Returns:
        (B,); 0 for the exact contributions of a linear model.

    Raises:
        MetricError: It is not known what the map's numbers are, or they predict nothing for noise.

    References:
        Yeh et al., On the (In)fidelity and Sensitivity of Explanations, NeurIPS 2019, definition
        2.1 and section 2.2; β as in captum 0.9, infidelity(normalize=True), and what contains the
        image as its infidelity_perturb_func_decorator(multiply_by_inputs=True)
    """
    if subject.kind is None:
        raise MetricError(
            "infidelity must know what the map's numbers are; give cam.attribute's result instead "
            "of a tensor, or the method that made it, such as method='integrated_gradients'"
        )
    multiplied = subject.kind != "sensitivity"
    if multiplied and change == "noise":
        raise MetricError(
            f"infidelity's change='noise' needs the sensitivity of each pixel, and this map is "
            f"{'a contribution' if subject.kind == 'contribution' else 'evidence'}, which contains "
            "the image; take change='square'"
        )
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

    def square(step: Tensor) -> Tensor:
        top, left = tops[step], lefts[step]  # (n, 1)
        over_rows = (rows >= top) & (rows < top + side)  # (n, H)
        over_columns = (columns >= left) & (columns < left + side)
        return over_rows[:, :, None] & over_columns[:, None, :]

    def write(owner: Tensor, step: Tensor) -> Tensor:
        if change == "noise":
            removed = draws.take(step) * noise
        else:
            hidden = square(step)
            removed = inputs[owner] * hidden[:, None]
        factor = hidden if multiplied else removed.sum(1, dtype=torch.float32)
        products = factor * subject.importance[owner]
        predictions.append(products.flatten(1).sum(1, dtype=torch.float64))
        return inputs[owner] - removed

    with subject.passes.through(subject.network):
        scores = subject.try_steps(samples, write).double()
    change_of_score = subject.passes.pixels.scores.double()[:, None] - scores  # (B, samples)
    predicted = torch.cat(predictions).view(-1, samples)
    if normalise:
        square_mean = (predicted**2).mean(1, keepdim=True)
        # A map of zeros predicts nothing, whatever it is multiplied by.
        best = (predicted * change_of_score).mean(1, keepdim=True) / square_mean
        predicted = predicted * torch.where(square_mean == 0, 0, best)
    return ((predicted - change_of_score) ** 2).mean(1)
