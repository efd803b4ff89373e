"""The dashboard with small detectors and a segmenter: `streamlit run` this file."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from torchvision import transforms

import cam
from cam.pages.ui.server import router, served
from tests.support.detectors import Planted
from tests.support.segmenters import LeftHalf

RESIZE = [transforms.Resize((64, 64)), transforms.ToTensor()]
PLAIN = transforms.Compose(RESIZE)
CENTRED = transforms.Compose([*RESIZE, transforms.Normalize([0.45] * 3, [0.2] * 3)])


def make_queries() -> cam.Model:
    """Two detections at known places: a cat above and right, and a cat below and left."""
    return cam.Model(Planted("queries").eval(), PLAIN, ["nothing", "cat", "dog"])


def make_grid() -> cam.Model:
    """The same, and a candidate for each cell."""
    return cam.Model(Planted("grid").eval(), PLAIN, ["dog", "cat"], task="detection")


def make_segmenter() -> cam.Model:
    """Bright and dark, of which the left half decides."""
    return cam.Model(LeftHalf(), CENTRED, ["dark", "bright"])


MODELS = {"queries": make_queries, "grid": make_grid, "segments": make_segmenter}
if __name__ == "__main__":
    if not served.models.list_names():
        served.models.fill(MODELS)
    router.run()
