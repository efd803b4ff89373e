"""Show which parts of a run's images activate a channel most."""

from html import escape

import numpy as np
import streamlit as st

import cam
from cam._attribution.channel_peaks import ChannelPeaks, find_peaks
from cam._data.dataset import Dataset
from cam.pages.ui.charts.elements import div, element, span
from cam.pages.ui.charts.numbers import format_value
from cam.pages.ui.charts.tiles import encode_webp
from cam.pages.ui.server import allowed_roots, jobs, resources
from cam.pages.ui.server.allowed_roots import EXAMPLE
from cam.pages.ui.server.resources import identify_run, share
from cam.pages.ui.state import address
from cam.pages.ui.state.choices import ModelChoice
from cam.pages.ui.state.selection import OF_IMAGE, RUN, ImageName, Selection
from cam.pages.ui.subject import run_pictures
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets.clickable import show_clickable
from cam.pages.ui.widgets.links import choose
from cam.pages.ui.widgets.prose import escape_markdown, report_errors, write_small

# Of each channel, one an image.
PATCHES = 9
# Of a run, evenly spread over its data: a pass for each, on a CPU some seconds for all.
MOST_IMAGES = 200
BATCH = 8
# The cell and one on each side of it; of fine grids at least a seventh of the image.
CELLS = 3
LEAST = 1 / 7
# Pixels of a patch on the page.
SIDE = 112


def show_patches(subject: Subject, layer: str, channel: int) -> None:
    """Show the patches of a run's images on which a channel is highest."""
    finished = [state.name for state in cam.runs(allowed_roots.get_runs_folder()) if state.done]
    name = choose("Images of the run", [*finished, EXAMPLE], "patch_run", "run")
    with report_errors(advice="Choose another run."):
        run = cam.Run.open(allowed_roots.find_run_path(name))
        data = run_pictures.open_data(run)
        key = ("patches", identify_run(run), subject.choice, layer)
        model, numbers = subject.model, choose_images(len(data))

        def work(tell: jobs.Tell) -> tuple[ChannelPeaks | None, int]:
            return search(model, data, numbers, layer, tell)

        answer = jobs.wait_for(key, "Looking for patches", work)
        if answer is not None:
            peaks, missing = answer
            _draw_patches(run, subject.choice, peaks, channel, name)
            _describe(peaks, len(numbers), len(data), missing, layer, name)


def choose_images(count: int) -> list[int]:
    """Choose the images that are looked at, evenly spread over a run's data."""
    spread = np.linspace(0, count - 1, min(count, MOST_IMAGES))
    return [round(number) for number in spread.tolist()]


def search(
    model: cam.Model, data: Dataset, numbers: list[int], layer: str, tell: jobs.Tell
) -> tuple[ChannelPeaks | None, int]:
    """Send images through the network up to a layer.

    Returns:
        The peaks of all channels, and how many images could not be read.

    Raises:
        Cancelled: Nobody waits for it any more.
    """
    peaks, missing = None, 0
    for start in range(0, len(numbers), BATCH):
        note = f"{start:,} of {len(numbers):,} images"
        if not tell(start / len(numbers), note):
            raise cam.Cancelled("nobody waited for the patches any more")
        images, readable = [], []
        for number in numbers[start : start + BATCH]:
            try:
                images.append(run_pictures.require_image(data[number]))
            except cam.CamError:
                missing += 1
            else:
                readable.append(number)
        if images:
            peaks = find_peaks(model, model.prepare(images), readable, layer, PATCHES, peaks)
    return peaks, missing


def _draw_patches(
    run: cam.Run, choice: ModelChoice, peaks: ChannelPeaks | None, channel: int, name: str
) -> None:
    if peaks is None:
        st.info("None of the run's images can be read.")
        return
    buttons = []
    row = zip(*(part[channel].tolist() for part in (peaks.values, peaks.images, peaks.cells)),
              strict=True)  # fmt: skip
    for value, number, cell in row:
        if value <= 0:
            continue
        identity, source = cut_patch(run, choice, number, cell, peaks.grid)
        alt = escape(f"Patch of {identity} with an activation of {value:.3g}")
        lines = span("figure", format_value(value)), span("", escape(identity))
        image = f'<img src="{source}" alt="{alt}">'
        buttons.append(
            element(
                "button", "", image, *lines, type="button", data_pick=str(number), title=identity
            )
        )
    if not buttons:
        write_small("The channel is nowhere above 0 on these images.")
        return

    def take(picked: str) -> None:
        linked = Selection(ImageName(RUN, name, picked)).write()
        address.write({"image": linked["image"], "channel": [str(channel)]}, OF_IMAGE)

    show_clickable(div("gallery", *buttons), "patch_images", take)


@share(max_entries=512)
def cut_patch(
    run: cam.Run, choice: ModelChoice, number: int, cell: int, grid: tuple[int, int]
) -> tuple[str, str]:
    """Cut the patch around a cell of the feature grid; its image's id, and a ``data:`` address."""
    item = run_pictures.open_data(run)[number]
    crop = resources.load_model(choice).crop(run_pictures.require_image(item))
    box = locate_patch(cell, grid, crop.size)
    return str(item.id), encode_webp(crop.convert("RGB").resize((SIDE, SIDE), box=box))


def locate_patch(
    cell: int, grid: tuple[int, int], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Locate a square patch around a cell: left, top, right and bottom within the image.

    Args:
        cell: row × columns + column.
        grid: Rows and columns.
        size: Width and height of what the model sees.
    """
    row, column = divmod(cell, grid[1])
    width, height = size
    side = max(CELLS * width / grid[1], CELLS * height / grid[0], LEAST * min(size))
    side = min(side, width, height)
    left = min(max((column + 0.5) * width / grid[1] - side / 2, 0), width - side)
    top = min(max((row + 0.5) * height / grid[0] - side / 2, 0), height - side)
    return left, top, left + side, top + side


def _describe(
    peaks: ChannelPeaks | None, looked: int, total: int, missing: int, layer: str, name: str
) -> None:
    if peaks is None:
        return
    rows, columns = peaks.grid
    sample = (
        f"{looked:,} of its {total:,} images, evenly spread," if looked < total else "its images"
    )
    unread = f" {missing:,} could not be read." if missing else ""
    write_small(
        f"Of the run **{escape_markdown(name)}**: {sample} went through the network up to "
        f"`{layer}`, a grid of {rows} × {columns}. Each patch is the cell with the highest "
        f"activation of an image and a margin of a cell; a click opens the image.{unread}"
    )
