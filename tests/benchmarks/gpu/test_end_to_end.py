"""What a graph records is Grad-CAM; a precision is switched back."""

import pytest
import torch
from scipy.stats import spearmanr

import cam
from benchmarks.gpu.end_to_end import PRECISIONS, computing_in, pieces, spearman, speed_row
from cam._performance.timing import Timing


def test_the_pieces_give_what_attribute_gives(bundled, batch):
    (layer,) = bundled.layers
    targets = [lambda logits, c=c: logits[c] for c in (282, 967, 657)]
    for chosen_targets in (None, targets):
        maps = pieces(bundled.module, layer, batch, chosen_targets)
        truth = cam.attribute(bundled, batch, "gradcam", targets=chosen_targets)["gradcam"].heatmap
        assert torch.allclose(maps, truth, atol=1e-6)


def test_rank_correlation_equals_scipys_also_with_ties():
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(0, 6, (4, 50), generator=generator).float()
    second = first + torch.randint(-2, 3, (4, 50), generator=generator)
    truth = [spearmanr(row, other).statistic for row, other in zip(first, second, strict=True)]
    assert spearman(first, second) == pytest.approx(truth, abs=1e-12)
    assert spearman(first, first.exp()) == pytest.approx([1] * 4)
    assert spearman(first, -first) == pytest.approx([-1] * 4)


def test_images_a_second_and_the_share_that_an_explanation_keeps():
    times = {
        "inference, eager": Timing((0.02, 0.03, 0.04)),
        "gradcam, eager": Timing((0.04, 0.04, 0.05)),
    }
    row = speed_row(PRECISIONS["bf16"], "contiguous", "eager", 60, times)
    assert row["inference_images_per_s"] == pytest.approx(2000)  # 60 in 0.03 s
    assert row["gradcam_images_per_s"] == pytest.approx(1500)
    assert row["share_of_inference"] == pytest.approx(0.75)  # of 0.5, 0.75 and 0.8
    assert row["inference_ms"] == pytest.approx([20, 30, 40])


def switches():
    return (
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        torch.is_autocast_enabled("cpu"),
        torch.get_float32_matmul_precision(),
    )


@pytest.mark.parametrize(
    ("name", "tf32", "dtype"),
    [
        ("fp32", False, torch.float32),
        ("tf32", True, torch.float32),
        ("fp16", False, torch.float16),
        ("bf16", False, torch.bfloat16),
    ],
)
def test_a_precision_is_switched_on_and_off_again(name, tf32, dtype):
    before = switches()
    layer, values = torch.nn.Linear(2, 2), torch.ones(1, 2)
    with pytest.raises(KeyError), computing_in(PRECISIONS[name], "cpu"):
        assert torch.backends.cuda.matmul.allow_tf32 is tf32
        assert torch.backends.cudnn.allow_tf32 is tf32
        assert layer(values).dtype == dtype
        raise KeyError
    assert switches() == before
