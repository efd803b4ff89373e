"""Measure whether the model needs what a heatmap shows."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from cam import kernels
from cam._metrics.base.map_ranking import is_constant, pearson, ranks
from cam._metrics.base.metric_registry import register_metric
from cam._metrics.base.subject import Subject
from cam.errors import MetricError
from cam.parameters import colour, integer
from cam.polarity import as_heatmap

Colour = float | Sequence[float] | Tensor | str
_register = partial(register_metric, family="faithfulness", range=(0, 1))
_register_curve = partial(
    _register,
    cost="29 forwards by default",
    rules={"steps": integer(1), "baseline": colour()},
)
_register_masked = partial(
    _register,
    baseline="the picture fades to 0, the mean colour of a normalised one, as A falls to 0",
    cost="2 forwards",
)
# Two runs of the same picture differ by less.
ROUNDING = 1e-6


@_register_curve(
    "deletion",
    title="Deletion",
    definition="(Σ s_k - s_0/2 - s_n/2) / n, s_k: p with the k/n most important pixels hidden",
    direction=-1,
    baseline="hidden pixels show 0, the mean colour of a normalised picture",
)
def deletion(subject: Subject, *, steps: int = 28, baseline: Colour = 0.0) -> Tensor:
    """How soon the class's probability falls when the most important pixels are hidden first.

    The area under the curve of p over the share of hidden pixels, by the trapezoidal rule over n
    equal steps, the whole picture and the empty one included. All channels of a pixel go together;
    pixels of equal importance go by rows and columns. 28 steps of a picture of 224 × 224 are the
    224·8 pixels a step of the authors' program.

    Args:
        subject: A batch with its heatmaps.
        steps: n.
        baseline: What hidden pixels show, after normalisation: a number, one a channel, a tensor
            that broadcasts to the batch, or "blur", the authors' blurred picture.

    Returns:
        (B,); in [0, 1] where p is a probability.

    References:
        Petsiuk, Das and Saenko, RISE: Randomized Input Sampling for Explanation of Black-box
        Models, BMVC 2018, section 4.1 and algorithm 1
    """
    return integrate(trace_curve(subject, steps, baseline, insert=False))


@_register_curve(
    "insertion",
    title="Insertion",
    definition="(Σ s_k - s_0/2 - s_n/2) / n, s_k: p with only the k/n most important pixels sharp",
    direction=1,
    baseline="hidden pixels show the picture blurred by 11 × 11 pixels, σ = 5",
)
def insertion(subject: Subject, *, steps: int = 28, baseline: Colour = "blur") -> Tensor:
    """How soon the class's probability rises when the most important pixels come into view first.

    As :func:`deletion`, from the baseline to the picture.

    Args:
        subject: A batch with its heatmaps.
        steps: n.
        baseline: As for :func:`deletion`.

    Returns:
        (B,); in [0, 1] where p is a probability.

    References:
        Petsiuk, Das and Saenko, RISE: Randomized Input Sampling for Explanation of Black-box
        Models, BMVC 2018, section 4.1 and algorithm 1
    """
    return integrate(trace_curve(subject, steps, baseline, insert=True))


def integrate(curves: Tensor) -> Tensor:
    """Integrate curves of equal steps over [0, 1], (B, n + 1) to (B,)."""
    ends = curves[:, 0] + curves[:, -1]
    return (curves.sum(1) - ends / 2) / (curves.shape[1] - 1)


def trace_curve(subject: Subject, steps: int, baseline: Colour, insert: bool) -> Tensor:
    """Score while pixels are hidden, or come into view, by importance.

    Args:
        subject: A batch with its heatmaps.
        steps: n.
        baseline: As for :func:`deletion`.
        insert: Whether they come into view.

    Returns:
        (B, n + 1), from none of the pixels to all of them.

    Raises:
        MetricError: There are fewer pixels than steps, or the baseline does not fit.
    """
    if steps > subject.pixels:
        raise MetricError(f"the picture has {subject.pixels} pixels, too few for {steps} steps")
    order = ranks(subject.importance)
    hidden = resolve_baseline(subject.inputs, baseline)
    # The step at which nothing is hidden is the whole picture, whose score is known.
    first = int(not insert)
    at = torch.arange(first, steps + first, device=order.device)
    counts = (at * subject.pixels / steps).round().int()

    def write(owner: Tensor, step: Tensor) -> Tensor:
        return kernels.ranked_batch(
            subject.inputs, order, counts[step], hidden, owner=owner, rank_owner=owner,
            insert=insert, channels_last=True,
        )  # fmt: skip

    try:
        scores = subject.try_steps(steps, write)  # (B, n)
    except ValueError as error:
        raise MetricError(f"the baseline does not fit the picture: {error}") from None
    whole_picture = subject.p[:, None]
    return torch.cat([scores, whole_picture] if insert else [whole_picture, scores], 1)


def resolve_baseline(inputs: Tensor, baseline: Colour) -> float | Sequence[float] | Tensor:
    """Return what hidden pixels show, as kernels take it."""
    if isinstance(baseline, str):
        return blur(inputs)
    if isinstance(baseline, Tensor):
        return baseline.to(inputs.device, inputs.dtype)
    return baseline


def blur(inputs: Tensor, taps: int = 11, deviation: float = 5.0) -> Tensor:
    """Blur a batch as RISE's program does for insertion.

    Its kernel is an impulse in taps × taps pixels that scipy's ``gaussian_filter`` spread, with
    what falls over the edge mirrored back; beyond the picture there is 0, its mean colour.

    Args:
        inputs: (B, C, H, W).
        taps: Side of the kernel, odd.
        deviation: σ of the Gaussian, in pixels; it is cut at 4 σ.

    Returns:
        (B, C, H, W).
    """
    radius = int(4 * deviation + 0.5)
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-0.5 * (offsets.double() / deviation) ** 2)
    # … c b a | a b c … | c b a …: a tap and its mirror image are the same modulo two lengths.
    tap = (offsets + taps // 2) % (2 * taps)
    tap = torch.where(tap < taps, tap, 2 * taps - 1 - tap)
    line = torch.zeros(taps, dtype=torch.float64).index_add_(0, tap, weights / weights.sum())
    line = line.to(inputs.device, torch.promote_types(inputs.dtype, torch.float32))
    # As products with a band of weights: convolutions of single channels are slow on a CPU.
    down, along = (_band(line, side) for side in inputs.shape[-2:])
    return (down @ inputs.to(line.dtype) @ along.T).to(inputs.dtype)


def _band(line: Tensor, side: int) -> Tensor:
    """Make the matrix that slides weights over a line of pixels."""
    pixels = torch.arange(side, device=line.device)
    offset = pixels - pixels.view(-1, 1) + len(line) // 2
    inside = (offset >= 0) & (offset < len(line))
    return torch.where(inside, line[offset.clamp(0, len(line) - 1)], 0)


@_register_masked(
    "average_drop",
    title="Average Drop",
    definition="relu(p - p′) / p, p′ = p(x ⊙ A)",
    direction=-1,
)
def average_drop(subject: Subject) -> Tensor:
    """Which share of the class's probability is lost when only what the heatmap shows is seen.

    It depends on how the heatmap is scaled to [0, 1]. grad-cam's metric of this name does not
    divide by p.

    Returns:
        (B,), a share and not per cent; NaN where p is not above 0.

    References:
        Chattopadhyay et al., Grad-CAM++: Generalized Gradient-Based Visual Explanations for Deep
        Convolutional Networks, WACV 2018, section 4.1
    """
    return _drop(subject, _score_masked(subject))


@_register_masked(
    "increase",
    title="Increase in Confidence",
    definition="1 if p′ > p and 0 if not, p′ = p(x ⊙ A)",
    direction=1,
)
def increase(subject: Subject) -> Tensor:
    """Whether the model is surer when it sees only what the heatmap shows.

    By more than 10⁻⁶, which is rounding.

    Returns:
        (B,), 0 or 1; its mean over many images is the paper's number.

    References:
        Chattopadhyay et al., Grad-CAM++: Generalized Gradient-Based Visual Explanations for Deep
        Convolutional Networks, WACV 2018, section 4.1
    """
    alone = _score_masked(subject)
    return (alone > subject.p + ROUNDING).float().where(alone.isfinite(), torch.nan)


@_register_masked(
    "average_gain",
    title="Average Gain",
    definition="relu(p′ - p) / (1 - p), p′ = p(x ⊙ A)",
    direction=1,
)
def average_gain(subject: Subject) -> Tensor:
    """How much surer, of what was left to gain, the model is with only what the heatmap shows.

    Returns:
        (B,); NaN where p is 1 or not a probability.

    References:
        Zhang et al., Opti-CAM: Optimizing saliency maps for interpretability, CVIU 2024, section
        4.1
    """
    if not subject.is_probability:
        every = torch.ones_like(subject.p, dtype=torch.bool)
        subject.refuse(every, "the target's score is not a probability, so nothing limits it")
    subject.refuse(subject.p >= 1, "the probability is 1 already, so nothing can be gained")
    return (_score_masked(subject) - subject.p).clamp(min=0) / (1 - subject.p)


@_register_masked(
    "adcc",
    title="ADCC",
    definition=(
        "3 / (1/coherency + 1/(1 - complexity) + 1/(1 - drop)), coherency = (Pearson(A(x ⊙ A), A) "
        "+ 1)/2, complexity = mean A, drop = relu(p - p(x ⊙ A))/p"
    ),
    direction=1,
    cost="2 forwards, and 1 explanation",
    needs_method=True,
)
def adcc(subject: Subject) -> Tensor:
    """Whether a map is coherent, small and sufficient at once: the harmonic mean of the three.

    Where one of the three is 0 the harmonic mean is 0.

    Returns:
        (B,); NaN where a map is the same everywhere, and so correlates with nothing, or p is not
        above 0.

    References:
        Poppi et al., Revisiting The Evaluation of Class Activation Mapping for Explainability: A
        Novel Metric and Experimental Analysis, CVPR Workshops 2021, equation 6
    """
    drop = _drop(subject, _score_masked(subject))
    owner = torch.arange(len(subject.inputs), device=subject.inputs.device)
    subject.passes.expect(len(owner))
    again = as_heatmap(subject.explain(_mask(subject, owner), owner), subject.kind)
    flat, other = subject.heatmap.flatten(1), again.flatten(1)
    subject.refuse(is_constant(subject.heatmap), "the map is the same everywhere")
    subject.refuse(is_constant(again), "the map of what it shows is the same everywhere")
    subject.refuse(~other.isfinite().all(1), "the map of what it shows is not finite")
    coherency = (pearson(other, flat) + 1) / 2
    parts = torch.stack([coherency, 1 - flat.double().mean(1), 1 - drop.double()])  # (3, B)
    return torch.where((parts <= 0).any(0), 0, 3 / (1 / parts).sum(0))


def _mask(subject: Subject, owner: Tensor) -> Tensor:
    """Multiply the pictures by their heatmaps, x ⊙ A."""
    return kernels.masked_batch(
        subject.inputs, subject.heatmap[owner], owner=owner, channels_last=True
    )


def _score_masked(subject: Subject) -> Tensor:
    """Compute p(x ⊙ A), (B,)."""
    return subject.try_steps(1, lambda owner, _: _mask(subject, owner))[:, 0]


def _drop(subject: Subject, alone: Tensor) -> Tensor:
    subject.refuse(subject.p <= 0, "the target's score is not above 0, so it has no share to lose")
    return (subject.p - alone).clamp(min=0) / subject.p
