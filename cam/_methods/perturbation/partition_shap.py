"""Partition SHAP: Owen values over a hierarchy of superpixels."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from cam import kernels
from cam._engine.method_sources import Pixels
from cam._engine.passes import Passes
from cam._methods.base.method_registry import register_method
from cam._methods.perturbation.region_game import Baseline, RegionGame, find_superpixels
from cam.parameters import colour, integer
from cam.types import Maps

# With more, a tree's passes, four times as many for twice the regions, last for hours.
_MOST = 1024


@dataclass(frozen=True)
class Node:
    """Regions that are taken together, halved until each is alone.

    Attributes:
        regions: Their numbers.
        halves: Two nodes that share them, or none where there is one region.
    """

    regions: tuple[int, ...]
    halves: tuple["Node", ...]

    @cached_property
    def members(self) -> frozenset[int]:
        """The numbers as a set."""
        return frozenset(self.regions)


@register_method(
    "partitionshap",
    rules={"segments": integer(1, _MOST), "baseline": colour()},
    title="Partition SHAP",
    family="perturbation",
    kind="contribution",
    reads=Pixels,
    needs_gradients=False,
    cost="1 forward, and about 4/3 R² for R superpixels: 300 to 700 by default",
)
def partitionshap(
    pixels: Pixels, passes: Passes, *, segments: int = 25, baseline: Baseline = 0.0
) -> Maps:
    """Each superpixel's fair share of the score, when neighbours join as groups: Owen values.

    A tree halves the superpixels along the longer side of where they lie, until each is alone.
    With v(S) the score with S in view, the halves a and b of a node share what it adds to S:
    a gets ½ (v(S ∪ a) - v(S)) + ½ (v(S ∪ a ∪ b) - v(S ∪ b)), and passes that on to its own halves
    in the same way. These are Shapley values over those orders of the superpixels alone in which
    no other comes between two of the same node. Nothing is drawn, so they are exact. The value of a
    superpixel is spread evenly over its pixels, so that a map adds up to what the image scores
    above a blank one.

    Images do not share batches, so an image has the same map in any batch.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype.
        passes: Where the images go.
        segments: About how many superpixels (SLIC, by scikit-image), up to 1024.
        baseline: What a hidden pixel shows, after normalisation: a number or one a channel.

    Returns:
        Maps (B, H, W) float32; the raw one is signed.

    Raises:
        MethodError: A parameter is out of range.

    References:
        Owen, Values of Games with a Priori Unions, 1977; over a hierarchy of regions as
        PartitionExplainer of shap (Lundberg and Lee, A Unified Approach to Interpreting Model
        Predictions, NeurIPS 2017)
    """
    divided = [find_superpixels(picture, segments) for picture in pixels.inputs]
    trees = [halve_regions(regions) for regions in divided]
    sets = [list(dict.fromkeys(list_coalitions(tree))) for tree in trees]
    passes.expect(sum(map(len, sets)))
    raws = []
    for image, (regions, tree) in enumerate(zip(divided, trees, strict=True)):
        coalitions = torch.zeros(
            len(sets[image]), len(tree.regions), dtype=torch.float64, device=regions.device
        )
        for row, members in enumerate(sets[image]):
            coalitions[row, list(members)] = 1
        game = RegionGame(passes, image, regions, baseline)
        scores = dict(zip(sets[image], game.play(coalitions).tolist(), strict=True))
        values = [0.0] * len(tree.regions)
        _share(tree, {frozenset(): 1.0}, scores, values)
        raws.append(game.spread(coalitions.new_tensor(values)))
    raw = torch.stack(raws).float()
    return Maps(raw=raw, normalised=kernels.normalise(raw))


def halve_regions(regions: Tensor) -> Node:
    """Build the tree over regions (H, W) int64, by the middles of the regions."""
    areas = regions.flatten().bincount().double()  # (R,)
    axes = torch.meshgrid(
        *(torch.arange(side, device=regions.device).double() for side in regions.shape),
        indexing="ij",
    )
    middles = torch.stack(
        [regions.flatten().bincount(weights=axis.flatten()) / areas for axis in axes], 1
    ).cpu()  # (R, 2)

    def halve(numbers: list[int]) -> Node:
        if len(numbers) == 1:
            return Node(tuple(numbers), ())
        at = middles[numbers]
        longer = int((at.amax(0) - at.amin(0)).argmax())
        numbers = sorted(numbers, key=lambda number: (float(middles[number, longer]), number))
        half = len(numbers) // 2
        return Node(tuple(numbers), (halve(numbers[:half]), halve(numbers[half:])))

    return halve(list(range(len(areas))))


def list_coalitions(
    tree: Node, contexts: tuple[frozenset[int], ...] = (frozenset(),)
) -> list[frozenset[int]]:
    """List the sets whose scores the values need, some of them more than once."""
    sets = [joined for context in contexts for joined in (context, context | tree.members)]
    for half, other in zip(tree.halves, tree.halves[::-1], strict=True):
        sets += list_coalitions(
            half, (*contexts, *(context | other.members for context in contexts))
        )
    return sets


def _share(
    node: Node,
    contexts: dict[frozenset[int], float],
    scores: dict[frozenset[int], float],
    values: list[float],
) -> None:
    """Write the values of a node's regions, given the sets it may join and their chances."""
    if not node.halves:
        values[node.regions[0]] = sum(
            chance * (scores[context | node.members] - scores[context])
            for context, chance in contexts.items()
        )
    for half, other in zip(node.halves, node.halves[::-1], strict=True):
        joined = {context: chance / 2 for context, chance in contexts.items()}
        for context, chance in contexts.items():
            joined[context | other.members] = chance / 2
        _share(half, joined, scores, values)
