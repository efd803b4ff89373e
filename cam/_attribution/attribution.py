"""Explain a batch with one or more methods: check, plan, execute."""

import warnings
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from cam import kernels
from cam._attribution.execution import execute
from cam._attribution.image_batch import prepare_images
from cam._attribution.plan import (
    make_plan,
    reads_layer,
    require_volume_methods,
    resolve_methods,
)
from cam._detection.final_detections import keep_all_candidates
from cam._engine.capture import check_batch
from cam._engine.clips.axis_order import channels_first
from cam._engine.default_layer import choose_fusion
from cam._engine.evaluation_mode import evaluation_mode
from cam._engine.heatmaps import FUSIONS
from cam._engine.layers import Layers, resolve_layers
from cam._engine.passes import Report
from cam._engine.precision import check_precision
from cam._engine.several_targets import repeat_for
from cam._media.images import ImageSource
from cam._methods.base.method_registry import Method
from cam._methods.base.method_registry import methods as list_methods
from cam._models.model import Model
from cam._models.network import Network
from cam._output.result_view import ResultView
from cam._targets.detection_targets import read_everything
from cam._targets.places import require_inside
from cam._targets.questions import list_questions
from cam.errors import CamWarning, InputError, NoGradientError
from cam.parameters import integer
from cam.targets import Targets
from cam.types import Attribution, Attributions

TRAINING_MODE = (
    "the model was in training mode; it was explained in evaluation mode (dropout off, batch norm "
    "fixed) and put back"
)


def attribute(
    model: Model | nn.Module,
    batch: Tensor | ImageSource | Sequence[ImageSource],
    methods: Sequence[str | Method] | str | Method = ("gradcam", "saliency"),
    targets: Targets = None,
    layers: Layers = None,
    *,
    fusion: str | None = None,
    batch_size: int | None = None,
    progress: Report | None = None,
    precision: str | None = None,
) -> dict[str, Attribution]:
    """Explain a batch with one or more methods.

    Everything that reads a layer's gradients or the pixels' shares one forward and one backward
    pass, and the CAM rules one kernel. Methods that run further passes do so after it.

    Args:
        model: A :class:`cam.Model` or any classifier; it comes back as it was.
        batch: Images, each what :func:`cam.load_image` takes (a path, encoded bytes, a PIL image,
            a uint8 array …), or a list of them, which a :class:`cam.Model` prepares and which the
            result keeps; or (B, 3, H, W) floats on the model's device, as ``model.prepare(images)``
            gives. Volumes and clips are (B, C, D, H, W) or (B, T, C, H, W), as the model takes
            them; their maps have the axis D or T too.
        methods: Names, or :func:`cam.method` with parameters.
        targets: What is explained. None: each image's top class. A class index or a label for all
            images, or one for each. Callables from one image's output to a scalar. A list of
            targets for each image: they share its forward pass, and there is a map for each, those
            of the first image first. "all": everything that a detector detects.
        layers: Where the CAM methods explain: dotted names or modules. None: the model's default.
        fusion: How the maps of several layers, each in [0, 1], are fused: "mean" (as
            pytorch-grad-cam), or "max", the largest at each place (as torchcam). None: "max" for
            the levels of a detector's pyramid, which are its default, and else "mean".
        batch_size: How many inputs a method with further passes sends through the model at once.
            None: 32 on a GPU, and 8 on a CPU, which gains nothing from more and needs less memory.
        progress: Called with a :class:`cam.Progress` after each of those batches, whose ``partial``
            makes the map so far; an answer of False cancels.
        precision: In which the network computes: "fp32", "tf32", "fp16", "bf16", or "auto", the
            fastest for each method whose maps were measured to stay the same. None: as the model
            and torch are set.

    Returns:
        Method name → :class:`cam.Attribution`, in the requested order. A method given twice with
        different parameters is named with them, as in ``name(steps=64)``. A notebook shows it as
        the images with all maps, to look into; so it does each Attribution.

    Raises:
        CamError: One of its subclasses, with one sentence on what was wrong and what would be
            right. The model and the batch are as they were.
    """
    distinct = resolve_methods(methods)
    network = Network.of(model)
    network.refuse_classes(targets)
    batch, photos = prepare_images(model, batch)
    size = _check_options(fusion, batch_size, batch)
    check_kernels()
    check_batch(network.module, batch, volumes=True)
    check_precision(precision, batch.device)
    questions, owners = list_questions(targets, len(batch))
    require_inside(questions, (batch.shape[-2], batch.shape[-1]))
    if batch.ndim == 5:
        require_volume_methods(distinct)
    owner = None if owners is None else torch.tensor(owners, device=batch.device)
    complete = keep_all_candidates(network.module, read_everything(questions))
    with (
        network.lock,
        complete,
        channels_first(network.module, batch, network.frames_first) as batch,
        evaluation_mode(network.module) as was_training,
    ):
        names: list[str] = []
        # A layer that does not exist is refused also where no method would look at it.
        if layers is not None or reads_layer(distinct):
            requested = network.default_layers(batch) if layers is None else layers
            names = [name for name, _ in resolve_layers(network.module, requested)]
        plan = make_plan(distinct, names, precision, batch.device)
        fusion = fusion or choose_fusion(network.module, names)
        try:
            results = execute(plan, network, batch, questions, owner, fusion, size, progress)
        except NoGradientError as error:
            without = ", ".join(
                name for name, info in list_methods().items() if not info.needs_gradients
            )
            raise NoGradientError(f"{error}; methods that need no gradient: {without}") from None
    if was_training:
        warnings.warn(TRAINING_MODE, CamWarning, stacklevel=2)
    _warn_if_not_finite(results)
    if owners is not None and photos:
        photos = tuple(photos[number] for number in owners)
    view = ResultView.of(model, repeat_for(batch, owner), photos)
    return Attributions({name: replace(each, view=view) for name, each in results.items()})


def _check_options(fusion: str | None, batch_size: int | None, batch: Tensor) -> int:
    """Check options; return how many inputs run at once."""
    if fusion is not None and fusion not in FUSIONS:
        raise InputError(f"fusion is {fusion!r}, but must be one of {', '.join(FUSIONS)}")
    if batch_size is None:
        return 32 if batch.is_cuda else 8
    if not integer(1).holds(batch_size):
        raise InputError(f"batch_size must be a whole number of at least 1, but is {batch_size!r}")
    return batch_size


def check_kernels() -> None:
    """Refuse to start where the requested kernels cannot run.

    Raises:
        InputError: It does.
    """
    try:
        kernels.backend(torch.empty(0))
    except (ValueError, RuntimeError) as error:
        raise InputError(str(error)) from None


def _warn_if_not_finite(results: dict[str, Attribution]) -> None:
    """Warn of images whose map is NaN; wait once for the GPU."""
    finite = torch.stack(
        [result.heatmap.flatten(1).isfinite().all(1) for result in results.values()]
    )
    if bool(finite.all()):
        return
    for key, row in zip(results, finite.tolist(), strict=True):
        images = [index for index, fine in enumerate(row) if not fine]
        if images:
            warnings.warn(
                f"{key}: the map of image {', '.join(map(str, images))} is NaN, because its "
                "pixels, activations or gradients hold NaN or infinity; other images are as usual",
                CamWarning,
                stacklevel=3,
            )
