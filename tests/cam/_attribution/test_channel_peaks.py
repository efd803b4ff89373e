"""The highest activations of channels over many images, against the maps themselves."""

import pytest
import torch
from torch import nn

import cam
from cam._attribution.channel_peaks import find_peaks
from tests.support.networks import Pooled


def test_they_are_the_highest_of_all_images_each_named_once():
    model = cam.Model(Pooled())
    batch = torch.randn(11, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    peaks = None
    for start in range(0, 11, 4):
        numbers = range(100 + start, 100 + min(start + 4, 11))
        peaks = find_peaks(model, batch[start : start + 4], numbers, "2", 3, peaks)
    first, pool, second, *_ = model.module
    maps = second(pool(first(batch))).detach()  # (11, 8, 6, 8)
    assert peaks.grid == (6, 8) and peaks.values.shape == (8, 3)
    for channel in range(8):
        highest = maps[:, channel].flatten(1).max(1)
        images = highest.values.argsort(descending=True)[:3]
        assert (peaks.images[channel] - 100).tolist() == images.tolist()
        assert torch.equal(peaks.values[channel], highest.values[images])
        assert torch.equal(peaks.cells[channel], highest.indices[images])


def test_what_lies_behind_the_layer_does_not_run_and_hooks_are_gone():
    module = Pooled()
    ran = []
    module[5].register_forward_hook(lambda *_: ran.append(True))
    batch = torch.zeros(1, 3, 8, 8)
    find_peaks(cam.Model(module), batch, [0], "2", 3)
    assert not ran
    module(batch)
    assert ran == [True]


@pytest.mark.parametrize(("layer", "words"), [("9", "no layer"), ("5", "no feature maps")])
def test_a_layer_without_maps_is_one_sentence(layer, words):
    with pytest.raises(cam.LayerError, match=words):
        find_peaks(cam.Model(Pooled()), torch.zeros(1, 3, 8, 8), [0], layer, 3)


def test_a_layer_that_does_not_run_is_one_sentence():
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.idle = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.first(x).mean((2, 3))

    with pytest.raises(cam.LayerError, match="did not run"):
        find_peaks(cam.Model(Idle(), layers="first"), torch.zeros(1, 3, 8, 8), [0], "idle", 3)
