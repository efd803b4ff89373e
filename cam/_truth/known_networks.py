"""Build networks by hand whose exact attributions are known."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cam.errors import ModelError, nearest

SIDE, CELL = 128, 16
# A template answers above this share of its full answer.
THRESHOLD = 0.625
# The faint stripes that the distractor's network reads, as a share of full contrast.
FAINT = 38 / 127
# How sure the networks are of their classes.
SHARPNESS = 6.0
# Pixels that differ by less are equal: a picture has 255 levels.
EQUAL = 1e-5


class KnownNetwork(nn.Module, ABC):
    """A network of two classes, of which the exact attribution of each pixel is known.

    It is the Shapley value of the pixels as players, from a picture of zeros: what remains when
    completeness, linearity, symmetry and the dummy's zero are asked for at once (Shapley 1953; for
    features of a model Lundberg and Lee, A Unified Approach to Interpreting Model Predictions,
    NeurIPS 2017, theorem 1). All channels of a pixel are hidden together.

    Attributes:
        name: As :func:`cam.load_model` takes it behind "known/".
        labels: Its two classes.
        layer: The name of the layer whose feature maps are explained by default.
    """

    name: str
    labels: tuple[str, str]
    layer: str = "units"

    @abstractmethod
    def exact(self, batch: Tensor, targets: Tensor) -> Tensor:
        """Compute the exact attribution of each pixel to a class's raw score.

        Args:
            batch: (B, 3, H, W) floats as the network takes them.
            targets: (B,) int64, the classes.

        Returns:
            (B, H, W) float32, which adds up to the score less that of a picture of zeros; NaN for
            a picture other than those that the network was built for.
        """


class LinearNetwork(KnownNetwork):
    """A weight for each pixel, for or against: y = Σ_s Σ_k w_ks g_ks, g = two mixtures of colours.

    The exact attribution is each pixel's term.
    """

    name, labels, layer = "linear", ("more than nothing", "less than nothing"), "mixtures"

    def __init__(self, side: int = SIDE) -> None:
        super().__init__()
        self.mixtures = nn.Conv2d(3, 2, 1, bias=False)
        self.flatten = nn.Flatten()
        self.sums = nn.Linear(2 * side * side, 2, bias=False)
        with torch.no_grad():
            self.mixtures.weight.copy_(torch.tensor(_MIXTURES)[:, :, None, None])
            waves = torch.stack([_wave(side, 1.5, 0.5, 0.3), 0.5 * _wave(side, -0.5, 1.0, 1.1)])
            terms = SHARPNESS * 12 / side**2 * waves.flatten()
            self.sums.weight.copy_(torch.stack([terms, -terms]))

    def forward(self, batch: Tensor) -> Tensor:
        """Compute the logits (B, 2) of pictures (B, 3, side, side)."""
        logits: Tensor = self.sums(self.flatten(self.mixtures(batch)))
        return logits

    @torch.no_grad()
    def exact(self, batch: Tensor, targets: Tensor) -> Tensor:
        """Take each pixel's term; see :meth:`KnownNetwork.exact`."""
        mixed = _mix(self.mixtures, batch)  # (B, 2, H, W)
        weights = self.sums.weight.double()[targets].view_as(mixed)
        return (weights * mixed).sum(1).float()


class AdditiveNetwork(KnownNetwork):
    """A curve for each pixel: y = Σ_s Σ_k w_ks relu(±g_s - t_ks), g = the pixel's grey.

    Each pixel has two units with its threshold, one for light and one for dark. The
    exact attribution is what its units say to its grey less what they say to 0.
    """

    name, labels = "additive", ("more than nothing", "less than nothing")

    def __init__(self, side: int = SIDE) -> None:
        super().__init__()
        self.light_and_dark = nn.Conv2d(3, 2, 1, bias=False)
        self.thresholds = PixelThresholds(2, side)
        self.units = nn.ReLU()
        self.flatten = nn.Flatten()
        self.sums = nn.Linear(2 * side * side, 2, bias=False)
        grey = torch.tensor(_MIXTURES[0])
        with torch.no_grad():
            self.light_and_dark.weight.copy_(torch.stack([grey, -grey])[:, :, None, None])
            levels = torch.stack([_wave(side, 0.5, 1.5, 0.2), _wave(side, 1.0, -1.0, 0.9)])
            self.thresholds.levels.copy_(0.25 + 0.2 * levels)
            waves = torch.stack([_wave(side, 1.0, 0.5, 0.7), _wave(side, -1.5, 0.5, 0.1)])
            terms = SHARPNESS * 12 / side**2 * waves.flatten()
            self.sums.weight.copy_(torch.stack([terms, -terms]))

    def forward(self, batch: Tensor) -> Tensor:
        """Compute the logits (B, 2) of pictures (B, 3, side, side)."""
        units = self.units(self.thresholds(self.light_and_dark(batch)))
        logits: Tensor = self.sums(self.flatten(units))
        return logits

    @torch.no_grad()
    def exact(self, batch: Tensor, targets: Tensor) -> Tensor:
        """Take each pixel's curve less its start; see :meth:`KnownNetwork.exact`."""
        levels = self.thresholds.levels.double()
        greys = _mix(self.light_and_dark, batch)  # (B, 2, H, W)
        gained = (greys - levels).clamp(min=0) - (-levels).clamp(min=0)
        weights = self.sums.weight.double()[targets].view_as(gained)
        return (weights * gained).sum(1).float()


class PixelThresholds(nn.Module):
    """A threshold for each unit of each pixel, which is subtracted."""

    def __init__(self, units: int, side: int) -> None:
        super().__init__()
        self.levels = nn.Parameter(torch.zeros(units, side, side))

    def forward(self, maps: Tensor) -> Tensor:
        """Subtract the thresholds from maps (B, units, side, side)."""
        return maps - self.levels


class TemplateNetwork(KnownNetwork):
    """Templates in cells: y = Σ_k w_k Σ_cells relu(T_k ⊙ x - t) / (1 - t).

    A convolution whose kernels lie side by side compares each cell with templates; nothing but a
    template's pattern comes above its threshold, whichever pixels are hidden. All pixels of a
    pattern then bring the same, in every order, so each has the n-th part of what it says.

    Args:
        templates: (K, 3, cell, cell), the answer to a full pattern is 1.
        weights: (2, K), of the templates in the two logits; what a template says that has only
            zeros is not read.
        grid: Cells a side.
    """

    def __init__(self, templates: Tensor, weights: Tensor, grid: int) -> None:
        super().__init__()
        cell = templates.shape[-1]
        self.templates = nn.Conv2d(3, len(templates), cell, stride=cell)
        self.units = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head: nn.Module = nn.Linear(len(templates), 2, bias=False)
        with torch.no_grad():
            self.templates.weight.copy_(templates / (1 - THRESHOLD))
            nn.init.constant_(_bias_of(self.templates), -THRESHOLD / (1 - THRESHOLD))
            self.head.weight.copy_(weights * grid**2)

    def forward(self, batch: Tensor) -> Tensor:
        """Compute the logits (B, 2) of pictures (B, 3, side, side)."""
        pooled = self.flatten(self.pool(self.units(self.templates(batch))))
        logits: Tensor = self.head(pooled)
        return logits

    @torch.no_grad()
    def exact(self, batch: Tensor, targets: Tensor) -> Tensor:
        """Share each pattern's answer among its pixels; see :meth:`KnownNetwork.exact`."""
        table = self.head.weight
        assert isinstance(table, Tensor)
        weights = table.double()[targets]  # (B, K)
        read = table.any(0)  # (K,)
        answers, clear = self._answers(batch, read)
        cells = answers.shape[-2] * answers.shape[-1]
        values = (weights[:, :, None, None] / cells * answers * read[:, None, None]).sum(1)
        return self._spread(values.masked_fill(~clear[:, None, None], torch.nan))

    def _answers(self, batch: Tensor, read: Tensor) -> tuple[Tensor, Tensor]:
        """Compute what each template says to each cell, and where all orders agree on it.

        Args:
            batch: (B, 3, H, W).
            read: (K,) bool, which templates matter.

        Returns:
            (B, K, rows, columns) float64, and (B,) bool: in each cell the template is either
            silent whatever is hidden, or its pixels all bring the same.
        """
        size = self.templates.kernel_size[0]
        count, _, height, width = batch.shape
        cells = batch.double().view(count, 3, height // size, size, width // size, size)
        kernels = self.templates.weight.double()
        terms = torch.einsum("bcyixj,kcij->bkyxij", cells, kernels).flatten(4)  # (B, K, y, x, n)
        bias = _bias_of(self.templates).double()[:, None, None]
        silent = terms.clamp(min=0).sum(4) + bias <= 0
        equal = terms.amax(4) - terms.amin(4) <= EQUAL * terms.abs().amax(4)
        clear = (silent | equal | ~read[:, None, None]).flatten(1).all(1)
        return (terms.sum(4) + bias).clamp(min=0), clear

    def _spread(self, cells: Tensor) -> Tensor:
        """Share the values of cells (B, rows, columns) among their pixels, (B, H, W) float32."""
        size = self.templates.kernel_size[0]
        pixels = cells / size**2
        return pixels.repeat_interleave(size, 1).repeat_interleave(size, 2).float()


class PatchNetwork(TemplateNetwork):
    """One pattern speaks for a class and another one against it: y = a - b.

    a and b are 1 where horizontal and vertical stripes are there in full contrast.
    """

    name, labels = "patch", ("horizontal stripes", "vertical stripes")

    def __init__(self, side: int = SIDE, cell: int = CELL) -> None:
        weights = SHARPNESS * torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
        super().__init__(_both_stripes(cell), weights, side // cell)


class DistractorNetwork(TemplateNetwork):
    """Faint stripes in blue are read; bright yellow is answered by a unit that is not read.

    Attribution has to follow what the score depends on, and not what is striking, in the picture
    or in the feature maps.
    """

    name, labels = "distractor", ("faint stripes", "none")

    def __init__(self, side: int = SIDE, cell: int = CELL) -> None:
        templates = torch.zeros(2, 3, cell, cell)
        templates[0, 2] = stripes(cell) / (FAINT * cell**2)
        templates[1, :2] = 1 / (2 * cell**2)
        weights = SHARPNESS / 2 * torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
        super().__init__(templates, weights, side // cell)


class XorNetwork(TemplateNetwork):
    """One of two patterns, but not both: y = relu(a) + relu(b) - 4 relu(a + b - 3/2).

    A pattern in full contrast has a or b = 1, away from the corners of y. With one pattern its
    pixels share the score. With both there is none to share: what either pattern adds alone it
    takes away beside the other, and each pixel's value is 0.
    """

    name, labels = "xor", ("one pattern", "none or both")

    def __init__(self, side: int = SIDE, cell: int = CELL) -> None:
        grid = side // cell
        super().__init__(_both_stripes(cell), torch.zeros(2, 2), grid)
        hidden, score = nn.Linear(2, 3), nn.Linear(3, 2)
        with torch.no_grad():
            hidden.weight.copy_(grid**2 * torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
            hidden.bias.copy_(torch.tensor([0.0, 0.0, -1.5]))
            y = SHARPNESS / 2 * torch.tensor([1.0, 1.0, -4.0])
            score.weight.copy_(torch.stack([y, -y]))
            score.bias.copy_(SHARPNESS / 4 * torch.tensor([-1.0, 1.0]))
        self.head = nn.Sequential(hidden, nn.ReLU(), score)

    @torch.no_grad()
    def exact(self, batch: Tensor, targets: Tensor) -> Tensor:
        """Share the score among the pixels of the patterns; see :meth:`KnownNetwork.exact`."""
        answers, clear = self._answers(batch, torch.ones(2, dtype=torch.bool, device=batch.device))
        active = answers > 0  # (B, 2, rows, columns)
        presence = answers.sum((2, 3))  # (B, 2)
        # Patterns are exchangeable where there is one of each at most, and both as clear.
        alone = presence.amin(1) == 0
        alike = (presence[:, 0] - presence[:, 1]).abs() <= EQUAL
        clear &= (active.sum((2, 3)) <= 1).all(1) & (alone | alike)
        both = presence.sum(1)
        score = SHARPNESS / 2 * (both - 4 * (both - 1.5).clamp(min=0))
        # Both patterns together leave rounding.
        score = score.where(score.abs() > EQUAL, 0) * torch.where(targets == 0, 1, -1)
        patterns = active.sum((1, 2, 3)).clamp(min=1)
        shares = active.any(1) * (score / patterns)[:, None, None]
        return self._spread(shares.masked_fill(~clear[:, None, None], torch.nan))


NETWORKS: Mapping[str, type[KnownNetwork]] = {
    "linear": LinearNetwork,
    "additive": AdditiveNetwork,
    "patch": PatchNetwork,
    "xor": XorNetwork,
    "distractor": DistractorNetwork,
}


def make_known_network(name: str) -> KnownNetwork:
    """Build a network for pictures of 128 × 128 pixels, in evaluation mode.

    Raises:
        ModelError: There is none of that name.
    """
    if name not in NETWORKS:
        raise ModelError(
            f"there is no network {name!r} of known answers; {nearest(name, NETWORKS)}"
        )
    return NETWORKS[name]().eval()


def stripes(cell: int, vertical: bool = False) -> Tensor:
    """Draw stripes of -1 and 1, (cell, cell); the two directions agree on half of the pixels."""
    along = torch.arange(cell) // max(1, cell // 4) % 2 * 2.0 - 1
    rows = along[:, None].expand(cell, cell)
    return rows.T if vertical else rows


# Grey, and red less blue.
_MIXTURES = ((1 / 3, 1 / 3, 1 / 3), (0.5, 0.0, -0.5))


def _both_stripes(cell: int) -> Tensor:
    """Make two templates of all colours alike, (2, 3, cell, cell)."""
    patterns = torch.stack([stripes(cell), stripes(cell, vertical=True)])
    return (patterns / (3 * cell**2))[:, None].expand(-1, 3, -1, -1)


def _wave(side: int, down: float, across: float, phase: float) -> Tensor:
    """Draw a plane wave of a number of periods down and across, (side, side) in [-1, 1]."""
    at = (torch.arange(side) + 0.5) / side
    return torch.cos(2 * math.pi * (down * at[:, None] + across * at + phase))


def _mix(colours: nn.Conv2d, batch: Tensor) -> Tensor:
    weights = colours.weight.double()[:, :, 0, 0]
    return torch.einsum("kc,bchw->bkhw", weights, batch.double())


def _bias_of(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias
