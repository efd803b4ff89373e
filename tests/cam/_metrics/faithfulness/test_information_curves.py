"""Information curves by hand, and against their authors' program."""

import importlib
import io
import itertools
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import cam
from cam._metrics.faithfulness.imputation import impute
from tests.support.networks import Weighted


def textured(seed: int) -> torch.Tensor:
    """A picture (1, 3, 24, 24) in [0, 1], an object in noise."""
    picture = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(seed)) * 0.3
    picture[:, :, 6:14, 6:14] += 0.7
    return picture


def object_network() -> Weighted:
    weights = torch.zeros(24, 24)
    weights[6:14, 6:14] = 1 / 64
    return Weighted(weights)


def size_of(pixels: np.ndarray) -> int:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="webp", lossless=True, method=0)
    return len(file.getvalue())


@pytest.mark.parametrize("name", ["sic", "aic"])
def test_information_curves_by_their_definition(name):
    """Each blurred picture weighed and tried alone, and the area taken by hand."""
    picture, batches = textured(0), []
    network = object_network()
    heat = torch.rand(1, 24, 24, generator=torch.Generator().manual_seed(1))
    heat[:, 6:14, 6:14] += 0.4

    class Keeping(nn.Module):
        def forward(self, x):
            batches.append(x.clone())
            return network(x)

    model = cam.Model(Keeping(), transform=Plain())
    options = {"shares": (0.05, 0.1, 0.2, 0.5)} | ({"sure": 0.5} if name == "sic" else {})
    scores = cam.metric(name, **options).measure(model, picture, heat, 0, batch_size=64)
    assert scores.reasons == (None,)
    blurred = batches[1]
    sharp = (blurred == picture).all(1).flatten(1).sum(1).tolist()
    assert sharp[0] < 0.02 * 576 and sharp == sorted(sharp) and sharp[4] >= 288
    corners = (slice(None), slice(None), [0, 0, -1, -1], [0, -1, 0, -1])
    assert torch.equal(blurred[corners], picture[corners].expand(5, -1, -1))

    def both(sharpened) -> tuple[int, float]:
        p = network(sharpened[None]).softmax(1)[0, 0].item()
        pixels = (sharpened.clamp(0, 1) * 255).round().byte().movedim(0, -1).numpy()
        return size_of(pixels), p if name == "sic" else float(p > 0.5)

    with torch.no_grad():
        least, *between, full = [both(sharpened) for sharpened in [*blurred, picture[0]]]
    points, highest = [(0.0, 0.0)], 0.0
    for size, p in between:
        x = (size - least[0]) / (full[0] - least[0])
        y = (p - least[1]) / (full[1] - least[1])
        highest = max(highest, min(max(y, 0), 1))
        points.append((min(max(x, 0), 1), highest))
    points = [*sorted(points, key=lambda point: point[0]), (1.0, 1.0)]
    area = sum((d - a) * (b + e) / 2 for (a, b), (d, e) in itertools.pairwise(points))
    assert 0.2 < area < 1
    assert scores.values.item() == pytest.approx(area, abs=1e-4)


def test_a_curve_whose_sizes_do_not_grow_is_put_in_order(monkeypatch):
    """10 bytes when blurred, 80 and then 40 in between, 100 whole: at 7/9, and then at 1/3."""
    information = importlib.import_module("cam._metrics.faithfulness.information_curves")
    sizes = iter([[10, 80, 40], [100]])
    monkeypatch.setattr(information, "_compressed_sizes", lambda *_: next(sizes))
    batches, network, picture = [], object_network(), textured(6)

    class Keeping(nn.Module):
        def forward(self, x):
            batches.append(x.clone())
            return network(x)

    heat = torch.rand(1, 24, 24, generator=torch.Generator().manual_seed(7))
    actual = cam.metric("sic", shares=(0.2, 0.6), sure=0.5)(Keeping(), picture, heat, 0)
    with torch.no_grad():
        nothing, first, second = network(batches[1]).softmax(1)[:, 0].tolist()
        whole = network(picture).softmax(1)[0, 0].item()
    first, second = ((p - nothing) / (whole - nothing) for p in (first, second))
    assert 0 < first < second < 1
    area = second / 2 / 3 + (second + first) / 2 * 4 / 9 + (first + 1) / 2 * 2 / 9
    assert actual.item() == pytest.approx(area, abs=1e-4)


class Plain:
    """A transform without normalisation."""

    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def __call__(self, image):
        raise AssertionError("nothing is transformed here")


def test_sic_is_its_authors_but_for_how_pictures_are_filled_in_and_packed(monkeypatch):
    """PAIR saliency's own program, given this one's imputation and encoder."""
    from saliency.metrics import pic

    picture, network = textured(4), object_network()
    heat = torch.rand(1, 24, 24, generator=torch.Generator().manual_seed(5))
    heat[:, 6:14, 6:14] += 0.3
    pixels = (picture[0] * 255).round().byte().movedim(0, -1).numpy()
    picture = torch.from_numpy(pixels).movedim(-1, 0)[None].float() / 255
    # The pixels that are sharp from the beginning, as they reach the model.
    batches = []

    class Keeping(nn.Module):
        def forward(self, x):
            batches.append(x.clone())
            return network(x)

    # Shares of which either way of counting makes the same number of pixels.
    shares = tuple((count - 0.3) / 575 for count in (20, 50, 90, 200, 400))
    model = cam.Model(Keeping(), transform=Plain())
    actual = cam.metric("sic", shares=shares, sure=0.5)(model, picture, heat, 0, batch_size=64)

    def filled(full_img, pixel_mask, method="linear"):
        image = torch.from_numpy(full_img).movedim(-1, 0)[None].float()
        return impute(image, torch.from_numpy(~pixel_mask)[None], 1e-3)[0].round().byte().movedim(
            0, -1
        ).numpy()  # fmt: skip

    def probability(images):
        with torch.no_grad():
            logits = network(torch.from_numpy(images).movedim(-1, 1).float() / 255)
        return logits.softmax(1)[:, 0].numpy()

    monkeypatch.setattr(np, "trapz", np.trapezoid, raising=False)
    monkeypatch.setattr(pic, "create_blurred_image", filled)
    monkeypatch.setattr(pic, "estimate_image_entropy", size_of)
    start = (batches[1][0] == picture[0]).all(0).numpy()
    expected = pic.compute_pic_metric(
        pixels, heat[0].numpy(), start, probability, shares, min_pred_value=0.5
    )
    assert 0.4 < expected.auc < 0.95
    # They round to 8 bits what the model sees, and take a thousand points of the curve.
    assert actual.item() == pytest.approx(expected.auc, abs=0.01)


@pytest.mark.parametrize("name", ["sic", "aic"])
def test_the_object_first_is_better_than_last(name):
    picture = textured(2).expand(2, -1, -1, -1)
    mask = torch.zeros(24, 24)
    mask[6:14, 6:14] = 1
    rough = 0.1 * torch.rand(24, 24, generator=torch.Generator().manual_seed(0))
    maps = torch.stack([mask + rough, rough - mask])
    options = {"sure": 0.5} if name == "sic" else {}
    good, bad = cam.metric(name, **options)(object_network(), picture, maps, 0).tolist()
    assert good > 0.7 and bad < 0.3


def test_skipped_pictures_say_why():
    picture = textured(3)
    maps = torch.rand(1, 24, 24)
    network = object_network()

    def reasons(name, picture, target, **options) -> tuple:
        return cam.metric(name, **options).measure(network, picture, maps, target).reasons

    assert reasons("sic", picture, 0, sure=0.99) == (
        "the model's score of the image is below 0.99",
    )
    assert reasons("sic", picture, 1, sure=0)[0] == "the model scores the blurred image as high"
    flat = torch.full((1, 3, 24, 24), 0.9)
    assert reasons("sic", flat, 0)[0] == "the blurred image is not smaller when compressed"
    assert reasons("aic", picture, 1) == ("the target is not the model's top class",)
    assert math.isnan(cam.metric("aic")(network, picture, maps, 1).item())
