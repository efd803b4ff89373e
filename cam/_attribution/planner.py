"""The planner: which passes the methods need together, then the passes, then the maps."""

import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from cam import kernels
from cam._engine.capture import Capture, capture, check_batch
from cam._engine.default_layer import preset_layers
from cam._engine.evaluation_mode import original_module
from cam._engine.fidelity import fastest, most_careful
from cam._engine.heatmaps import FUSIONS, heatmap_and_raw
from cam._engine.layers import Layers, only_linear_behind, resolve_layers
from cam._engine.passes import Passes, Report
from cam._engine.precision import any_layout, check_precision, computing, used
from cam._methods.base.method_registry import Method, method
from cam._methods.base.smoothing import eigen_smoothed, over_views
from cam._methods.base.smoothing import own as own_parameters
from cam._models.model import Model
from cam.errors import CamWarning, InputError, MethodError, ModelError, TargetError
from cam.targets import Targets
from cam.types import Attribution, Cost, Maps, Needs


def attribute(
    model: Model | nn.Module,
    batch: Tensor,
    methods: Sequence[str | Method] | str | Method = ("gradcam", "saliency"),
    targets: Targets = None,
    layers: Layers = None,
    *,
    fusion: str = "mean",
    batch_size: int | None = None,
    progress: Report | None = None,
    precision: str | None = None,
) -> dict[str, Attribution]:
    """Explain a batch with one or more methods.

    Everything that reads a layer's gradients or the pixels' shares one forward and one backward
    pass, and the CAM rules one kernel. Methods that run passes of their own do so after it.

    Args:
        model: A :class:`cam.Model` or any classifier; it comes back as it was.
        batch: (B, 3, H, W) floats on the model's device, as ``model.prepare(pictures)`` gives.
        methods: Names, or :func:`cam.method` with parameters.
        targets: What is explained. None: each image's top class. A class index or a label for all
            images, or one for each. Callables from one image's output to a scalar.
        layers: Where the CAM methods look: dotted names or modules. None: the model's preset.
        fusion: How the maps of several layers become one: "mean" (as pytorch-grad-cam), or
            "max", the largest at each place (as torchcam).
        batch_size: How many inputs a method with passes of its own sends through the model at once.
            None: 32 on a GPU, and 8 on a CPU, which gains nothing from more and needs less memory.
        progress: Called with a :class:`cam.Progress` after each of those batches; an answer of
            False cancels.
        precision: In which the network computes: "fp32", "tf32", "fp16", "bf16", or "auto", the
            fastest for each method whose maps were measured to stay the same. None: as the model
            and torch are set.

    Returns:
        Method name → :class:`cam.Attribution`, in the order asked for. A method given twice with
        different parameters is told apart by them, as in ``name(steps=64)``.

    Raises:
        CamError: One of its subclasses, with one sentence on what was wrong and what would be
            right. The model and the batch are as they were.
    """
    asked = _methods(methods)
    needs = _union(asked)
    module = original_module(model.module if isinstance(model, Model) else model)
    if not isinstance(module, nn.Module):
        raise ModelError(f"a model is a cam.Model or torch.nn.Module, not {type(model).__name__}")
    size = _checked_options(fusion, batch_size, batch)
    check_kernels()
    check_batch(module, batch)
    check_precision(precision, batch.device)
    results: dict[int, Attribution] = {}
    trained = False
    with model.lock if isinstance(model, Model) else nullcontext():
        at = []
        # A layer that does not exist is told also where no method would look at it.
        if needs.layer or layers is not None:
            at = resolve_layers(module, preset_of(model, batch) if layers is None else layers)
        for setting, together in _groups(asked, precision, batch.device).items():
            start = time.perf_counter()
            shared_needs = _union([asked[place] for place in together])
            read = at if shared_needs.layer else []
            with computing(setting, batch.device):
                with any_layout(_is_smooth(module, read, shared_needs)):
                    captured = capture(
                        module, batch, targets, read, shared_needs, class_index_of(model)
                    )
                # In another precision the top class may be another one.
                targets = captured.targets
                trained |= captured.was_training
                shared = Cost(1, int(shared_needs.backward), _since(start, batch))
                passes = Passes(module, captured, size, progress)
                name = used(module, setting, batch.device)
                for place in together:
                    results[place] = _explained(asked[place], passes, shared, fusion, name)
    if trained:
        warnings.warn(
            "the model was in training mode; it was explained in evaluation mode (dropout off, "
            "batch norm fixed) and put back",
            CamWarning,
            stacklevel=2,
        )
    named = {key: results[place] for place, key in enumerate(_keys(asked))}
    _warn_if_not_finite(named)
    return named


def _is_smooth(module: nn.Module, at: list[tuple[str, nn.Module]], needs: Needs) -> bool:
    """Whether no gradient that is needed passes a ReLU or its like."""
    if needs.input_gradient or needs.attention:
        return False
    return not needs.gradients or only_linear_behind(module, [name for name, _ in at])


def _groups(
    asked: list[Method], precision: str | None, device: torch.device
) -> dict[str | None, list[int]]:
    """Which methods, by their places, share passes, and the precision of those.

    Those without passes of their own share one, in the precision of the most careful of them.
    """
    places = range(len(asked))
    own = [one.info.needs.passes for one in asked]
    wanted = [_precision(one, precision, device) for one in asked]
    if precision == "auto":
        common = most_careful([wanted[place] for place in places if not own[place]])
        wanted = [one if own[place] else common for place, one in enumerate(wanted)]
    groups: dict[str | None, list[int]] = {}
    for place in sorted(places, key=own.__getitem__):
        groups.setdefault(wanted[place], []).append(place)
    return groups


def _precision(one: Method, precision: str | None, device: torch.device) -> str | None:
    if one.info.full and (precision or torch.is_autocast_enabled(device.type)):
        return "tf32" if precision == "tf32" else "fp32"
    return fastest(one.name, device) if precision == "auto" else precision


def _union(methods: list[Method]) -> Needs:
    needs = Needs()
    for one in methods:
        needs |= one.info.needs
    return needs


def preset_of(model: Model | nn.Module, batch: Tensor) -> tuple[str, ...]:
    """The layers that are explained where a call names none."""
    if isinstance(model, Model):
        return model.layers
    return preset_layers(original_module(model), lambda: batch[:1])


def _checked_options(fusion: str, batch_size: int | None, batch: object) -> int:
    """How many inputs go through the model at once."""
    if fusion not in FUSIONS:
        raise InputError(f"fusion is {fusion!r}, but must be one of {', '.join(FUSIONS)}")
    if batch_size is None:
        return 32 if isinstance(batch, Tensor) and batch.is_cuda else 8
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size must be a whole number of at least 1, but is {batch_size!r}")
    return batch_size


def check_kernels() -> None:
    """Refuse to start where the environment asks for kernels that cannot run here.

    Raises:
        InputError: It does.
    """
    try:
        kernels.backend(torch.empty(0))
    except (ValueError, RuntimeError) as error:
        raise InputError(str(error)) from None


def _since(start: float, batch: Tensor) -> float:
    """Seconds since the start, with the work that a GPU was given."""
    if batch.is_cuda:
        torch.cuda.synchronize(batch.device)
    return time.perf_counter() - start


def _explained(
    one: Method, passes: Passes, shared: Cost, fusion: str, precision: str
) -> Attribution:
    start = time.perf_counter()
    captured, info = passes.captured, one.info
    remarks: dict[tuple[int, str], None] = {}

    def see() -> tuple[Tensor, Tensor]:
        maps = _maps(one, passes)
        if passes.captured is captured:
            remarks.update(dict.fromkeys(remark for found in maps for remark in found.remarks))
        height, width = captured.inputs.shape[-2:]
        coarse = info.needs.layer or info.needs.attention
        return heatmap_and_raw(maps, (height, width) if coarse else None, info.fusion or fusion)

    with passes.of(one.name):
        if one.parameters.get("aug_smooth"):
            heatmap, raw = over_views(one, passes, see)
        else:
            heatmap, raw = see()
    cost = Cost(
        shared.forwards + passes.forwards,
        shared.backwards * info.needs.backward + passes.backwards,
        shared.seconds + _since(start, captured.inputs),
    )
    return _attribution(one, captured, heatmap, raw, cost, tuple(remarks), precision)


def _maps(one: Method, passes: Passes) -> list[Maps]:
    """What a method makes of each layer, or of the pixels."""
    info, captured = one.info, passes.captured
    own = (passes,) if info.needs.passes else ()
    sources = captured.layers if info.needs.layer else (captured,)
    maps = [info.function(source, *own, **own_parameters(one.parameters)) for source in sources]
    if one.parameters.get("eigen_smooth"):
        return [eigen_smoothed(one, found) for found in maps]
    return maps


def _methods(methods: Sequence[str | Method] | str | Method) -> list[Method]:
    if not isinstance(methods, str | Method | Iterable):
        raise MethodError(f"methods are names or cam.method(…), not {type(methods).__name__}")
    several = [methods] if isinstance(methods, str | Method) else list(methods)
    if not several:
        raise MethodError("methods is empty; name at least one, such as 'gradcam'")
    found = []
    for one in several:
        if isinstance(one, str):
            found.append(method(one))
        elif isinstance(one, Method):
            found.append(one)
        else:
            raise MethodError(f"a method is a name or a cam.method(…), not {type(one).__name__}")
    return [one for place, one in enumerate(found) if not any(map(one.same, found[:place]))]


def _keys(asked: list[Method]) -> list[str]:
    """Names, with the parameters where one name is asked for twice, and a number if need be."""
    names = [one.name for one in asked]
    told = [str(one) if names.count(one.name) > 1 else one.name for one in asked]
    # Of a large tensor only its corners are told.
    earlier = [told[:place].count(key) for place, key in enumerate(told)]
    return [f"{key} #{n + 1}" if n else key for key, n in zip(told, earlier, strict=True)]


def class_index_of(model: Model | nn.Module) -> Callable[[str], int]:
    """From a label to its index; a bare module has none and refuses."""
    if isinstance(model, Model):
        return model.class_index

    def refuse(label: str) -> int:
        raise TargetError(
            f"a bare module has no labels, so {label!r} means nothing to it; use an index"
        )

    return refuse


def _attribution(
    one: Method,
    captured: Capture,
    heatmap: Tensor,
    raw: Tensor,
    cost: Cost,
    remarks: tuple[tuple[int, str], ...],
    precision: str,
) -> Attribution:
    layers: tuple[str, ...] = ()
    if one.info.needs.layer:
        layers = tuple(layer.name for layer in captured.layers)
    unsound = captured.unsound[:, None, None]
    return Attribution(
        heatmap=heatmap.float().masked_fill(unsound, torch.nan),
        raw=raw.float().masked_fill(unsound, torch.nan),
        targets=captured.targets,
        scores=captured.scores.float(),
        logits=captured.logits.float(),
        layers=layers,
        method=one.name,
        cost=cost,
        precision=precision,
        remarks=remarks,
    )


def _warn_if_not_finite(results: dict[str, Attribution]) -> None:
    """Name the images whose map is NaN; one look for all methods, so one wait for the GPU."""
    finite = torch.stack([one.heatmap.flatten(1).isfinite().all(1) for one in results.values()])
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
