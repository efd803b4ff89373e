"""What the commands of ``python -m cam`` share."""

import ast
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click
import torch

import cam
from cam._formatting import value_of
from cam._models.load import BUNDLED
from cam._models.model import Model
from cam.errors import CamError, LayerError, MethodError, MetricError, TargetError, nearest

T = TypeVar("T")


@contextmanager
def told() -> Iterator[None]:
    """Turn an error of the library into its sentence and an exit status."""
    try:
        yield
    except (MethodError, MetricError, LayerError, TargetError) as error:
        raise click.UsageError(str(error)) from None
    except CamError as error:
        raise click.ClickException(str(error)) from None


def model_options(command: Any) -> Any:
    """The options that say which model, shared by the commands that load one."""
    for option in reversed(
        [
            click.option(
                "--model", "-m", "name", default=BUNDLED, show_default=True, help="See `models`."
            ),
            click.option(
                "--weights",
                default="DEFAULT",
                help="A .safetensors or .pth file, or `none` for random weights.",
            ),
            click.option("--labels", help="A file of class names: one a line, or JSON."),
            click.option(
                "--device",
                type=click.Choice(["auto", "cpu", "cuda"]),
                default="auto",
                show_default=True,
                help="auto takes a GPU where there is one.",
            ),
        ]
    ):
        command = option(command)
    return command


def load(name: str, weights: str, labels: str | None, device: str) -> Model:
    """The model that the options name."""
    if name not in cam.model_names():
        raise click.UsageError(f"there is no model {name!r}; {nearest(name, cam.model_names())}")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise click.UsageError("there is no CUDA device here; use --device cpu")
    return cam.load_model(
        name, None if weights.lower() == "none" else weights, device, labels=labels
    )


def as_json(value: object) -> None:
    """Print for a program."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def called(text: str, make: Callable[..., T]) -> T:
    """``name`` or ``name(key=value, …)`` as a method or metric with those parameters.

    Raises:
        click.UsageError: It is neither.
    """
    if "(" not in text:
        return make(text)
    try:
        call = ast.parse(text, mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError
        parameters = {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
    except (ValueError, SyntaxError):
        raise click.UsageError(
            f"{text!r} is no name with parameters; write it as 'name(steps=64)'"
        ) from None
    return make(call.func.id, **parameters)


def target_of(text: str | None) -> int | str | None:
    """A class index where the text is a number, else a label."""
    try:
        return int(text) if text else text
    except ValueError:
        return text


def options_of(texts: tuple[str, ...]) -> dict[str, Any]:
    """``key=value`` pairs; a value that Python would read as a number or None is one."""
    found: dict[str, Any] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise click.UsageError(f"{text!r} is no option; write it as key=value")
        found[key] = value_of(value)
    return found
