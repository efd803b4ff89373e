"""Extremal perturbation on networks with known evidence, and its masks."""

import pytest
import torch
from torch import nn

import cam
from cam._methods.gradients.path_gradients import blur
from cam._methods.perturbation.extremal_perturbation import _Masks

NAME = "extremal_perturbation"
HEIGHT, WIDTH = 84, 112
SINGLE = [(20, 48, 30, 72)]
TWO = [(8, 36, 8, 36), (50, 78, 70, 98)]
# Fine enough that a blur leaves nothing of it.
BOARD = ((torch.arange(HEIGHT)[:, None] // 2 + torch.arange(WIDTH) // 2) % 2 * 2 - 1).float()


class Reads(nn.Module):
    """Five times how much of a chequerboard is in its rectangles, in the one that has least."""

    def __init__(self, boxes: list[tuple[int, int, int, int]]) -> None:
        super().__init__()
        self.boxes = boxes
        self.factor = nn.Parameter(torch.tensor(5.0))
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        actual = [
            (x[:, 0, a:b, c:d] * BOARD[a:b, c:d].to(x)).mean((1, 2)) for a, b, c, d in self.boxes
        ]
        score = self.factor * torch.stack(actual, 1).amin(1)
        return torch.stack([score, -score], 1)


def truth(boxes: list[tuple[int, int, int, int]]) -> torch.Tensor:
    inside = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    for top, bottom, left, right in boxes:
        inside[top:bottom, left:right] = True
    return inside


def pictures(count: int = 2) -> torch.Tensor:
    made = 0.2 * torch.randn(count, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(5))
    made[:, 0] += BOARD
    return made


def sought(areas: object, **options: object) -> cam.Method:
    return cam.method(NAME, areas=areas, cell=4, smoothness=8, **options)


@pytest.mark.parametrize("boxes", [SINGLE, TWO], ids=["one rectangle", "two that are both needed"])
def test_the_mask_of_the_evidences_area_is_the_evidence(boxes):
    network, batch, inside = Reads(boxes), pictures(), truth(boxes)
    area = float(inside.float().mean())
    mask = cam.attribute(network, batch, sought([area]), targets=0)[NAME].raw
    actual = mask > 0.5
    overlap = (actual & inside).flatten(1).sum(1) / (actual | inside).flatten(1).sum(1)
    assert overlap.min() > 0.75
    # A random part of that area has an overlap of about a twelfth.
    blurred = blur(batch, 20.0)
    with torch.no_grad():
        scores = network(blurred + mask[:, None] * (batch - blurred))[:, 0]
        whole, blank = network(batch)[:, 0], network(blurred)[:, 0]
    assert ((scores - blank) / (whole - blank)).min() > 0.8


@pytest.mark.parametrize("area", [0.05, 0.125, 0.3])
def test_the_mask_has_the_area_and_is_nearly_binary(area):
    mask = cam.attribute(Reads(SINGLE), pictures(), sought([area]), targets=0)[NAME].raw
    assert torch.allclose(mask.mean((1, 2)), torch.tensor(area), rtol=0.15)
    assert mask.min() >= 0 and mask.max() <= 1
    # Its edge alone is between.
    assert ((mask > 0.1) & (mask < 0.9)).float().mean() < 0.2


@pytest.mark.parametrize("area", [0.05, 0.1, 0.2, 0.4])
def test_the_area_is_where_the_mask_is_above_one_half(area):
    """Also where the evidence has no edge that a mask could end at."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 8, 5, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    ).eval()
    coarse = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    batch = nn.functional.interpolate(coarse, 112, mode="bicubic")
    attribution = cam.attribute(network, batch, cam.method(NAME, areas=[area]), targets=1)[NAME]
    shares = (attribution.raw > 0.5).flatten(1).double().mean(1)
    assert torch.allclose(shares, torch.tensor(area).double(), rtol=0.1)
    assert attribution.notes() == []


def test_a_mask_of_another_area_is_remarked_on():
    """A blob of this smoothness cannot be that small."""
    method = cam.method(NAME, areas=[0.001], steps=5, smoothness=40)
    (note,) = cam.attribute(Reads(SINGLE), pictures(1), method, targets=0)[NAME].notes()
    assert note[1].startswith("the mask of area 0.001 covers 0.0")


def test_against_the_class_the_mask_flees_from_the_evidence():
    mask = cam.attribute(Reads(SINGLE), pictures(1), sought([0.125]), targets=1)[NAME].raw
    assert mask[0][truth(SINGLE)].mean() < 0.1


def test_several_areas_are_averaged():
    network, batch = Reads(SINGLE), pictures()
    single = [cam.attribute(network, batch, sought([a]), targets=0)[NAME].raw for a in (0.1, 0.2)]
    both = cam.attribute(network, batch, sought((0.1, 0.2)), targets=0)[NAME]
    assert torch.allclose(both.raw, torch.stack(single).mean(0), atol=0.02)
    assert both.heatmap[0][truth(SINGLE)].mean() > 3 * both.heatmap[0][~truth(SINGLE)].mean()


def test_the_smooth_maximum_by_hand():
    """One cell of 1 among zeros: each place near it has the profile of its distance, a little less.

    With weights exp(20 f) the K - 1 zeros pull f down by the factor 1 / (1 + (K - 1) exp(-20 f)).
    """
    cells = torch.zeros(1, 9, 11).double()
    masks = _Masks((9, 11), 1, 2.0, cells)
    cells[0, 4, 5] = 1
    actual = masks.smooth(cells)[0]
    count = 9 * 9  # four cells on each side
    for row, column in [(4, 5), (4, 6), (4, 7), (6, 5), (5, 6)]:
        distance = ((row - 4) ** 2 + (column - 5) ** 2) ** 0.5 / 2
        value = torch.exp(torch.tensor(-2 * max(0, distance - 0.5) ** 2)).double()
        expected = value / (1 + (count - 1) * torch.exp(-20 * value))
        assert torch.isclose(actual[row, column], expected, atol=1e-6)
    assert actual[4, 10] < 0.02
    smoothed = masks.smooth(torch.ones(1, 9, 11).double())[0]
    assert smoothed[4, 5] > 0.9


def test_an_image_has_its_map_alone_and_in_a_batch_and_nan_stays_alone():
    network, batch, method = Reads(SINGLE), pictures(), sought([0.1], steps=30)
    together = cam.attribute(network, batch, method, targets=[0, 1], batch_size=1)[NAME]
    again = cam.attribute(network, batch, method, targets=[0, 1])[NAME]
    assert torch.allclose(together.raw, again.raw, atol=0.01)
    for image, target in enumerate([0, 1]):
        alone = cam.attribute(network, batch[image : image + 1], method, target)[NAME]
        assert torch.allclose(together.raw[image], alone.raw[0], atol=0.01)
    batch[0, 0, 0, 0] = torch.nan
    with pytest.warns(cam.CamWarning, match="image 0 is NaN"):
        attribution = cam.attribute(network, batch, method, targets=[0, 1])[NAME]
    assert attribution.raw[0].isnan().all()
    assert torch.allclose(attribution.raw[1], together.raw[1], atol=0.01)


def test_cost_progress_the_model_and_other_precisions():
    network, batch = Reads(SINGLE), pictures().requires_grad_()
    reports: list[cam.Progress] = []
    method = sought((0.1, 0.2), steps=4)
    with torch.inference_mode():
        attribution = cam.attribute(
            network, batch, method, 0, batch_size=8, progress=reports.append
        )[NAME]
    assert (attribution.cost.forwards, attribution.cost.backwards) == (2 + 5, 5)
    assert reports[-1].done == reports[-1].total == 2 * (1 + 2 * 5)
    assert network.factor.grad is None and batch.grad is None
    half = cam.attribute(network.bfloat16(), batch.bfloat16(), method, lambda y: y[0])[NAME]
    assert torch.corrcoef(torch.stack([half.raw.flatten(), attribution.raw.flatten()]))[0, 1] > 0.95
    with pytest.raises(cam.Cancelled, match=NAME):
        cam.attribute(Reads(SINGLE), pictures(), method, progress=lambda now: now.done < 9)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"areas": ()}, "areas must be one or more numbers above 0 and below 1"),
        ({"areas": 0.1}, "areas must be one or more numbers above 0 and below 1"),
        ({"areas": "0.1"}, "areas must be one or more numbers above 0 and below 1"),
        ({"areas": (0.1, 0)}, "areas must be one or more numbers above 0 and below 1"),
        ({"areas": (2,)}, "areas must be one or more numbers above 0 and below 1"),
        ({"steps": 0}, "steps must be a whole number"),
        ({"cell": 1.5}, "cell must be a whole number"),
        ({"smoothness": 3}, "smoothness must be at least its cell"),
        ({"smoothness": None}, "smoothness must be a number"),
        ({"smoothness": 1e30}, "smoothness must be a number above 0 and at most 10000"),
    ],
    ids=str,
)
def test_wrong_parameters_are_named(wrong, sentence):
    with pytest.raises(cam.MethodError, match=f"^{NAME}'s {sentence}"):
        cam.attribute(Reads(SINGLE), pictures(1), cam.method(NAME, **wrong))
