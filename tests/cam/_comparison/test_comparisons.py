"""Compare maps: by hand, in closed form, against scipy and scikit-image."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from skimage.metrics import structural_similarity
from torch import nn
from torch.nn import functional

import cam
from cam._comparison.progress_shares import Parts
from cam._models.preprocessing import find_input_box, standard_transform
from tests.support.networks import Pooled, Weighted, pictures

SIZE = 40


def random_maps(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 24, 30, generator=torch.Generator().manual_seed(seed))


def grid(size: int = SIZE) -> tuple[torch.Tensor, torch.Tensor]:
    line = torch.arange(size, dtype=torch.float64)
    return line[:, None].expand(size, size), line[None].expand(size, size)


# Agreement.


@pytest.mark.parametrize(
    ("measure", "peer"),
    [
        ("spearman", lambda a, b: spearmanr(a.ravel(), b.ravel()).statistic),
        ("pearson", lambda a, b: pearsonr(a.ravel(), b.ravel()).statistic),
        ("ssim", lambda a, b: structural_similarity(a, b, data_range=1.0)),
    ],
)
def test_agreement_is_the_peers(measure, peer):
    maps = random_maps(4)
    maps[1] = (maps[0] + 0.3 * maps[1]) / 1.3
    maps[2] = (maps[2] * 4).round() / 4  # ties
    table = cam.agreement(maps, measure)
    assert table.shape == (4, 4) and torch.equal(table, table.T)
    for row in range(4):
        for column in range(4):
            expected = peer(maps[row].double().numpy(), maps[column].double().numpy())
            assert table[row, column].item() == pytest.approx(expected, abs=1e-5)


def test_the_top_pixels_in_common_by_hand():
    """Of 100 pixels, 5 are the top; the maps share 2 of them, and rows break ties."""
    first, second = torch.zeros(10, 10), torch.zeros(10, 10)
    first.view(-1)[[90, 91, 92, 93, 94]] = 1
    second.view(-1)[[93, 94, 7, 8, 9]] = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
    table = cam.agreement([first, second], "top")
    assert table.tolist() == [[1, 0.4], [0.4, 1]]


def test_a_flat_map_agrees_with_nothing_not_even_itself():
    maps = random_maps(3)
    maps[1], maps[2, 0, 0] = 0.5, torch.nan
    for measure in ("spearman", "pearson", "ssim", "top"):
        table = cam.agreement(maps, measure)
        assert table[0, 0] == pytest.approx(1)
        assert table[1].isnan().all() and table[2].isnan().all()


@pytest.mark.parametrize(
    ("maps", "measure", "words"),
    [
        (random_maps(2), "spearmann", "did you mean 'spearman'"),
        ([], "spearman", "there are no maps to compare"),
        ([torch.ones(3, 4), torch.ones(4, 3)], "spearman", "all of one size"),
        ([torch.ones(3)], "spearman", r"must be \(H, W\)"),
    ],
)
def test_what_cannot_be_compared_gets_a_sentence(maps, measure, words):
    with pytest.raises(cam.MetricError, match=words):
        cam.agreement(maps, measure)


# Detail.


@pytest.mark.parametrize("half_periods", [1, 2, 5, 16])
def test_a_wave_resolves_half_its_period(half_periods):
    _, x = grid()
    wave = torch.cos(math.pi * half_periods * (x + 0.5) / SIZE)
    # Its period is 2 · 40 / k pixels.
    expected = SIZE / half_periods
    for maps in (wave[None], wave.T[None], 3 + 0.1 * wave[None]):
        assert cam.effective_resolution(maps).item() == pytest.approx(expected, rel=1e-9)


def test_a_band_limited_map_resolves_its_band():
    """Noise with all frequencies up to f, each as strong: 95 % of the power is within f √0.95."""
    size, top = 256, 0.125
    y, x = grid(size)
    frequency = torch.hypot(y, x) / (2 * size)
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (size, size), generator=generator).double() * 2 - 1
    from scipy.fft import idctn

    noise = torch.from_numpy(idctn((signs * (frequency <= top)).numpy(), norm="ortho"))
    expected = 1 / (2 * top * math.sqrt(0.95))
    assert cam.effective_resolution(noise[None]).item() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("deviation", [3, 6, 12])
def test_a_gaussian_of_known_width(deviation):
    """Its power falls as exp(-4π²σ²f²): 95 % of it within √(ln 20) / 2πσ."""
    size = 12 * deviation
    y, x = grid(size)
    middle = (size - 1) / 2
    gaussian = torch.exp(-((y - middle) ** 2 + (x - middle) ** 2) / (2 * deviation**2))
    # Without its mean a Gaussian in a finite picture is a little finer than in an endless one.
    expected = math.pi * deviation / math.sqrt(math.log(20))
    assert cam.effective_resolution(gaussian[None]).item() == pytest.approx(expected, rel=0.12)


def test_nothing_is_finer_than_a_pixel():
    y, x = grid()
    assert cam.effective_resolution(((x + y) % 2)[None]).item() == 1


def test_total_variation_by_hand():
    maps = torch.tensor([[[0, 1, 0], [0, 0, 0.5]]])
    # Across: 1 + 1 + 0 + .5; down: 0 + 1 + .5; six pixels.
    assert cam.total_variation(maps).item() == pytest.approx((2.5 + 1.5) / 6)
    assert cam.total_variation(maps.transpose(1, 2)).item() == pytest.approx(4 / 6)


def test_detail_of_flat_and_broken_maps():
    maps = torch.stack([torch.full((5, 6), 0.3), torch.full((5, 6), torch.nan)])
    assert cam.effective_resolution(maps).isnan().all()
    variation = cam.total_variation(maps)
    assert variation[0] == 0 and variation[1].isnan()
    for measure in (cam.effective_resolution, cam.total_variation):
        with pytest.raises(cam.MetricError, match="at least 2 × 2"):
            measure(torch.ones(1, 1, 5))
    with pytest.raises(cam.MetricError, match="share must lie"):
        cam.effective_resolution(maps, share=1)


# Curves.


def test_curves_by_hand():
    """A network whose probability is the sum of the weights of what is seen."""
    weights = torch.tensor([[0.4, 0.1], [0.2, 0.3]])
    module, batch = Weighted(weights), torch.ones(1, 3, 2, 2)
    heatmap = torch.tensor([[[1.0, 0.2], [0.5, 0.8]]])  # .4, .3, .2, .1
    curves = cam.curves(module, batch, heatmap, 0, steps=4)
    assert curves.shares.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert torch.allclose(curves.deletion, torch.tensor([[1, 0.6, 0.3, 0.1, 0]]), atol=1e-5)
    assert curves.insertion[0, -1].item() == pytest.approx(1, abs=1e-5)
    # Trapezoids: (.5 + .6 + .3 + .1 + 0) / 4.
    assert curves.areas[0].item() == pytest.approx(0.375, abs=1e-5)


def test_the_areas_are_the_metrics(bundled, batch):
    heatmap = cam.attribute(bundled, batch[:1], "gradcam")["gradcam"].heatmap
    curves = cam.curves(bundled, batch[:1], heatmap, steps=6)
    for name, area in zip(("deletion", "insertion"), curves.areas, strict=True):
        expected = cam.metric(name, steps=6)(bundled, batch[:1], heatmap)
        assert area.item() == pytest.approx(expected.item(), abs=1e-6)


def test_a_heatmap_of_nan_has_no_curve():
    heatmap = torch.full((2, 20, 14), torch.nan)
    with pytest.raises(cam.MetricError, match="not finite"):
        cam.curves(Pooled(), pictures(), heatmap)


# The four questions.


class Wandering(nn.Module):
    """Its map goes exactly where the picture goes: a convolution with a kernel of one pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 1, bias=False)
        self.layer.weight.data = torch.tensor([[1.0, 0.5, 0.2], [0.3, 0.1, 0.4]])[..., None, None]

    def forward(self, x):
        return self.layer(x).mean((2, 3))


def test_a_map_that_goes_along_is_steady_under_shifts():
    batch = torch.rand(1, 3, 30, 34, generator=torch.Generator().manual_seed(0))
    examination = cam.examine(Wandering(), batch, "gradcam", 0, "layer")
    assert examination.error is None
    assert examination.stability["shift"].item() == pytest.approx(1, abs=1e-3)
    # Brighter and darker are the same order here, and so is another contrast.
    assert examination.stability["light"].item() == pytest.approx(1, abs=1e-2)
    assert 0.5 < examination.stability["noise"].item() < 0.999
    assert (examination.attribution.cost.forwards, examination.attribution.cost.backwards) == (1, 1)
    assert torch.equal(
        examination.resolution, cam.effective_resolution(examination.attribution.heatmap)
    )


def test_the_stabilities_are_spearmans_of_the_changed_pictures():
    """Light, written out: each picture is made and explained by hand."""
    module, batch = Pooled(), pictures()
    examination = cam.examine(module, batch, "saliency", 2)
    unchanged = cam.attribute(module, batch, "saliency", 2)["saliency"].heatmap
    for image, picture in enumerate(batch):
        step = 0.1 * (picture.max() - picture.min())
        middle = picture.mean((1, 2), keepdim=True)
        lights = [picture + step, picture - step]
        lights += [middle + 1.2 * (picture - middle), middle + 0.8 * (picture - middle)]
        expected = [
            spearmanr(
                cam.attribute(module, light[None], "saliency", 2)["saliency"].heatmap.flatten(),
                unchanged[image].flatten(),
            ).statistic
            for light in lights
        ]
        assert examination.stability["light"][image].item() == pytest.approx(
            np.mean(expected), abs=1e-3
        )


def test_a_method_that_does_not_run_here_says_why():
    examination = cam.examine(Pooled(), pictures(), "attention_rollout")
    assert "no self-attention" in examination.error and examination.attribution is None
    assert examination.reads == "a transformer's attention"
    with pytest.raises(cam.MethodError, match="there is no method"):
        cam.examine(Pooled(), pictures(), "gradcamm")


def test_what_methods_read():
    from cam._comparison.examination import describe_reads

    reads = {name: describe_reads(info) for name, info in cam.methods().items()}
    assert reads["gradcam"] == "a layer's activations and their gradients"
    assert reads["eigencam"] == "a layer's activations"
    assert reads["scorecam"] == "a layer's activations and separate passes"
    assert reads["saliency"] == "the gradient at the pixels"
    assert reads["rise"] == "scores of changed images"


def test_a_map_of_zeros_has_no_stability_and_no_warning(recwarn):
    """A class without weights: nothing speaks for it."""
    module = Wandering()
    module.layer.weight.data[1] = 0
    examination = cam.examine(module, torch.rand(1, 3, 20, 20), "gradcam", 1, "layer")
    assert examination.resolution.isnan().all() and examination.variation.item() == 0
    assert all(values.isnan().all() for values in examination.stability.values())
    assert not [record for record in recwarn if issubclass(record.category, RuntimeWarning)]


# The cascade.


def test_the_cascade_is_the_metric_stage_by_stage(bundled, batch):
    before = copy.deepcopy(bundled.module.state_dict())
    cascade = cam.cascade(bundled, batch[:1], "gradcam", stages=3)
    after = bundled.module.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before), "only the copy forgets"
    attribution = cam.attribute(bundled, batch[:1], "gradcam")["gradcam"]
    metric = cam.metric("randomisation", stages=3)
    expected = metric(bundled, batch[:1], attribution, attribution.targets, method="gradcam")
    assert cascade.likeness[0].item() == pytest.approx(1)
    assert cascade.likeness[1:].mean().item() == pytest.approx(expected.item(), abs=1e-6)
    assert torch.allclose(cascade.heatmaps[0], attribution.heatmap, atol=1e-6)
    for stage in range(4):
        by_scipy = spearmanr(
            cascade.signed[stage].flatten(), attribution.signed.flatten()
        ).statistic
        assert cascade.likeness[stage].item() == pytest.approx(by_scipy, abs=1e-5)
    assert cascade.depths[0] == "" and cascade.depths[-1] == "conv_stem"
    assert cascade.shares[0] == 0 and cascade.shares[-1] == 1


def test_the_cascade_names_the_layer_down_to_which_all_is_random():
    cascade = cam.cascade(Pooled(), pictures(), "gradcam", 0, "2", stages=50)
    assert cascade.depths == ("", "5", "2.0", "0.0")
    assert cascade.shares == pytest.approx((0, 1 / 3, 2 / 3, 1))
    assert cascade.heatmaps.shape == (4, 2, 20, 14) and cascade.likeness.shape == (4, 2)


def test_a_cascade_of_nothing_gets_a_sentence():
    with pytest.raises(cam.MetricError, match="there is no likeness"):
        cam.cascade(Pooled(), pictures(), "gradcam", similarity="cosine")
    with pytest.raises(cam.MetricError, match="stages must be a whole number"):
        cam.cascade(Pooled(), pictures(), "gradcam", stages=0)
    with pytest.raises(cam.CamError):
        cam.cascade(Pooled(), pictures(), "attention_rollout")


# One scale, and one frame.


def test_one_scale_keeps_what_is_weak_weak():
    """Grad-CAM where the pooled layer is linear: a class of twice the weights has twice the map."""
    module = Pooled()
    last = module[-1]
    last.weight.data[1] = 2 * last.weight.data[0]
    batch = pictures()
    maps = [cam.attribute(module, batch, "gradcam", k, "2")["gradcam"] for k in (0, 1)]
    weak, strong = cam.common_scale(maps)
    assert torch.allclose(weak, strong / 2, atol=1e-4)
    peak = strong.flatten(1).amax(1)
    assert torch.allclose(peak[peak > 0], torch.ones(int((peak > 0).sum())), atol=1e-4)
    with pytest.raises(cam.MetricError, match="of one method"):
        cam.common_scale([*maps, *cam.attribute(module, batch, "saliency").values()])


def test_the_part_that_a_transform_keeps():
    assert find_input_box(standard_transform(), (320, 256)) == (48, 16, 272, 240)
    # Twice as large, the crop is too.
    assert find_input_box(standard_transform(), (640, 512)) == (96, 32, 544, 480)
    assert find_input_box(lambda image: image, (300, 200)) is None


def test_two_models_over_one_part_of_the_photo():
    """A ramp of the photo's own columns, as each model would see it, is one ramp in the frame."""
    from PIL import Image

    photo = Image.new("RGB", (400, 256))
    wide = cam.Model(Pooled(), standard_transform(256, 256), name="wide")
    narrow = cam.Model(Pooled(), standard_transform(128, 256), name="narrow")
    boxes = [find_input_box(model.transform, photo.size) for model in (wide, narrow)]
    assert boxes == [(72, 0, 328, 256), (136, 64, 264, 192)]

    def ramp(box, size: int) -> torch.Tensor:
        columns = box[0] + (torch.arange(size) + 0.5) * (box[2] - box[0]) / size
        return columns.expand(size, size).clone()

    heatmaps = [ramp(boxes[0], 256), ramp(boxes[1], 64)]
    part, maps = cam.shared_view(photo, [wide, narrow], heatmaps)
    assert part.size == (128, 128) and maps.shape == (2, 256, 256)
    expected = ramp(boxes[1], 256)
    assert torch.allclose(maps[0], expected, atol=1e-3)
    # Between the outermost centres of the coarse one.
    assert torch.allclose(maps[1][:, 4:-4], expected[:, 4:-4], atol=1e-3)
    odd = cam.Model(Pooled(), lambda image: torch.zeros(3, 8, 8), name="odd")
    with pytest.raises(cam.InputError, match="'odd'"):
        cam.shared_view(photo, [wide, odd], heatmaps)


def test_maps_in_the_same_frame_stay_as_they_are():
    from PIL import Image

    model = cam.Model(Pooled(), standard_transform(), name="one")
    maps = list(functional.interpolate(random_maps(2)[:, None], size=(224, 224))[:, 0])
    _, framed = cam.shared_view(Image.new("RGB", (300, 200)), [model, model], maps)
    assert torch.equal(framed, torch.stack(maps))


# Progress.


@pytest.mark.parametrize("name", ["curves", "examine", "cascade"])
def test_tells_how_far_it_is_and_can_be_cancelled(name):
    module, batch = Pooled(), pictures()
    heatmap = torch.rand(2, 20, 14, generator=torch.Generator().manual_seed(0))
    options = {
        "curves": (heatmap,),
        "examine": ("smoothgrad", 0),
        "cascade": ("smoothgrad", 0),
    }[name]
    shares: list[float] = []

    def tell(share: float, note: str) -> bool:
        assert note
        shares.append(share)
        return True

    getattr(cam, name)(module, batch, *options, tell=tell)
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == pytest.approx(1)
    assert len(shares) > 4
    for at in (0, len(shares) // 2):
        left = [at]

        def stop(share: float, note: str, left=left) -> bool:
            left[0] -= 1
            return left[0] >= 0

        with pytest.raises(cam.Cancelled):
            getattr(cam, name)(module, batch, *options, tell=stop)
        assert left[0] == -1, "nothing goes on after it"


def test_shares_of_several_parts():
    reports = []
    parts = Parts(lambda share, note: reports.append((share, note)), 2)
    for note in ("a", "b"):
        parts.begin(note)
        parts.report(cam.Progress("x", 1, 2))
    assert reports == [(0, "a"), (0.25, "a"), (0.5, "b"), (0.75, "b")]
