"""Select a part of the image, as a browser does."""

import base64

import numpy as np
import pytest

from cam.pages.ui.widgets import image_viewer


@pytest.fixture
def select(monkeypatch):
    """Answer as a browser does in which a part is selected, as the share of the sides."""
    component = image_viewer._component()

    def select_part(left: float, top: float, right: float, bottom: float, box: bool = True):
        def answer(key: str, data, **more):
            component(key=key, data=data, **more)
            width, height = data["grid"]
            sides = [round(left * width), round(top * height)]
            sides += [round(right * width), round(bottom * height)]
            mask = np.zeros((height, width), bool)
            mask[sides[1] : sides[3], sides[0] : sides[2]] = True
            packed = base64.b64encode(np.packbits(mask).tobytes()).decode()
            region = {"mask": packed, "box": sides if box else None, "grid": data["grid"]}
            region |= {"active": "gradcam", "shares": {}, "digest": data["digest"]}
            return {"region": region if data["report"] else None}

        monkeypatch.setattr(image_viewer, "_component", lambda: answer)

    return select_part
