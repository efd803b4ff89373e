"""Show a result in a notebook, and read selections."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any

from cam._extras import require
from cam._output.viewer.payload import ViewerOptions
from cam._output.viewer.region import Region, read_region
from cam._output.viewer.standalone import read_script, read_styles
from cam.errors import InputError
from cam.types import Attribution, Attributions

if TYPE_CHECKING:
    from anywidget import AnyWidget

# The viewer mounts itself where a component of a page would.
_MOUNT = """
export default {
  render({ model, el }) {
    const setStateValue = (name, value) => {
      model.set(name, value ?? {});
      model.save_changes();
    };
    let leave = () => {};
    const draw = () => {
      leave = mount({ data: model.get("data"), parentElement: el, setStateValue });
    };
    draw();
    model.on("change:data", draw);
    return () => {
      model.off("change:data", draw);
      leave();
    };
  },
};
"""


def widget(
    result: Attribution | Mapping[str, Attribution], index: int = 0, **options: Any
) -> "AnyWidget":
    """Show an image with all maps in a notebook, and read selections.

    The dashboard's viewer: opacity, threshold, colours, zoom, values under the pointer, a box and a
    brush. What is selected comes back: ``.selection`` is None or the mask with the share of each
    map's evidence inside, and ``.observe(function, "region")`` calls a function at each change.

    Args:
        result: Of :func:`cam.attribute`, or one method's.
        index: Which image of the batch.
        options: How it opens: ``alpha``, ``fade``, ``threshold``, ``colormap``, ``signs``.

    Returns:
        An anywidget, for Jupyter, VS Code, Colab and marimo.

    Raises:
        MissingExtraError: The extra "notebook" is not installed.
        InputError: There is no such image or option, or the result has no images.
    """
    require("notebook", "cam.widget")
    if not isinstance(result, Attribution | Mapping):
        raise InputError(f"a widget shows a result of cam.attribute, not {type(result).__name__}")
    results = {result.method: result} if isinstance(result, Attribution) else result
    view = Attributions(results).view
    if view is None:
        raise InputError("this result has no images to show: it came from another process")
    count = len(next(iter(results.values())).heatmap)
    if not -count <= index < count:
        raise InputError(f"there is no image {index}: the batch has {count}")
    unknown = options.keys() - asdict(ViewerOptions())
    if unknown:
        raise InputError(
            f"the viewer has no option {', '.join(sorted(unknown))}; it has "
            f"{', '.join(asdict(ViewerOptions()))}"
        )
    payload = view.pack(results, index % count)
    payload |= {"options": asdict(ViewerOptions(**options)), "report": ["region"]}
    viewer: AnyWidget = _define()(data=payload | {"looks": asdict(ViewerOptions())})
    return viewer


@cache
def _define() -> "type[AnyWidget]":
    """Define the widget once its packages are needed."""
    import traitlets
    from anywidget import AnyWidget

    class MapViewer(AnyWidget):
        """An image with its maps; ``region`` and ``looks`` are what its visitor set."""

        _esm = read_script().replace("export default function mount", "function mount") + _MOUNT
        _css = read_styles()
        data = traitlets.Dict().tag(sync=True)
        region = traitlets.Dict().tag(sync=True)
        looks = traitlets.Dict().tag(sync=True)

        @property
        def selection(self) -> Region | None:
            """What is selected now."""
            return read_region(self.region or None, self.data)

    return MapViewer
