"""ViT-CX: groups of similar feature maps as masks, weighted by their effect."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from cam._engine.forward import Probabilities
from cam._engine.method_sources import LayerActivations
from cam._engine.passes import Passes
from cam._methods.base.draws import Draws, Estimate, Sum, mean_of, tell_errors
from cam._methods.base.maps import fill_up, promote, stretch
from cam._methods.base.method_registry import register_method
from cam._methods.base.noisy_copies import draw_noise
from cam.parameters import SEED, integer, number
from cam.types import Maps, resize


@register_method(
    "vit_cx",
    rules={
        "distance": number(above=0, most=1),
        "noise": number(0),
        "samples": integer(1),
        "seed": SEED,
    },
    title="ViT-CX",
    family="cam",
    kind="evidence",
    reads=LayerActivations,
    volumes=True,
    cost="2 forwards, and four for each group of feature maps that are alike: some tens",
    sums=False,
)
def vit_cx(
    layer: LayerActivations,
    passes: Passes,
    *,
    distance: float = 0.1,
    noise: float = 0.1,
    samples: int = 2,
    seed: int = 0,
) -> Maps:
    """Which parts, as a transformer's feature maps group them, keep the class probable alone.

    The layer's maps, brought to the image's size and each to [0, 1], are joined in groups in
    which no two have a cosine distance above the limit; the sum of a group, again in [0, 1], is a
    mask M. With Z Gaussian noise: s = p(x ⊙ M + Z ⊙ (1 - M)) - p(x + Z ⊙ (1 - M)) + p(x), and
    map = mean over the N masks of s M / Σ M, in which places that many masks show count no more
    than others.

    p is the softmax probability of the class, as in the paper, where the target is a class of
    several; a target that is a callable is taken as it is. The paper reads the first norm of the
    last block, for instance ``layers="blocks.11.norm1"`` of timm's ViT-B.

    The paper draws Z once for each mask. Here s is the mean over several samples, two at least of
    which have an error to tell; without noise there is a single one, and the error is zero.

    The noise depends on the seed, the shape of an image and the kind of device alone, and images
    do not share batches, so an image has the same map in any batch.

    Args:
        layer: Its activations (B, C, h, w), floats of any dtype.
        passes: Where the masked images go.
        distance: Up to which maps are alike, above 0 and at most 1.
        noise: Standard deviation of Z, in units of the normalised image.
        samples: How often Z is drawn for each mask.
        seed: Of the noise.

    Returns:
        Maps (B, H, W) float32, at the image's size. The raw one has no meaningful zero, so the
        other is min-max alone.

    Raises:
        MethodError: A parameter is out of range.

    References:
        Xie, Li, Cao and Zhang, ViT-CX: Causal Explanation of Vision Transformers, IJCAI 2023,
        sections 4.1 to 4.3; as in the authors' program, ViT_CX
    """
    pixels = passes.pixels
    inputs = pixels.inputs
    finite = layer.activations.isfinite().flatten(1).all(1)
    masks = [
        group_maps(maps, inputs.shape[2:], distance) for maps in layer.activations.nan_to_num()
    ]
    samples = samples if noise else 1
    passes.expect(len(inputs) + 2 * samples * sum(map(len, masks)))
    network = passes.module
    if isinstance(pixels.targets, Tensor) and pixels.logits.shape[1] > 1:
        network = Probabilities(network)
    estimates: list[Estimate] = []
    with passes.through(network):
        whole = passes.scores(inputs).double()  # (B,)
        for image, picture in enumerate(promote(inputs)):
            generator = torch.Generator(inputs.device).manual_seed(seed)
            shares = masks[image] / masks[image].sum(0).clamp(min=1e-12)

            def show(groups: Sequence[Sum], shares: Tensor = shares) -> Tensor:
                total: Tensor = torch.tensordot(mean_of(groups).to(shares.dtype), shares, 1)
                return total / len(shares)

            draws = Draws(samples, Sum, show)
            total = torch.zeros(len(shares), dtype=torch.float64, device=inputs.device)
            for sample in range(samples):
                effects = []
                for part in passes.chunks(len(masks[image])):
                    mask = masks[image][part, None]  # (n, 1, H, W)
                    drawn = noise * draw_noise(picture, len(mask), generator) * (1 - mask)
                    alone, beside = (
                        passes.scores(changed.to(inputs.dtype), image).double()
                        for changed in (picture * mask + drawn, picture + drawn)
                    )
                    effects.append(alone - beside + whole[image])
                    total[part] += effects[-1]
                    times = torch.full_like(total, sample)
                    times[: part.stop] += 1
                    so_far = partial(_weigh_masks, masks[image], total, times)
                    passes.tell(partial(_make_maps, estimates, so_far, len(inputs)))
                for group, rows in draws.cut(slice(sample, sample + 1)):
                    group.add(torch.cat(effects), len(rows))
                draws.count = sample + 1
            estimate = draws.estimate()
            if not noise:
                estimate = replace(estimate, error=torch.zeros_like(estimate.raw), agreement=1.0)
            estimates.append(estimate)
    raw = torch.stack([estimate.raw for estimate in estimates]).float()
    finite = finite.view(-1, *[1] * (raw.ndim - 1))
    return tell_errors(stretch(raw.where(finite, torch.nan)), estimates, "samples")


def _weigh_masks(masks: Tensor, totals: Tensor, times: Tensor) -> Tensor:
    """Make the map (H, W) of those masks that were tried, as if there were no others.

    Args:
        masks: (N, H, W).
        totals: (N,) sums of s.
        times: (N,) how often each was tried.
    """
    tried = times > 0
    shares = masks[tried] / masks[tried].sum(0).clamp(min=1e-12)
    means = (totals[tried] / times[tried]).to(shares.dtype)
    map_: Tensor = torch.tensordot(means, shares, 1) / len(shares)
    return map_


def _make_maps(estimates: Sequence[Estimate], so_far: Callable[[], Tensor], count: int) -> Maps:
    raws = [*(estimate.raw for estimate in estimates), so_far()]
    return stretch(fill_up(raws, count).float())


def group_maps(maps: Tensor, size: torch.Size, distance: float) -> Tensor:
    """Join maps that are alike, by complete linkage, into masks.

    Args:
        maps: (C, h, w).
        size: (H, W) of the masks.
        distance: The largest cosine distance of two maps of a group.

    Returns:
        (N, H, W) in [0, 1], float32 at least.
    """
    # Imported here, because it takes a while, and few methods need it.
    from scipy.cluster.hierarchy import fcluster, linkage

    full = _stretch_rows(resize(promote(maps), size).flatten(1))  # (C, H·W)
    if len(full) == 1:
        return full.view(1, *size)
    units = full / full.norm(dim=1, keepdim=True).clamp(min=1e-12)
    apart = (1 - units @ units.T).clamp(min=0).double().cpu()
    first, second = torch.triu_indices(len(full), len(full), 1)
    tree = linkage(apart[first, second].numpy(), "complete")
    labels = torch.from_numpy(fcluster(tree, distance, "distance") - 1).long().to(maps.device)
    sums = full.new_zeros(int(labels.max()) + 1, full.shape[1]).index_add_(0, labels, full)
    return _stretch_rows(sums).view(-1, *size)


def _stretch_rows(rows: Tensor) -> Tensor:
    """Stretch each row to [0, 1]; constant ones become zeros."""
    low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
    return (rows - low) / torch.where(high == low, 1, high - low)
