"""Write the library calls behind a page as Python."""

from cam._output.viewer.payload import ViewerOptions
from cam.pages.ui.server import served
from cam.pages.ui.server.resources import SEED
from cam.pages.ui.state.choices import Choices, ModelChoice, Picture, write_reading
from cam.pages.ui.widgets.viewer_options import PICTURED, TINY
from cam.polarity import DIVERGING


def write_explaining(
    choices: Choices, picture: Picture, top: int | None, options: ViewerOptions
) -> str:
    """Write the call behind Explore, ready to run."""
    methods = [
        f"cam.method({method.name!r}, {', '.join(f'{k}={v!r}' for k, v in method.parameters)})"
        if method.parameters
        else repr(method.name)
        for method in choices.methods
    ]
    arguments = [f"methods=[{', '.join(methods)}]"]
    if choices.question is not None:
        arguments.append(f"targets={choices.question!r}")
    elif choices.against is not None:
        target = top if choices.target is None else choices.target
        arguments.append(f"targets=cam.targets.Contrast({target}, {choices.against})")
    elif choices.target is not None:
        arguments.append(f"targets={choices.target}")
    if choices.layer is not None:
        arguments.append(f"layers={choices.layer!r}")
    end, pictured, heatmap = "percentile", PICTURED[options.signs], "values[0]"
    if options.signs == "against":
        end = "100"
        heatmap += f" / values[0].abs().nanquantile(percentile / 100).clamp(min={TINY})\n"
        heatmap += "    heatmap = heatmap.where(heatmap < 0, float('nan'))"
    look = f"{options.alpha}, {end}, {options.threshold}, signed, {options.fade}"
    return (
        f"{write_loading(choices.model, picture)}"
        f"maps = cam.attribute(model, model.prepare(photo), {', '.join(arguments)})\n"
        "crop = model.crop(photo)\n"
        "for name, explanation in maps.items():\n"
        "    percentile = cam.methods()[name].percentile\n"
        f"    values, signed = explanation.picture({'' if pictured is None else pictured})\n"
        f"    colours = {DIVERGING!r} if signed else {options.colormap!r}\n"
        f"    heatmap = {heatmap}\n"
        f'    cam.overlay(crop, heatmap, colours, {look}).save(f"{{name}}.png")\n'
    )


def write_loading(
    model: ModelChoice,
    picture: Picture | None,
    other: ModelChoice | None = None,
    imports: str = "import cam\n",
) -> str:
    """Write how a model, a second one and an image are loaded, where there are such."""
    lines = _write_model("model", model)
    lines += "" if other is None else _write_model("other", other)
    if picture is not None:
        lines += f"photo = {write_reading(picture)}\n"
    imports += "from cam._media.edits import edit_image\n" if "edit_image(" in lines else ""
    imports += "import torch\n" if "torch.manual_seed" in lines else ""
    return f"{imports}\n{lines}"


def _write_model(variable: str, choice: ModelChoice) -> str:
    weights = choice.weights
    seed = f"torch.manual_seed({SEED})\n" if weights.random else ""
    options = ", weights=None" if weights.random else ""
    if weights.path is not None:
        # Of an upload, as the visitor has it; where it lies on the server is nobody's business.
        options = f", weights={(weights.upload or weights.path)!r}"
        options += f", labels={weights.labels!r}" if weights.labels else ""
    options += f", prompts={list(choice.prompts)!r}" if choice.prompts else ""
    if served.has_model(choice.name):
        return f"{variable} = …  # {choice.name!r}, which this server was started with\n"
    return f'{seed}{variable} = cam.load_model("{choice.name}"{options})\n'
