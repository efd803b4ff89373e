"""ViT-CX: groups of similar feature maps as masks, weighted by their effect."""

import torch
from torch import Tensor

from cam._engine.forward import Probabilities
from cam._engine.method_sources import LayerActivations
from cam._engine.passes import Passes
from cam._methods.base.maps import promote, stretch
from cam._methods.base.method_registry import register_method
from cam._methods.base.noisy_copies import draw_noise
from cam.parameters import SEED, number
from cam.types import Maps, resize


@register_method(
    "vit_cx",
    rules={"distance": number(above=0, most=1), "noise": number(0), "seed": SEED},
    title="ViT-CX",
    family="cam",
    kind="evidence",
    reads=LayerActivations,
    cost="2 forwards, and two for each group of feature maps that are alike: some tens",
    sums=False,
)
def vit_cx(
    layer: LayerActivations,
    passes: Passes,
    *,
    distance: float = 0.1,
    noise: float = 0.1,
    seed: int = 0,
) -> Maps:
    """Which parts, as a transformer's feature maps group them, keep the class probable alone.

    The layer's maps, brought to the picture's size and each to [0, 1], are joined in groups in
    which no two have a cosine distance above the limit; the sum of a group, again in [0, 1], is a
    mask M. With Z Gaussian noise: s = p(x ⊙ M + Z ⊙ (1 - M)) - p(x + Z ⊙ (1 - M)) + p(x), and
    map = mean over the N masks of s M / Σ M, in which places that many masks show count no more
    than others.

    p is the softmax probability of the class, as in the paper, where the target is a class of
    several; a target that is a callable is taken as it is. The paper reads the first norm of the
    last block, for instance ``layers="blocks.11.norm1"`` of timm's ViT-B.

    The noise depends on the seed, the shape of a picture and the kind of device alone, and images
    do not share batches, so a picture has the same map in any batch.

    Args:
        layer: Its activations (B, C, h, w), floats of any dtype.
        passes: Where the masked pictures go.
        distance: Up to which maps are alike, above 0 and at most 1.
        noise: Standard deviation of Z, in units of the normalised picture.
        seed: Of the noise.

    Returns:
        Maps (B, H, W) float32, at the picture's size. The raw one has no meaningful zero, so the
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
    passes.expect(len(inputs) + 2 * sum(map(len, masks)))
    network = passes.module
    if isinstance(pixels.targets, Tensor) and pixels.logits.shape[1] > 1:
        network = Probabilities(network)
    raws = []
    with passes.through(network):
        whole = passes.scores(inputs).double()  # (B,)
        for image, picture in enumerate(promote(inputs)):
            generator = torch.Generator(inputs.device).manual_seed(seed)
            effects = []
            for part in passes.chunks(len(masks[image])):
                mask = masks[image][part, None]  # (n, 1, H, W)
                drawn = noise * draw_noise(picture, len(mask), generator) * (1 - mask)
                alone, beside = (
                    passes.scores(changed.to(inputs.dtype), image).double()
                    for changed in (picture * mask + drawn, picture + drawn)
                )
                effects.append(alone - beside + whole[image])
            shares = masks[image] / masks[image].sum(0).clamp(min=1e-12)
            effect = torch.cat(effects).to(shares.dtype)
            raws.append(torch.tensordot(effect, shares, 1) / len(shares))
    raw = torch.stack(raws).float().where(finite[:, None, None], torch.nan)
    return stretch(raw)


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
