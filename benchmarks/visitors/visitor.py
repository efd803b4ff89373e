"""Let a visitor look, think, click, and check each answer."""

import io
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

import cam
from benchmarks.visitors.session import Session, VisitError
from cam._media.images import SAMPLES, read_image
from cam._output.explanation_files import data_uri
from cam.pages.ui.server.resources import fit_display

# Between two clicks, as somebody who looks at what came.
THINKING_SECONDS = (3.0, 9.0)
METHODS = ("gradcam", "saliency", "layercam", "gradcam_plus_plus", "hirescam")
UPLOAD = r"upload_\d+"
OWN_SIDE = 300


@dataclass
class Answers:
    """What the visitors saw and how long they waited.

    Attributes:
        seconds: Of each click, from sending it until its page was drawn.
        first: The same of each visitor's first page.
        uploads: The same of each upload, with the photo's way to the server.
        wrong: What a visitor saw that was not theirs, or was no answer.
        images: How often each image was looked at.
    """

    seconds: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    uploads: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    images: Counter[str] = field(default_factory=Counter)


class Truth:
    """What each image must show, from the library and not from a server."""

    def __init__(self) -> None:
        self._model = cam.load_model("efficientnet_lite0")
        self._samples = {name: self.describe(cam.sample(name)) for name in SAMPLES}

    def describe(self, photo: object) -> tuple[str, list[str]]:
        """Return the crop as the viewer gets it, and the most probable classes.

        Equal chances to the last bit may stand either way round, so two classes are named.
        """
        chances = self._model.predict(self._model.prepare(photo))[0]  # type: ignore[arg-type]
        crop = fit_display(self._model.crop(photo))  # type: ignore[arg-type]
        classes = chances.topk(2).indices.tolist()
        return data_uri(crop.convert("RGB")), [self._model.label(index) for index in classes]

    def of_sample(self, name: str) -> tuple[str, list[str]]:
        """Return what a bundled photo must show."""
        return self._samples[name]


def make_own_photo(generator: random.Random) -> bytes:
    """Make a PNG that no other visitor has."""
    noise = np.random.default_rng(generator.getrandbits(32))
    coarse = noise.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    photo = Image.fromarray(coarse).resize((OWN_SIDE, OWN_SIDE), Image.Resampling.BICUBIC)
    stored = io.BytesIO()
    photo.save(stored, "PNG")
    return stored.getvalue()


class Visitor:
    """A visitor of Explore, with samples or with a photo that nobody else has.

    Args:
        address: Of the server.
        truth: What the images must show.
        answers: Where seconds and errors go.
        seed: Of what the visitor does.
        uploads: Whether they upload a photo that nobody else has.
    """

    def __init__(
        self, address: str, truth: Truth, answers: Answers, seed: int, uploads: bool = False
    ) -> None:
        self._address, self._truth, self._answers = address, truth, answers
        self._choose = random.Random(seed)
        self._uploads = uploads
        self._name = f"visitor {seed}"

    def stay(self, until: float, stop: threading.Event) -> None:
        """Visit until a moment of the monotonic clock."""
        try:
            with Session(self._address) as session:
                self._look_around(session, until, stop)
        except (VisitError, OSError, TimeoutError, KeyError) as error:
            self._answers.wrong.append(f"{self._name}: {type(error).__name__}: {error}")

    def _look_around(self, session: Session, until: float, stop: threading.Event) -> None:
        sample = self._choose.choice(list(SAMPLES))
        self._answers.first.append(session.visit(f"image={sample}"))
        expected = self._truth.of_sample(sample)
        if self._uploads:
            photo = make_own_photo(self._choose)
            expected, sample = self._truth.describe(read_image(photo, "own.png")), "own"
            self._answers.uploads.append(session.upload(UPLOAD, "own.png", photo))
        methods: list[str] = []
        while not stop.is_set():
            self._check(session, expected, sample)
            stop.wait(self._choose.uniform(*THINKING_SECONDS))
            if time.monotonic() > until:
                return
            if self._uploads or self._choose.random() < 0.5:
                methods = self._choose.sample(METHODS, self._choose.randint(1, 3))
            else:
                sample = self._choose.choice(list(SAMPLES))
                expected = self._truth.of_sample(sample)
            self._answers.seconds.append(self._move(session, sample, methods))

    def _move(self, session: Session, sample: str, methods: list[str]) -> float:
        """Choose a sample or methods by a widget, as a click does."""
        if not self._uploads:
            title = session.read_options("sample")[list(SAMPLES).index(sample)]
            current = dict(part.split("=", 1) for part in session.query.split("&") if part)
            if current.get("image", next(iter(SAMPLES))) != sample:
                return session.click("sample", lambda state: choose(state, [title]))
        offered = session.read_options("quick")
        titles = [cam.methods()[name].title for name in methods or ("gradcam", "saliency")]
        requested = [option for option in offered if option in titles]
        return session.click("quick", lambda state: choose(state, requested))

    def _check(self, session: Session, expected: tuple[str, list[str]], name: str) -> None:
        """Note what the viewer shows that is not this visitor's image and its class."""
        viewers = session.read_viewers()
        if len(viewers) != 1:
            raise VisitError(f"{len(viewers)} viewers are on the page, and not one")
        self._answers.images[name] += 1
        crop, labels = expected
        payload: Mapping[str, Any] = viewers[0]
        if payload["crop"] != crop:
            self._answers.wrong.append(f"{self._name}: another image than {name}")
        if payload["label"] not in labels:
            self._answers.wrong.append(
                f"{self._name}: {name} is called {payload['label']!r}, and not {labels[0]!r}"
            )
        if any(not each["heatmap"]["codes"] for each in payload["maps"]):
            self._answers.wrong.append(f"{self._name}: a map without values")


def choose(state: Any, titles: list[str]) -> None:
    """Set what a widget with several options has chosen."""
    state.string_array_value.data.extend(titles)
