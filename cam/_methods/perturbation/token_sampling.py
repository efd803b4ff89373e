"""TIS: run a transformer on some patches, by their activations."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cam._engine.forward import Probabilities, run_model
from cam._engine.method_sources import TransformerBlocks
from cam._engine.passes import Passes
from cam._engine.precision import tolerance
from cam._methods.base.draws import Draws, Estimate, Sum, mean_of, tell_errors
from cam._methods.base.maps import promote, stretch
from cam._methods.base.method_registry import register_method
from cam.errors import ModelError
from cam.parameters import SEED, integer, number
from cam.types import Maps

# Of k-means, where groups go on changing.
_MOST_ITERATIONS = 100


@register_method(
    "tis",
    rules={"masks": integer(1), "share": number(above=0, most=1), "seed": SEED},
    title="Transformer Input Sampling",
    family="perturbation",
    kind="evidence",
    reads=TransformerBlocks,
    cost=(
        "3 forwards, the backward through the classifier, and a forward of half of the patches for "
        "each mask: at most 1024"
    ),
)
def tis(
    transformer: TransformerBlocks,
    passes: Passes,
    *,
    masks: int = 1024,
    share: float = 0.5,
    seed: int = 0,
) -> Maps:
    """Which patches are among the tokens when the transformer, run on some of them, is sure.

    The activations of every channel of every block, read as vectors over the patches, are divided
    into groups by k-means; the patches with the largest values in a group's mean, a given share of
    all, are its mask M, 1 there and 0 elsewhere. Behind the position embedding all other patches
    are taken out of the sequence, so nothing has to stand for what is hidden: with p the softmax
    probability of the class from the remaining ones, map = Σ p M / Σ M over the masks.

    Where the target is a callable, it is taken as it is. A class token, registers and the like stay
    in every sequence. Where the network has fewer channels than there are to be masks, each channel
    is a group. A patch that no mask shows gets the mean over all masks, and a remark.

    k-means begins with channels drawn at random by the seed, for each image anew, so an image has
    the same map in any batch. Of two equal values the earlier patch is taken. A group that becomes
    empty keeps its mean. The error is that of masks drawn one by one; those of k-means are spread
    more evenly, so maps of two seeds differ by less. Where each channel is a group it is zero.

    Args:
        transformer: Its blocks' tokens, (B, N, C) each, and the grid of the patches.
        passes: Where the sequences go.
        masks: How many at most.
        share: Of the patches that a mask shows, above 0 and at most 1, rounded down.
        seed: Of the first means.

    Returns:
        Maps (B, rows, columns) of patches, float32. The raw one has no meaningful zero, so the
        other is min-max alone.

    Raises:
        MethodError: A parameter is out of range.
        ModelError: The model has no attention over all of its tokens, its blocks do not return
            tokens, or it computes something else than the same on fewer of them.

    References:
        Englebert et al., Explaining through Transformer Input Sampling, ICCV Workshops 2023; as in
        the authors' program, Transformer_Input_Sampling
    """
    grid, pixels = transformer.attention.grid, passes.pixels
    channels = _read_channels(transformer, passes.module)  # (B, blocks·C, patches)
    finite = channels.isfinite().flatten(1).all(1) & ~pixels.unsound
    size = channels.shape[2]
    length = max(1, int(share * size))
    sampled = _Sampled(passes.module, transformer)
    for image in finite.nonzero()[:1, 0].tolist():
        sampled.picture = pixels.inputs[image : image + 1]
        passes.forwards += sampled.check(pixels.logits[image], length)
    network: nn.Module = sampled
    if isinstance(pixels.targets, Tensor) and pixels.logits.shape[1] > 1:
        network = Probabilities(network)
    sequences = [
        group_channels(values, masks, seed).argsort(dim=1, descending=True, stable=True)[:, :length]
        for values in channels.nan_to_num()
    ]
    passes.expect(sum(map(len, sequences)))

    def show(groups: Sequence[Sum]) -> Tensor:
        members, times, all_ = mean_of(groups)
        return torch.where(times > 0, members / times, all_).view(grid)

    estimates: list[Estimate] = []
    remarks = []
    with passes.through(network):
        for image, patches in enumerate(sequences):  # (K, n)
            sampled.picture = pixels.inputs[image : image + 1]
            draws = Draws(len(patches), Sum, show)
            for part in draws.batches(passes):
                chances = passes.scores(patches[part], image).double()  # (k,)
                mask = chances.new_zeros(len(chances), size).scatter_(1, patches[part], 1)
                for group, rows in draws.cut(part):
                    members, times = chances[rows] @ mask[rows], mask[rows].sum(0)
                    total = torch.stack([members, times, chances[rows].sum().expand(size)])
                    group.add(total, len(rows))
                draws.tell(passes, estimates, lambda raw: stretch(raw.float()))
            estimate = draws.estimate()
            if len(patches) == channels.shape[1]:  # each channel is a mask, so nothing is drawn
                estimate = replace(estimate, error=torch.zeros_like(estimate.raw), agreement=1.0)
            estimates.append(estimate)
            if missing := size - len(set(patches.flatten().tolist())):
                sentence = (
                    f"{missing} of its {size} patches are in none of the {len(patches)} masks, so "
                    "the map says nothing about them; more masks or a larger share show them"
                )
                remarks.append((image, sentence))
    raw = torch.stack([estimate.raw for estimate in estimates]).float()
    maps = stretch(raw.where(finite[:, None, None], torch.nan))
    return tell_errors(replace(maps, remarks=tuple(remarks)), estimates, "masks")


def group_channels(channels: Tensor, groups: int, seed: int) -> Tensor:
    """Divide vectors into groups by k-means, Lloyd's algorithm, and return the groups' means.

    Args:
        channels: (P, n) floats.
        groups: K; with no more vectors than that each is a group.
        seed: Of the vectors that it begins with.

    Returns:
        (min(K, P), n) float64.
    """
    points = channels.double()
    if len(points) <= groups:
        return points
    generator = torch.Generator().manual_seed(seed)
    means = points[torch.randperm(len(points), generator=generator)[:groups].to(points.device)]
    before = torch.empty(0, dtype=torch.long, device=points.device)
    for _ in range(_MOST_ITERATIONS):
        nearest = (means.square().sum(1) - 2 * points @ means.T).argmin(1)  # (P,)
        if torch.equal(before, nearest):
            break
        before = nearest
        # As a product, whose sums have the same order on every run, unlike a GPU's index_add.
        member = functional.one_hot(nearest, groups).T.to(points.dtype)  # (K, P)
        sizes = member.sum(1, keepdim=True)
        means = torch.where(sizes > 0, member @ points / sizes.clamp(min=1), means)
    return means


def _read_channels(transformer: TransformerBlocks, network: nn.Module) -> Tensor:
    """Return (B, blocks·C, patches), what each channel of each block shows where.

    Raises:
        ModelError: A block does not return tokens.
    """
    attention, blocks = transformer.attention, transformer.blocks
    if len(blocks) < len(attention.weights):
        raise ModelError(
            f"{type(network).__name__} has attention in blocks that do not return tokens "
            "(B, N, C), whose activations 'tis' would read; use 'vit_cx' or 'generic_attention'"
        )
    rows, columns = attention.grid
    tokens = [
        block.tokens if block.batch_first else block.tokens.transpose(0, 1) for block in blocks
    ]
    return promote(torch.cat([each.detach()[:, -rows * columns :] for each in tokens], 2)).mT


class _Sampled(nn.Module):
    """A transformer, run on some of a picture's patches.

    Attributes:
        network: It comes back as it was after each pass.
        picture: (1, C, H, W).
    """

    def __init__(self, network: nn.Module, transformer: TransformerBlocks) -> None:
        super().__init__()
        self.network = network
        self.picture = torch.empty(0)
        first = transformer.blocks[0]
        self._block = (network.get_submodule(first.name),)  # in a tuple, so that it is no child
        self._axis = 1 if first.batch_first else 0
        self._length = first.weights.shape[-1]
        rows, columns = transformer.attention.grid
        self._patches = rows * columns

    def forward(self, patches: Tensor) -> Tensor:
        """Map the numbers (K, n) of the patches in each sequence to logits."""
        count = len(patches)
        before = self._length - self._patches  # a class token, registers
        others = torch.arange(before, device=patches.device).expand(count, -1)
        index = torch.cat([others, patches + before], 1)  # (K, tokens)
        index = index if self._axis else index.T

        def take(_module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
            def cut(value: Any) -> Any:
                if not isinstance(value, Tensor) or value.ndim != 3:
                    return value
                if value.shape[self._axis] != self._length or value.shape[1 - self._axis] != count:
                    return value
                return value.gather(self._axis, index[..., None].expand(-1, -1, value.shape[2]))

            changed = {name: cut(value) for name, value in named.items()}
            return tuple(map(cut, inputs)), changed

        with self._block[0].register_forward_pre_hook(take, with_kwargs=True):
            return run_model(self.network, self.picture.expand(count, -1, -1, -1))

    def check(self, logits: Tensor, length: int) -> int:
        """Refuse a network in which patches are more than members of a set.

        In another order they give the same, unless a block uses their positions (relative or
        rotary ones, a convolution), which the remaining patches would then have wrong.

        Args:
            logits: (classes,) of the picture.
            length: How many patches there will be in a sequence.

        Returns:
            How many forward passes that took.

        Raises:
            ModelError: It is such a network, or does not run on fewer patches.
        """
        patches = torch.arange(self._patches, device=logits.device)
        order = torch.cat([patches[1::2].flip(0), patches[::2]])[None]
        most = tolerance(self.network, logits.device) * logits.abs().max()
        reason = "uses each patch's place in its blocks"
        try:
            with torch.no_grad():
                same = bool(((self(order)[0] - logits).abs() <= most).all())
                self(order[:, :length].expand(2, -1))
        except ModelError:
            same, reason = False, "does not run with fewer patches"
        if not same:
            raise ModelError(
                f"{type(self.network).__name__} {reason}, so 'tis' cannot take "
                "patches out of it; use 'vit_cx' or 'rise', which change the image instead"
            )
        return 2
