"""TIS against its authors' construction written again, and by hand."""

import pytest
import timm
import torch
from sklearn.cluster import KMeans
from torch import nn

import cam
from cam._methods.perturbation.token_sampling import group_channels

SIZE = 48
NAME = "tis"


def transformer(name: str = "test_vit", **changes: object) -> nn.Module:
    torch.manual_seed(0)
    options = {"img_size": SIZE, "patch_size": 8, "depth": 2, "num_classes": 5} | changes
    model = timm.create_model(name, **options)
    with torch.no_grad():
        model.head.weight.normal_(std=0.5)
    return model.eval()


def pictures(count: int = 2) -> torch.Tensor:
    coarse = torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    return nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic")


def group(channels: torch.Tensor, groups: int, seed: int) -> torch.Tensor:
    """Group by scikit-learn, which begins with the same channels."""
    generator = torch.Generator().manual_seed(seed)
    first = channels[torch.randperm(len(channels), generator=generator)[:groups]].double()
    fit = KMeans(groups, init=first.numpy(), n_init=1, tol=0).fit(channels.double().numpy())
    return torch.from_numpy(fit.cluster_centers_)


@pytest.mark.parametrize("share", [0.5, 0.3])
@pytest.mark.parametrize("name", ["test_vit", "deit_tiny_distilled_patch16_224"])
def test_it_is_the_authors_construction(name, share):
    model, batch = transformer(name), pictures()
    maps = cam.attribute(model, batch, cam.method(NAME, masks=30, share=share, seed=3), [2, 0])
    for image, target in enumerate([2, 0]):
        total, times = torch.zeros(36), torch.zeros(36)
        with torch.no_grad():
            tokens = model._pos_embed(model.patch_embed(batch[image : image + 1]))
            extra = tokens.shape[1] - 36
            after, channels = model.norm_pre(tokens), []
            for block in model.blocks:
                after = block(after)
                channels.append(after[0, extra:].T)
            chances = []
            for mean in group(torch.cat(channels), 30, 3):
                patches = mean.topk(int(36 * share)).indices
                some = torch.cat([tokens[:, :extra], tokens[:, extra + patches]], 1)
                logits = model.forward_head(model.norm(model.blocks(model.norm_pre(some))))
                chances.append(logits.softmax(1)[0, target])
                total[patches] += chances[-1]
                times[patches] += 1
        average = torch.stack(chances).mean()
        expected = torch.where(times > 0, total / times, average).view(6, 6)
        assert torch.allclose(maps[NAME].raw[image], expected, rtol=1e-4, atol=1e-7)


def test_by_hand():
    """Channels of four patches whose masks and scores can be read off them."""
    model = timm.models.VisionTransformer(
        img_size=4, patch_size=2, embed_dim=4, depth=1, num_heads=1, num_classes=1,
        class_token=False, global_pool="avg", fc_norm=False, norm_layer=nn.Identity,
    ).eval()  # fmt: skip
    values = torch.tensor(  # (channels, patches)
        [[3.0, 2, 1, 0], [3, 0, 2, 1], [0, 1, 2, 3], [0, 3, 0, 2]]
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        # A block of zeros adds nothing; three channels are the first pixel's colours.
        for channel in range(3):
            model.patch_embed.proj.weight[channel, channel, 0, 0] = 1
        model.patch_embed.proj.weight[3, 0, 0, 1] = 1
        model.head.weight[0, 0] = 1
    batch = torch.zeros(1, 3, 4, 4)
    batch[0, :, ::2, ::2] = values[:3].view(3, 2, 2)
    batch[0, 0, ::2, 1::2] = values[3].view(2, 2)
    maps = cam.attribute(model, batch, NAME, targets=[0])[NAME]
    # Masks {0, 1}, {0, 2}, {2, 3} and {1, 3}; the score of each is the mean of its first channel.
    scores = {(0, 1): 2.5, (0, 2): 2.0, (2, 3): 0.5, (1, 3): 1.0}
    expected = [
        sum(score for mask, score in scores.items() if patch in mask) / 2 for patch in range(4)
    ]
    assert torch.allclose(maps.raw.flatten(), torch.tensor(expected))
    assert torch.equal(maps.error, torch.zeros_like(maps.error))
    assert maps.notes() == []


def test_groups_are_those_of_scikit_learn():
    channels = torch.randn(400, 9, generator=torch.Generator().manual_seed(0))
    ours = group_channels(channels, 20, 5)
    assert torch.allclose(ours, group(channels, 20, 5))
    assert torch.equal(group_channels(channels[:20], 20, 5), channels[:20].double())
    twins = torch.cat([channels[:3]] * 4)
    assert group_channels(twins, 8, 0).isfinite().all()


def test_seeds_differ_by_less_than_the_error_and_by_more_than_half():
    model, batch = transformer(), pictures(1)
    several = [
        cam.attribute(model, batch, cam.method(NAME, masks=60, seed=seed), [1])[NAME]
        for seed in range(24)
    ]
    apart = torch.stack([maps.raw for maps in several]).var(0).mean().sqrt()
    error = torch.stack([maps.error for maps in several]).square().mean().sqrt()
    assert 0.5 < apart / error < 1


def test_patches_in_no_mask_are_told():
    maps = cam.attribute(transformer(), pictures(1), cam.method(NAME, masks=2, share=0.1), [1])
    (_, sentence), *_ = maps[NAME].notes()
    count = int(sentence.split()[0])
    assert 30 <= count < 36
    assert sentence.startswith(f"{count} of its 36 patches are in none of the 2 masks")
    values = maps[NAME].raw.flatten().unique(return_counts=True)[1]
    assert values.max() == count


class Mixing(nn.Module):
    """A block that also convolves along the sequence, so that a patch's place matters."""

    def __init__(self, block: nn.Module, width: int) -> None:
        super().__init__()
        self.block, self.convolution = block, nn.Conv1d(width, width, 3, padding=1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = tokens + self.convolution(tokens.mT).mT
        return self.block(mixed)


def test_networks_whose_patches_are_no_set_are_refused():
    model = transformer()
    model.blocks[1] = Mixing(model.blocks[1], model.embed_dim)
    with pytest.raises(cam.ModelError, match=r"uses each patch's place in its blocks, so"):
        cam.attribute(model, pictures(), NAME, [1, 1])
    rotary = timm.create_model("eva02_tiny_patch14_224", img_size=56, depth=2, num_classes=5)
    batch = torch.randn(1, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    with pytest.raises(cam.ModelError, match=r"^Eva does not run with fewer patches, so 'tis' can"):
        cam.attribute(rotary.eval(), batch, NAME, [1])
    convolutional = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(cam.ModelError, match="has no self-attention"):
        cam.attribute(convolutional.eval(), pictures(), NAME, [1, 1])


def test_a_picture_that_is_no_picture_leaves_the_others_alone():
    model, batch = transformer(), pictures()
    alone = cam.attribute(model, batch[1:], cam.method(NAME, masks=20), [1])[NAME]
    batch[0] = torch.nan
    with pytest.warns(cam.CamWarning, match="the map of image 0 is NaN"):
        maps = cam.attribute(model, batch, cam.method(NAME, masks=20), [1, 1])[NAME]
    assert maps.raw[0].isnan().all()
    assert torch.allclose(maps.raw[1:], alone.raw, atol=1e-6)
    model.blocks[1] = Mixing(model.blocks[1], model.embed_dim)
    with pytest.raises(cam.ModelError, match="place in its blocks"):
        cam.attribute(model, batch, NAME, [1, 1])


def test_wrong_parameters_are_named():
    with pytest.raises(cam.MethodError, match=r"^tis' share must be a number above 0"):
        cam.method(NAME, share=0)
