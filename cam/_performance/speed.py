"""Measure side by side how fast explanations are on this machine.

Every figure is the median of interleaved rounds with its interval, on a copy of the model: the
packages that it is compared with leave gradients on what they explain. Every ratio is taken within
a round (:meth:`cam._performance.timing.Timing.over`): what else the machine does slows both of a
pair, and makes all of them slower than they are.
"""

import contextlib
import copy
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from itertools import product
from typing import Any, TypeVar

import torch
from torch import Tensor

from cam import kernels
from cam._attribution.attribution import attribute
from cam._engine.precision import available_precisions
from cam._methods.base.method_registry import method
from cam._metrics.base.map_ranking import brightest_overlap, spearman
from cam._models.model import Model
from cam._performance import peers
from cam._performance.timing import Estimate, Timing, estimate_median, interleaved
from cam.errors import Cancelled, InputError

# All rules of the fused kernel, and the gradient of the pixels: one forward and one backward pass.
EVERY_GRADIENT_METHOD = (*kernels.RULES, "saliency")
INFERENCE = "plain inference"
LAST = "plain inference, channels last"
OURS = "cam"
# The fewest whose interval leaves out the worst and the best of them.
ROUNDS = 9

Name = TypeVar("Name", bound=Hashable)
Result = TypeVar("Result")

Report = Callable[[float, Any, str], bool | None]
"""Called with the share that is done, the result so far and what is at work; False cancels.

What comes before the first round, such as importing other packages, counts as no share.
"""


@dataclass(frozen=True)
class Speed:
    """One contender.

    Attributes:
        images: How many one run explains.
        maps: How many maps it gives of each; 0 for plain inference.
        timing: Of its runs.
    """

    images: int
    maps: int
    timing: Timing

    @property
    def images_per_second(self) -> Estimate:
        """The median over the rounds."""
        return estimate_median([self.images / seconds for seconds in self.timing.seconds])

    @property
    def maps_per_second(self) -> Estimate:
        """Of all methods, the median over the rounds."""
        estimate = self.images_per_second
        return Estimate(*(self.maps * end for end in estimate))

    def relative_to(self, other: "Speed") -> Estimate:
        """Estimate the images a second, by the other's of the same round."""
        ratio = other.timing.over(self.timing)
        return Estimate(*(self.images / other.images * end for end in ratio))


@dataclass(frozen=True)
class Race:
    """What :func:`race` found.

    Attributes:
        speeds: Contender → speed. :data:`INFERENCE`, as the network is called without explaining
            it; :data:`LAST`, the same with the pixels in the memory format in which this library
            computes; :data:`OURS` and each package for Grad-CAM.
        every: The same for all gradient CAMs and, here, saliency: ``cam`` and ``grad-cam``.
        absent: Packages that are not installed.
        refused: Package → why it cannot explain this model.
    """

    speeds: Mapping[str, Speed]
    every: Mapping[str, Speed]
    absent: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


def race(
    model: Model,
    batch: Tensor,
    rounds: int = ROUNDS,
    warm_up: int = 1,
    report: Report | None = None,
) -> Race:
    """Race plain inference, this library and the installed packages.

    Grad-CAM at the model's first preset layer for each image's top class; then every gradient CAM
    and saliency, here in one call, with grad-cam by one explainer after the other.

    Args:
        model: What is explained; it stays as it is.
        batch: (B, 3, H, W), as ``model.prepare`` gives.
        rounds: How often each contender runs.
        warm_up: Rounds before those.
        report: Called before each try and after each run, with a :class:`Race` of what has been
            measured.

    Raises:
        Cancelled: ``report`` answered False.
        CamError: The model cannot be explained.
    """
    mine, layer, module = _copy_model(model)
    targets = mine.predict(batch).argmax(1).tolist()
    calls = peers.prepare_gradcam(module, layer, batch, targets)
    absent = tuple(package for package in peers.PACKAGES if package not in calls)
    work: dict[tuple[str, int], Callable[[], object]] = {
        (LAST, 0): _prepare_inference(mine, batch.contiguous(memory_format=torch.channels_last)),
        (INFERENCE, 0): _prepare_inference(mine, batch),
        (OURS, 1): partial(attribute, mine, batch, "gradcam", targets, layer),
    }
    rivals = {(package, 1): call for package, call in calls.items()}
    if several := peers.prepare_every_cam(module, layer, batch, targets):
        rivals[("grad-cam", len(kernels.RULES))] = several
    refused: dict[str, str] = {}
    for package in calls:
        _tell(report, Race({}, {}, absent, refused), f"importing {package}")
        with contextlib.suppress(Exception):  # the call says why
            import_module(peers.PACKAGES[package])
    for (package, maps), call in rivals.items():
        if package in refused:
            continue
        _tell(report, Race({}, {}, absent, refused), f"trying {package} once")
        if reason := _try_call(call):
            refused[package] = reason
        else:
            work[(package, maps)] = call
    every = (OURS, len(EVERY_GRADIENT_METHOD))
    work[every] = partial(attribute, mine, batch, EVERY_GRADIENT_METHOD, targets, layer)

    def result(timings: Mapping[tuple[str, int], Timing]) -> Race:
        def of(several: bool) -> dict[str, Speed]:
            return {
                name: Speed(len(batch), maps, timing)
                for (name, maps), timing in timings.items()
                if (maps > 1) == several
            }

        return Race(of(several=False), of(several=True), absent, refused)

    return _measure(work, rounds, warm_up, report, result)


def _copy_model(model: Model) -> tuple[Model, str, torch.nn.Module]:
    """Copy the model in evaluation mode, with its first preset layer."""
    layers = model.layers
    with model.lock:
        module = copy.deepcopy(model.module).eval()
    return Model(module, model.transform, model.labels, layers, model.name), layers[0], module


def _prepare_inference(model: Model, batch: Tensor) -> Callable[[], object]:
    def run() -> object:
        with torch.no_grad():
            return model.module(batch)

    return run


def _try_call(call: Callable[[], object]) -> str | None:
    """Return why a package cannot explain this model, None if it can."""
    try:
        call()
    except Exception as error:  # noqa: BLE001
        message = (str(error).strip() or "no message").splitlines()[0].rstrip(". ")
        return f"{type(error).__name__}: {message}"
    return None


def _tell(report: Report | None, so_far: object, at: str) -> None:
    """Report before the first round."""
    if report is not None and report(0.0, so_far, at) is False:
        raise Cancelled("the measurement was cancelled")


def _measure(
    work: Mapping[Name, Callable[[], object]],
    rounds: int,
    warm_up: int,
    report: Report | None,
    result: Callable[[Mapping[Name, Timing]], Result],
) -> Result:
    """Time the work, and report after each run."""

    def tell(share: float, timings: dict[Name, Timing]) -> bool | None:
        assert report is not None
        done = max((len(timing.seconds) for timing in timings.values()), default=0)
        return report(share, result(timings), f"round {done} of {rounds}" if done else "warming up")

    _tell(report, result({}), "warming up")
    return result(interleaved(work, rounds, warm_up, report=tell if report else None))


def by_batch_size(
    model: Model,
    image: Tensor,
    sizes: Sequence[int] = (1, 2, 4, 8, 16),
    rounds: int = ROUNDS,
    report: Report | None = None,
) -> dict[int, dict[str, Speed]]:
    """Measure plain inference and Grad-CAM over the size of the batch.

    Args:
        model: What is explained; it stays as it is.
        image: (1, 3, H, W), which is repeated.
        sizes: The batches' sizes.
        rounds: How often each runs.
        report: As for :func:`race`, with what this function returns.

    Returns:
        Size → :data:`INFERENCE` and :data:`OURS` → speed. A size that did not fit into memory is
        not there.

    Raises:
        InputError: No size, or none that fits.
        Cancelled: ``report`` answered False.
    """
    if not sizes or min(sizes) < 1:
        raise InputError(f"batch sizes must be at least 1, and there must be one, not {sizes}")
    mine, layer, _ = _copy_model(model)
    target = int(mine.predict(image).argmax())
    work: dict[tuple[int, str], Callable[[], object]] = {}
    for size in sorted(set(sizes)):
        _tell(report, {}, f"trying {size} at once")
        batch = image.expand(size, -1, -1, -1).contiguous()
        run = partial(attribute, mine, batch, "gradcam", target, layer)
        try:
            run()
        except torch.OutOfMemoryError:
            break
        work |= {(size, INFERENCE): _prepare_inference(mine, batch), (size, OURS): run}
    if not work:
        raise InputError("not even the smallest batch fits into the device's memory")

    def result(timings: Mapping[tuple[int, str], Timing]) -> dict[int, dict[str, Speed]]:
        speeds: dict[int, dict[str, Speed]] = {}
        for (size, name), timing in timings.items():
            speeds.setdefault(size, {})[name] = Speed(size, int(name == OURS), timing)
        return speeds

    return _measure(work, rounds, 1, report, result)


@dataclass(frozen=True)
class Together:
    """What :func:`together` found.

    Attributes:
        singles: Method → its time in a separate call.
        joint: How many of the methods, the first ones, in one call → its time.
    """

    singles: Mapping[str, Timing]
    joint: Mapping[int, Timing]

    def one_by_one(self, count: int) -> Timing | None:
        """Return the first ``count`` methods' time in separate calls: the sum in each round.

        None while one of them has not been measured.
        """
        timings = list(self.singles.values())[:count]
        if len(timings) < count:
            return None
        # Of the same rounds only, while one of them is still running.
        rounds = zip(*(timing.seconds for timing in timings), strict=False)
        return Timing(tuple(map(sum, rounds)))


def together(
    model: Model,
    batch: Tensor,
    methods: Sequence[str] = EVERY_GRADIENT_METHOD,
    rounds: int = ROUNDS,
    report: Report | None = None,
) -> Together:
    """Measure several methods in one call, beside one call each.

    Args:
        model: What is explained; it stays as it is.
        batch: (B, 3, H, W).
        methods: Their names, each once; 1, 2, 4, … and all of them are put in one call.
        rounds: How often each call runs.
        report: As for :func:`race`, with what this function returns.

    Raises:
        InputError: No method, or one that is named twice.
        Cancelled: ``report`` answered False.
    """
    names = tuple(method(name).name for name in methods)
    if not names or len(set(names)) < len(names):
        raise InputError("methods must be named once each, and there must be one at least")
    mine, *_ = _copy_model(model)
    targets = mine.predict(batch).argmax(1).tolist()
    counts = sorted({2**power for power in range(len(names).bit_length())} | {len(names)})
    parts: dict[str | int, tuple[str, ...]] = {name: (name,) for name in names}
    parts |= {count: names[:count] for count in counts}
    work = {key: partial(attribute, mine, batch, part, targets) for key, part in parts.items()}

    def result(timings: Mapping[str | int, Timing]) -> Together:
        return Together(
            {name: timing for name, timing in timings.items() if isinstance(name, str)},
            {count: timing for count, timing in timings.items() if isinstance(count, int)},
        )

    return _measure(work, rounds, 1, report, result)


@dataclass(frozen=True, eq=False)
class Fidelity:
    """One method in one precision.

    Attributes:
        method: Its name.
        precision: In which the network computed.
        speed: Of the call.
        spearman: Rank correlation of its maps with those in fp32, the lowest of the batch; NaN
            where a map has no order.
        overlap: Share of the brightest twentieth that is the same, the lowest of the batch.
        heatmap: (B, H, W) float32, on the CPU; None of a recording, which keeps no maps.
    """

    method: str
    precision: str
    speed: Speed
    spearman: float
    overlap: float
    heatmap: Tensor | None = None


def by_precision(
    model: Model,
    batch: Tensor,
    methods: Sequence[str] = ("gradcam", "saliency"),
    precisions: Sequence[str] | None = None,
    rounds: int = ROUNDS,
    report: Report | None = None,
) -> list[Fidelity]:
    """Measure each precision's speed, and its maps' distance from fp32.

    All of them explain the class that is on top in fp32.

    Args:
        model: What is explained; it stays as it is.
        batch: (B, 3, H, W).
        methods: Their names.
        precisions: Out of what the device has; None: all of that. "fp32" is always among them.
        rounds: How often each runs.
        report: As for :func:`race`, with what this function returns.

    Raises:
        CamError: A method or a precision that there is not, or not for this model.
        Cancelled: ``report`` answered False.
    """
    available = available_precisions(batch.device) if precisions is None else precisions
    every = dict.fromkeys(("fp32", *available))
    mine, *_ = _copy_model(model)
    targets = mine.predict(batch).argmax(1).tolist()
    maps: dict[tuple[str, str], Tensor] = {}

    def call(name: str, precision: str) -> Callable[[], object]:
        def run() -> None:
            attributions = attribute(mine, batch, name, targets, precision=precision)
            maps[(name, precision)] = attributions[name].heatmap

        return run

    work = {key: call(*key) for key in product(methods, every)}

    @torch.no_grad()
    def result(timings: Mapping[tuple[str, str], Timing]) -> list[Fidelity]:
        return [
            Fidelity(
                name,
                precision,
                Speed(len(batch), 1, timing),
                float(spearman(maps[(name, "fp32")], maps[(name, precision)]).min()),
                float(brightest_overlap(maps[(name, "fp32")], maps[(name, precision)]).min()),
                maps[(name, precision)].cpu(),
            )
            for (name, precision), timing in timings.items()
        ]

    return _measure(work, rounds, 1, report, result)
