"""ViT-CX against its authors' construction, written again with scikit-learn."""

import pytest
import timm
import torch
from sklearn.cluster import AgglomerativeClustering
from torch import nn

import cam
from cam._methods.cams.vit_cx import group_maps

SIZE = 32
NAME = "vit_cx"


def transformer() -> nn.Module:
    torch.manual_seed(0)
    model = timm.create_model("test_vit", img_size=SIZE, patch_size=8, depth=2, num_classes=5)
    with torch.no_grad():
        model.head.weight.mul_(20)
    return model.eval()


def pictures(count: int = 2) -> torch.Tensor:
    coarse = torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    return nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic")


def tokens(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    outputs = []
    handle = model.blocks[-1].norm1.register_forward_hook(
        lambda module, inputs, output: outputs.append(output.detach())
    )
    with torch.no_grad():
        model(batch)
    handle.remove()
    patches = outputs[0][:, -16:]  # (B, 16, C)
    return patches.transpose(1, 2).reshape(len(batch), -1, 4, 4)


def ranged(rows: torch.Tensor) -> torch.Tensor:
    low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
    return (rows - low) / (high - low)


@pytest.mark.parametrize("distance", [0.1, 0.3])
def test_it_is_the_authors_construction(distance):
    model, batch = transformer(), pictures()
    method = cam.method(NAME, distance=distance, seed=3)
    maps = cam.attribute(model, batch, method, [2, 0], layers="blocks.1.norm1")[NAME]
    for image, target in enumerate([2, 0]):
        picture = batch[image]
        feature = tokens(model, batch)[image]
        full = nn.functional.interpolate(feature[None], SIZE, mode="bilinear")[0]
        mask = ranged(full.flatten(1))
        units = mask / mask.norm(dim=1, keepdim=True)
        clusters = AgglomerativeClustering(
            n_clusters=None, distance_threshold=distance, metric="precomputed", linkage="complete"
        ).fit((1 - units @ units.T).numpy())
        count = clusters.n_clusters_
        assert 1 < count < len(feature)
        grouped = torch.stack(
            [mask[torch.from_numpy(clusters.labels_ == label)].sum(0) for label in range(count)]
        )
        grouped = ranged(grouped).view(count, SIZE, SIZE)
        ours = group_maps(feature, torch.Size((SIZE, SIZE)), distance)
        # The same groups; the noise of each is drawn in our order.
        order = torch.cdist(ours.flatten(1), grouped.flatten(1)).argmin(1)
        assert torch.allclose(ours, grouped[order], atol=1e-5)
        generator = torch.Generator().manual_seed(3)
        several = []
        for _ in range(2):
            total, coverage = torch.zeros(SIZE, SIZE), torch.zeros(SIZE, SIZE)
            for group in grouped[order]:
                noise = 0.1 * torch.randn(picture.shape, generator=generator) * (1 - group)
                with torch.no_grad():
                    alone, beside, whole = model(
                        torch.stack([picture * group + noise, picture + noise, picture])
                    ).softmax(1)[:, target]
                total += (alone - beside + whole) * group
                coverage += group
            several.append(total / coverage / count)
        expected = (several[0] + several[1]) / 2
        assert torch.allclose(maps.raw[image], expected, rtol=1e-3, atol=1e-6)
        # The standard error of a mean of two.
        assert torch.allclose(maps.error[image], (several[0] - several[1]).abs() / 2, atol=1e-5)
        scaled = (expected - expected.min()) / (expected.max() - expected.min())
        assert torch.allclose(maps.heatmap[image], scaled, atol=1e-2)


def test_maps_of_one_pattern_are_one_mask():
    pattern = torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(2))
    maps = torch.cat([pattern, 3 * pattern + 1, 1 - pattern])
    assert len(group_maps(maps, torch.Size((8, 8)), 0.1)) == 2
    assert group_maps(pattern, torch.Size((8, 8)), 0.1).shape == (1, 8, 8)


def test_without_noise_nothing_is_drawn_and_of_one_sample_nothing_is_told():
    model, batch = transformer(), pictures(1)
    exact = cam.attribute(model, batch, cam.method(NAME, noise=0), [2], layers="blocks.1.norm1")
    assert torch.equal(exact[NAME].error, torch.zeros_like(exact[NAME].error))
    assert exact[NAME].notes() == []
    single = cam.attribute(model, batch, cam.method(NAME, samples=1), [2], layers="blocks.1.norm1")
    assert single[NAME].error.isnan().all()
    assert "1 samples are too few" in single[NAME].notes()[0][1]


def test_wrong_parameters_are_named():
    with pytest.raises(cam.MethodError, match=r"^vit_cx's distance must be a number above 0"):
        cam.method(NAME, distance=0)
