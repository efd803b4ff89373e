"""Write the library calls behind a page as Python."""

from cam.pages.ui.charts.display import Display
from cam.pages.ui.server.resources import SEED, Choices, ModelChoice, Picture
from cam.polarity import DIVERGING


def write_explaining(choices: Choices, picture: Picture, top: int, display: Display) -> str:
    """Write the call behind Explore, ready to run."""
    methods = [
        f"cam.method({method.name!r}, {', '.join(f'{k}={v!r}' for k, v in method.parameters)})"
        if method.parameters
        else repr(method.name)
        for method in choices.methods
    ]
    options = [f"methods=[{', '.join(methods)}]"]
    if choices.against is not None:
        target = top if choices.target is None else choices.target
        options.append(f"targets=cam.targets.Contrast({target}, {choices.against})")
    elif choices.target is not None:
        options.append(f"targets={choices.target}")
    if choices.layer is not None:
        options.append(f"layers={choices.layer!r}")
    look = f"{display.colormap!r}, {display.alpha}, percentile"
    look += f", {display.threshold}" if display.threshold else ""
    lines = f"    picture = cam.overlay(crop, explanation.heatmap[0], {look})\n"
    signs = any(method.info.kind == "contribution" for method in choices.methods)
    if signs if display.signed is None else display.signed:
        lines = (
            f"    values, signed = explanation.picture({display.signed or ''})\n"
            f"    colours = {DIVERGING!r} if signed else {display.colormap!r}\n"
            f"    options = colours, {display.alpha}, percentile, {display.threshold}, signed\n"
            "    picture = cam.overlay(crop, values[0], *options)\n"
        )
    return (
        f"{write_loading(choices.model, picture)}"
        f"maps = cam.attribute(model, model.prepare(photo), {', '.join(options)})\n"
        "crop = model.crop(photo)\n"
        "for name, explanation in maps.items():\n"
        "    percentile = cam.methods()[name].percentile\n"
        f"{lines}"
        '    picture.save(f"{name}.png")\n'
    )


def write_loading(
    model: ModelChoice,
    picture: Picture | None,
    other: ModelChoice | None = None,
    imports: str = "import cam\n",
) -> str:
    """Write how a model, a second one and a picture are loaded, where there are such."""
    lines = _write_model("model", model)
    lines += "" if other is None else _write_model("other", other)
    if picture is not None:
        bundled = picture.digest.startswith("sample:")
        source = picture.photo.name
        image = f'cam.sample("{source}")' if bundled else f"cam.load_image({source!r})"
        lines += f"photo = {picture.code or image}\n"
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
    return f'{seed}{variable} = cam.load_model("{choice.name}"{options})\n'
