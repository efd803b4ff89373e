"""Share options, errors and output among the commands."""

import ast
import json
from collections.abc import Callable
from functools import partial, reduce, wraps
from typing import Any, TypeVar

import click

import cam
from cam import kernels
from cam._acceleration.acceleration import ENGINES
from cam._engine.fast_ops.replacement import TORCH
from cam._engine.precision import PRECISIONS
from cam._formatting import value_of
from cam._models.black_box import names_program
from cam._models.device import DEVICES, choose_device
from cam._models.families.bundled import BUNDLED
from cam._models.load import names_checkpoint
from cam._models.model import Model
from cam._models.own_code import names_code
from cam.errors import CamError, LayerError, MethodError, MetricError, TargetError, require_known
from cam.polarity import DIVERGING

T = TypeVar("T")
Command = Callable[..., None]


def several(name: str, default: tuple[str, ...] = (), **more: Any) -> Callable[[Command], Command]:
    """Make an option that may be there several times."""
    variable = f"{name.replace('-', '_')}s"
    return click.option(f"--{name}", variable, multiple=True, default=default, **more)


_MODEL_OPTIONS = (
    click.option(
        "--model",
        "-m",
        "name",
        default=BUNDLED,
        help="See `models`; or hf/OWNER/NAME of Hugging Face's hub, hf/FOLDER, or "
        "package.module:function, a function that returns a model, or an .onnx, .pt2 or "
        ".torchscript file.",
    ),
    click.option(
        "--weights",
        default="DEFAULT",
        show_default=False,
        help="A .safetensors or .pth file, or `none` for random weights.",
    ),
    click.option("--labels", help="A file of class names: one a line, or JSON."),
    several("prompt", help="A class in words, for models of images and text; give several."),
    click.option(
        "--device",
        type=click.Choice(DEVICES),
        default="auto",
        help="auto takes a CUDA or ROCm GPU where there is one; mps is Apple's, xpu Intel's.",
    ),
    click.option(
        "--inference",
        type=click.Choice(ENGINES),
        default=TORCH,
        show_default=True,
        help="What computes passes without gradients; auto measures what is fastest here.",
    ),
)
_OVERLAY_OPTIONS = (
    click.option(
        "--colormap",
        default="turbo",
        help=f"Of maps without a sign; contributions are drawn for and against in {DIVERGING}.",
    ),
    click.option("--alpha", type=click.FloatRange(0, 1), default=0.5),
)
layer_option = several("layer", help="Dotted name; several are averaged.")
_EXPLANATION_OPTIONS = (
    click.option(
        "--target",
        help="A class index or label; by default each image's top class. Of a segmenter "
        "segment:CLASS, segment:CLASS@x,y or segment:CLASS@x0,y0,x1,y1; of a detector all, "
        "box:x0,y0,x1,y1, box:CLASS@x0,y0,x1,y1, or so with missed: or region:, in pixels of the "
        "input.",
    ),
    layer_option,
    click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        help="In which the network computes; by default it keeps its precision.",
    ),
)


class LibraryCommand(click.Command):
    """A command that turns an error of the library into its sentence and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (MethodError, MetricError, LayerError, TargetError) as error:
            raise click.UsageError(str(error), ctx) from None
        except CamError as error:
            raise click.ClickException(str(error)) from None


def model_options(command: Command) -> Command:
    """Add a model's options; the command gets ``load``, which loads it."""

    @wraps(command)
    def run(
        *,
        name: str,
        weights: str,
        labels: str | None,
        prompts: tuple[str, ...],
        device: str,
        inference: str,
        **options: Any,
    ) -> None:
        load = partial(_load, name, weights, labels, prompts, device, inference)
        command(load=load, **options)

    return _add(run, _MODEL_OPTIONS)


def explanation_options(command: Command) -> Command:
    """Add what to explain; the command gets it in ``explaining``, for :func:`cam.attribute`."""

    @wraps(command)
    def run(
        *, target: str | None, layers: tuple[str, ...], precision: str | None, **options: Any
    ) -> None:
        try:
            targets: int | str | None = int(target) if target else target
        except ValueError:
            targets = target
        explaining = {"targets": targets, "layers": layers or None, "precision": precision}
        command(explaining=explaining, **options)

    return _add(run, _EXPLANATION_OPTIONS)


def overlay_options(command: Command) -> Command:
    """Add the options of an overlay; the command gets them in ``overlaying``."""

    @wraps(command)
    def run(*, colormap: str, alpha: float, **options: Any) -> None:
        require_known(colormap, kernels.COLORMAPS, "colour map", click.UsageError)
        command(overlaying={"colormap": colormap, "alpha": alpha}, **options)

    return _add(run, _OVERLAY_OPTIONS)


def _add(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    return reduce(lambda function, option: option(function), reversed(options), command)


def _load(
    name: str,
    weights: str,
    labels: str | None,
    prompts: tuple[str, ...],
    device: str,
    inference: str,
) -> Model:
    if not names_checkpoint(name) and not names_code(name) and not names_program(name):
        require_known(name, cam.model_names(), "model", click.UsageError)
    model = cam.load_model(
        name,
        None if weights.lower() == "none" else weights,
        choose_device(device),
        labels=labels,
        prompts=prompts or None,
    )
    if inference != TORCH:
        done = cam.accelerate(model, inference)
        why = f", because {done.reason}" if done.reason else ""
        click.echo(f"Note: passes without gradients run in {done.engine}{why}", err=True)
    return model


def print_json(value: object) -> None:
    """Print a value for a program."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_notes(notes: tuple[str, ...] | list[str], name: str) -> None:
    """Print a picture's notes to standard error."""
    for note in notes:
        click.echo(f"Note: {name}: {note}", err=True)


def parse_call(text: str, make: Callable[..., T]) -> T:
    """Make a method or metric of ``name`` or ``name(key=value, …)``.

    Raises:
        click.UsageError: It is neither.
    """
    if "(" not in text:
        return make(text)
    try:
        call = ast.parse(text, mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError
        parameters = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    except (ValueError, SyntaxError):
        raise click.UsageError(
            f"{text!r} is no name with parameters; write it as 'name(steps=64)'"
        ) from None
    return make(call.func.id, **parameters)


def parse_options(texts: tuple[str, ...]) -> dict[str, Any]:
    """Read ``key=value`` pairs, whose values may be numbers or None."""
    options: dict[str, Any] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise click.UsageError(f"{text!r} is no option; write it as key=value")
        options[key] = value_of(value)
    return options
