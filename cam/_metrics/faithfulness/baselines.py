"""What hidden pixels show: a colour, a blur, noise, their neighbours."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from cam import kernels
from cam._metrics.base.batch_noise import Noise
from cam._metrics.base.subject import Subject
from cam._metrics.faithfulness.imputation import Imputer
from cam.errors import MetricError
from cam.parameters import Rule, colour

Baseline = float | Sequence[float] | Tensor | str
# Of a picture's largest value: far less than a network sees.
TOLERANCE = 1e-3
FIXED = ("mean", "black", "blur", "uniform")


def baseline_rule(names: Sequence[str] = (*FIXED, "neighbours")) -> Rule:
    """Require a colour, a picture or one of the names for it."""
    plain = colour()

    def holds(value: object) -> bool:
        return value in names if isinstance(value, str) else plain.holds(value)

    words = plain.words.replace(" or a tensor", ", a tensor")
    return Rule(f"{words}, or one of {', '.join(names)}", holds, mixed=True)


class Filler:
    """Replaces pixels of a batch's pictures.

    Args:
        subject: The batch.
        baseline: What hidden pixels show, after normalisation: a number, one a channel, a tensor
            that broadcasts to the batch, or a name of :func:`baseline_rule`.
        seed: Of "uniform" noise, which is the same for every picture but for its range.
        draws: How many different pictures of noise there are.

    Raises:
        MetricError: Black is asked for, and it is not known how the pictures were normalised.
    """

    def __init__(self, subject: Subject, baseline: Baseline, seed: int = 0, draws: int = 1) -> None:
        self._inputs = subject.inputs
        self._impute: Imputer | None = None
        self._noise: Noise | None = None
        self.fixed: float | Sequence[float] | Tensor | None = None
        """What every hidden pixel shows, as kernels take it; None for neighbours and draws."""
        if isinstance(baseline, Tensor):
            self.fixed = baseline.to(self._inputs.device, self._inputs.dtype)
        elif not isinstance(baseline, str):
            self.fixed = baseline
        elif baseline == "neighbours":
            self._impute = Imputer(self._inputs.shape[1:], self._inputs.dtype, self._inputs.device)
        elif baseline == "mean":
            self.fixed = self._inputs.mean((2, 3), keepdim=True)
        elif baseline == "black":
            self.fixed = black(subject)
        elif baseline == "blur":
            self.fixed = blur(self._inputs)
        else:
            self._noise = Noise(self._inputs, draws, seed)
            first = torch.zeros(len(self._inputs), dtype=torch.long)
            self.fixed = self._draw(slice(None), first) if draws == 1 else None

    def __call__(self, owner: Tensor, hidden: Tensor, draw: Tensor | None = None) -> Tensor:
        """Replace the hidden pixels.

        Args:
            owner: (n,) int64, of which image of the batch.
            hidden: (n, H, W) bool.
            draw: (n,) int64, which picture of noise is taken.

        Returns:
            (n, C, H, W).
        """
        if self._impute is not None:
            # One pixel at least is given, or nothing would say what the others are.
            hidden = hidden.clone()
            hidden[hidden.flatten(1).all(1), -1, -1] = False
            return self._impute(self._inputs[owner], hidden, TOLERANCE).to(self._inputs.dtype)
        if self.fixed is None and draw is not None:
            return self._inputs[owner].where(~hidden[:, None], self._draw(owner, draw))
        with refuse_misfit():
            return kernels.masked_batch(
                self._inputs, ~hidden, self.fixed, owner=owner, channels_last=True
            )

    def _draw(self, owner: Tensor | slice, draw: Tensor) -> Tensor:
        assert self._noise is not None
        low, high = (end[owner, :, None, None] for end in self._inputs.flatten(2).aminmax(dim=2))
        return low + (self._noise.take(draw, uniform=True) + 1) / 2 * (high - low)


@contextmanager
def refuse_misfit() -> Iterator[None]:
    """Refuse a baseline that a kernel cannot broadcast to the pictures.

    Raises:
        MetricError: It does not fit.
    """
    try:
        yield
    except ValueError as error:
        raise MetricError(f"the baseline does not fit the image: {error}") from None


def black(subject: Subject) -> Tensor:
    """Return black after normalisation, (C,).

    Raises:
        MetricError: It is not known how the pictures were normalised.
    """
    inputs = subject.inputs
    if subject.colours is None or len(subject.colours[0]) != inputs.shape[1]:
        raise MetricError(
            "baseline='black' must know how the images were normalised; give a cam.Model, or "
            "black as one number a channel, such as baseline=(-2.12, -2.04, -1.8)"
        )
    mean, deviation = (inputs.new_tensor(values) for values in subject.colours)
    return -mean / deviation


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
