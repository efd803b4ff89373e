"""Pack a plan for other processes, and unpack it there.

Those who read get the data and the transform; those who measure get the rest beside it: the network
apart, the settings of torch, and the methods and metrics that are not the library's own.
"""

import copy
import logging
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from cam._acceleration.acceleration import accelerate
from cam._engine.fast_ops.replacement import TORCH
from cam._methods.base.method_registry import METHODS
from cam._metrics.base.metric_registry import METRICS
from cam._runs.engines.shard_reader import Source, describe_error
from cam._runs.plan.run_plan import (
    Plan,
    describe_surroundings,
    list_differences,
    name_inference,
)
from cam.errors import InputError, RunError

LOG = logging.getLogger("cam.evaluate")
_ENVIRONMENT = ("CAM_KERNELS", "TRITON_INTERPRET")
_BACKENDS = (
    (torch.backends.cuda.matmul, "fp32_precision"),
    (torch.backends.cudnn.conv, "fp32_precision"),  # type: ignore[attr-defined]
    (torch.backends.cudnn, "benchmark"),
    (torch.backends.cudnn, "deterministic"),
)


@dataclass(frozen=True)
class Parcels:
    """A plan as bytes.

    Attributes:
        source: What those who read need: a :class:`cam._runs.engines.shard_reader.Source`.
        plan: The plan without its data and its network, and what was registered.
        network: The module, on the processor.
        settings: What of torch and the environment the scores may depend on.
    """

    source: bytes
    plan: bytes
    network: bytes
    settings: Mapping[str, Any]


def pack(plan: Plan) -> Parcels:
    """Pack a plan so that it can be sent.

    Raises:
        InputError: Something of it cannot be sent to another process.
    """
    from ray import cloudpickle

    if torch.is_autocast_enabled(plan.model.device.type):
        raise InputError(
            "the engine 'ray' works in other processes, which torch.autocast does not reach; give "
            "precision='bf16' or 'fp16' instead, or use the engine 'local'"
        )
    # On the processor: where a worker's GPU is, is the worker's affair.
    network = plan.model.module
    if plan.model.device.type != "cpu":
        network = copy.deepcopy(network).cpu()
    shell = copy.copy(plan.model)
    shell.module = nn.Identity()
    source = replace(Source.of(plan), model=shell)
    rest = replace(plan, model=shell, options=plan.portable_options, data=None)  # type: ignore[arg-type]
    try:
        return Parcels(
            cloudpickle.dumps(source),
            cloudpickle.dumps((rest, _list_registered())),
            cloudpickle.dumps(network),
            read_settings(),
        )
    except Exception as error:
        # Somebody's own module, transform or data set: the log says which object will not go.
        LOG.debug("a plan cannot be pickled", exc_info=True)
        raise InputError(
            "the model or the data cannot be sent to another process, as the engine 'ray' does "
            f"({describe_error(error)}); use the engine 'local'"
        ) from None


def unpack(source: bytes, shell: bytes, network: bytes, device: str) -> Plan:
    """Unpack the plan, with its network on this process's device.

    Raises:
        RunError: Something here differs that the scores depend on.
    """
    rest, registered = pickle.loads(shell)
    METHODS.adopt(registered[0])
    METRICS.adopt(registered[1])
    plan: Plan = replace(rest, data=pickle.loads(source).data)
    plan.model.module = pickle.loads(network)
    plan.model.to(device)
    if plan.config["inference"] != TORCH:
        accelerate(plan.model, str(plan.config["inference"]).partition(" ")[0])
    here = describe_surroundings(plan.model.device)
    here["inference"] = name_inference(plan.model.module)
    there = {name: plan.config[name] for name in here}
    differs = list(list_differences(there, here))
    if differs:
        raise RunError(
            "a worker would not give the same scores as this process: "
            f"{'; '.join(differs[:4])}; have the same on every machine"
        )
    return plan


def _list_registered() -> tuple[dict[str, Any], dict[str, Any]]:
    """List the methods and metrics that the caller registered."""

    def select(entries: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: info
            for name, info in entries.items()
            if not str(getattr(info.function, "__module__", "")).startswith("cam.")
        }

    return select(METHODS.all()), select(METRICS.all())


def read_settings() -> dict[str, Any]:
    """Read the settings that scores may depend on."""
    return {
        "backends": [getattr(backend, name) for backend, name in _BACKENDS],
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(),
        "environment": {name: os.environ.get(name) for name in _ENVIRONMENT},
    }


def adopt(settings: Mapping[str, Any]) -> None:
    """Compute as the process does that :func:`read_settings` was called in."""
    for name, value in settings["environment"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    for (backend, name), value in zip(_BACKENDS, settings["backends"], strict=True):
        setattr(backend, name, value)
    torch.use_deterministic_algorithms(settings["deterministic"])
    torch.set_num_threads(settings["threads"])
