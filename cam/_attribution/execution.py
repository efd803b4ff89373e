"""Execute a plan: run its passes, and each method on their results."""

import time
from dataclasses import replace

import torch
from torch import Tensor, nn

from cam._attribution.plan import Plan, SharedPass
from cam._engine.capture import capture
from cam._engine.heatmaps import heatmap_and_raw
from cam._engine.layers import is_linear_after
from cam._engine.method_sources import Attention, LayerGradients, PixelGradients, TransformerBlocks
from cam._engine.passes import Passes, Report
from cam._engine.precision import allow_any_layout, name_precision, use_precision
from cam._methods.base.method_registry import Method
from cam._methods.base.smoothing import over_views
from cam._models.network import Network
from cam.targets import Targets
from cam.types import Attribution, Cost, Maps


def execute(
    plan: Plan,
    network: Network,
    batch: Tensor,
    targets: Targets,
    owner: Tensor | None,
    fusion: str,
    batch_size: int,
    progress: Report | None,
) -> dict[str, Attribution]:
    """Run the shared passes in turn, and each method on their results.

    Args:
        plan: As :func:`cam._attribution.plan.make_plan` makes it.
        network: The network that is explained.
        batch: (B, C, H, W) floats on its device.
        targets: As for :func:`cam.targets.select_scores`.
        owner: (N,) int64, which image each target is of; None: each image has one.
        fusion: How the maps of several layers are fused where a method does not fix it.
        batch_size: How many inputs a method with further passes sends through at once.
        progress: Called after each of those batches.

    Returns:
        Key → result, in the order of the plan's keys.
    """
    module = network.module
    results: dict[str, Attribution] = {}
    for shared in plan.passes:
        start = time.perf_counter()
        layers = [(name, module.get_submodule(name)) for name in shared.layers]
        with use_precision(shared.precision, batch.device):
            with allow_any_layout(_passes_no_kink(module, shared)):
                captured = capture(
                    module,
                    batch,
                    targets,
                    network.class_index,
                    shared.reads,
                    layers,
                    shared.kernel_rules,
                    owner,
                )
            # In another precision the top class may be another one.
            targets = captured.pixels.targets
            cost = Cost(1, int(shared.backward), _seconds_since(start, batch))
            passes = Passes(module, captured, batch_size, progress)
            for key, method in shared.methods.items():
                results[key] = _explain(method, passes, cost, shared, fusion)
    return {key: results[key] for key in plan.keys}


def _explain(
    method: Method, passes: Passes, shared_cost: Cost, shared: SharedPass, fusion: str
) -> Attribution:
    """Make one method's result from the shared passes."""
    start = time.perf_counter()
    info, captured = method.info, passes.captured
    pixels = captured.pixels
    size = tuple(pixels.inputs.shape[2:])
    remarks: dict[tuple[int, str], None] = {}
    errors: list[Tensor | None] = []

    def explain() -> tuple[Tensor, Tensor]:
        further = (passes,) if info.passes else ()
        maps = [
            info.function(source, *further, **method.parameters)
            for source in passes.captured.read(info.reads)
        ]
        if passes.captured is captured:
            remarks.update(dict.fromkeys(remark for each in maps for remark in each.remarks))
            errors.extend(each.error for each in maps)
        coarse = info.layer or info.attention
        return heatmap_and_raw(maps, size if coarse else None, info.fusion or fusion)

    unsound = pixels.unsound.view(-1, *[1] * len(size))
    layers = shared.layers if info.layer else ()

    def complete(heatmap: Tensor, raw: Tensor) -> Attribution:
        return Attribution(
            heatmap=heatmap.float().masked_fill(unsound, torch.nan),
            raw=raw.float().masked_fill(unsound, torch.nan),
            targets=pixels.targets,
            scores=pixels.scores.float(),
            logits=pixels.logits.float(),
            layers=layers,
            method=method.name,
            kind=info.kind,
            cost=Cost(
                shared_cost.forwards + passes.forwards,
                info.reads.backward + passes.backwards,
                shared_cost.seconds + _seconds_since(start, pixels.inputs),
            ),
            precision=name_precision(passes.module, shared.precision, pixels.inputs.device),
        )

    def finish(maps: Maps) -> Attribution:
        return complete(*heatmap_and_raw([maps], size if layers else None, info.fusion or fusion))

    # What several layers, or variants of the picture, are fused to is no map of the first of them.
    smoothed = any(method.parameters.get(name) for name in ("aug_smooth", "eigen_smooth"))
    with passes.of(method.name, None if smoothed or len(layers) > 1 else finish):
        if method.parameters.get("aug_smooth"):
            heatmap, raw = over_views(passes, info.reads, info.kernel_rules, explain)
            errors.clear()  # that of one picture, and not of the mean over its variants
        else:
            heatmap, raw = explain()
    error = errors[0] if len(errors) == 1 else None
    return replace(
        complete(heatmap, raw),
        remarks=tuple(remarks),
        error=None if error is None else error.float().masked_fill(unsound, torch.nan),
    )


def _passes_no_kink(module: nn.Module, shared: SharedPass) -> bool:
    """Test whether no gradient that is read passes a ReLU."""
    if any(
        issubclass(source, PixelGradients | Attention | TransformerBlocks)
        for source in shared.reads
    ):
        return False
    if any(issubclass(source, LayerGradients) for source in shared.reads):
        return is_linear_after(module, shared.layers)
    return True


def _seconds_since(start: float, batch: Tensor) -> float:
    """Return the time since the start, a GPU's pending work included."""
    if batch.is_cuda:
        torch.cuda.synchronize(batch.device)
    return time.perf_counter() - start
