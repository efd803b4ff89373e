"""Explained frames have their own class, map and image."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

import cam
from cam._clip import clip
from cam._media.video import Clip
from cam.pages.ui.live.frames import (
    LARGEST_FRAME,
    Explainer,
    LiveClip,
    decode_frame,
    quantise,
)


@pytest.fixture(scope="module")
def film() -> Clip:
    return clip.demonstration("chelsea", 5)


def decode(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


@pytest.mark.parametrize(("method", "target"), [("gradcam", None), ("saliency", 508)])
def test_each_frame_has_the_class_and_the_map_that_it_has_alone(bundled, film, method, target):
    frames = Explainer(bundled.twin(), method, target).explain(list(film.frames[:3]))
    for image, frame in zip(film.frames, frames, strict=False):
        batch = bundled.prepare(image)
        chances = bundled.module(batch).detach().softmax(1)[0]
        top = int(chances.argmax())
        assert frame["label"] == bundled.label(top)
        assert frame["probability"] == pytest.approx(float(chances[top]), abs=1e-4)
        assert frame["explained"] == bundled.label(top if target is None else target)
        [alone] = cam.attribute(bundled, batch, method, target).values()
        truth = alone.heatmap[0].numpy()
        percentile = cam.methods()[method].percentile
        truth = (truth / np.percentile(truth, percentile)).clip(0, 1)
        # Half a step of 8 bits, and the last bits of a batch.
        assert np.abs(decode(frame["map"]) / 255 - truth).max() <= 0.5 / 255 + 1e-4
        crop = np.asarray(bundled.crop(image), int)
        # JPEG loses a little.
        assert np.abs(decode(frame["image"]) - crop).mean() < 4


def test_codes_by_hand():
    heatmap = torch.tensor([[[0, 0.25, 1], [0.5, 2, 0.1]]])
    assert quantise(heatmap, 100).tolist() == [[[0, 64, 255], [128, 255, 26]]]
    signed = torch.tensor([[[-1, -0.5, 1]]])
    assert quantise(signed, 100, signed=True).tolist() == [[[0, 64, 255]]]
    # Half of five values lie at or below 2, where the colours end.
    ends = torch.tensor([[[0.0, 1, 2, 3, 4]]])
    assert quantise(ends, 50).tolist() == [[[0, 128, 255, 255, 255]]]
    with pytest.raises(cam.InputError, match="no map"):
        quantise(torch.tensor([[[0, torch.nan]]]), 100)


def test_a_clip_is_explained_once_in_whatever_order(bundled, film):
    explainer = Explainer(bundled.twin(), "gradcam")
    whole = explainer.explain(list(film.frames))
    live = LiveClip(film, explainer)
    batches = []
    live.explainer = Counted(batches, explainer)
    last = live.get_frames(4, 2)
    assert len(last) == 1, "the clip has five frames"
    assert [frame["map"] for frame in live.get_frames(0, 3)] == [
        frame["map"] for frame in whole[:3]
    ]
    assert last[0]["label"] == whole[4]["label"]
    assert sum(batches) == 5 and live.per_second > 0
    assert live.get_frames(5, 2) == []


class Counted:
    """An explainer that counts what it explains."""

    def __init__(self, batches: list[int], explainer: Explainer) -> None:
        self.batches, self.explainer = batches, explainer

    def explain(self, images: list[Image.Image]) -> list[dict]:
        self.batches.append(len(images))
        return self.explainer.explain(images)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no base64!", "is no image"),
        (base64.b64encode(b"words").decode(), "camera's frame"),
        ("A" * (LARGEST_FRAME + 4), "too large"),
    ],
)
def test_what_no_camera_sends_is_refused(text, message):
    with pytest.raises(cam.ImageError, match=message):
        decode_frame(text)


def test_a_cameras_frame_is_decoded():
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 10, 10)).save(buffer, "JPEG")
    image = decode_frame(base64.b64encode(buffer.getvalue()).decode())
    assert image.size == (40, 30) and image.getpixel((5, 5))[0] > 190
