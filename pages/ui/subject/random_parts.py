"""Change random parts of an image, to compare others with."""

import time
from dataclasses import dataclass

import numpy as np
from PIL import Image

import cam
from cam._media.edits import Edit, edit_image
from cam._models.preprocessing import find_input_box
from cam.pages.ui.server import resources
from cam.pages.ui.server.resources import share
from cam.pages.ui.state.choices import ModelChoice, Picture

# A single draw may hit the object or miss it.
DRAWS = 8
# Of the shorter side: models look at less, and eight copies of a large photo take seconds.
MOST_PIXELS = 1024


@dataclass(frozen=True, eq=False)
class RandomParts:
    """What changes of random parts do to a model's scores.

    Attributes:
        logits: (draws, classes) float32, changed less unchanged.
        chances: The same of probabilities.
        seconds: What all of it took.
    """

    logits: np.ndarray
    chances: np.ndarray
    seconds: float


@share(max_entries=64)
def change_random_parts(
    choice: ModelChoice, picture: Picture, way: str, source: str, percent: int
) -> RandomParts:
    """Change random parts of one size, one at a time, in one batch with the image itself.

    Args:
        choice: The model.
        picture: The image without changes.
        way: As of :class:`Edit`.
        source: What is pasted.
        percent: Of what the model sees.

    Raises:
        CamError: An edit cannot be done.
    """
    start = time.perf_counter()
    model = resources.load_model(choice)
    image = picture.photo.image
    if min(image.size) > MOST_PIXELS:
        share_of_side = MOST_PIXELS / min(image.size)
        size = (round(image.width * share_of_side), round(image.height * share_of_side))
        image = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    box = find_input_box(model.transform, image.size)
    if box is None:
        raise cam.InputError(f"which part of an image {choice.name} sees cannot be read")
    parts = [f"random-{percent}-{seed}" for seed in range(DRAWS)]
    changed = [edit_image(image, box, [Edit(way, part, source)]) for part in parts]
    logits = model.score(model.prepare([image, *changed]))
    chances = logits.softmax(1)
    return RandomParts(
        (logits[1:] - logits[:1]).cpu().numpy(),
        (chances[1:] - chances[:1]).cpu().numpy(),
        time.perf_counter() - start,
    )
