"""Test changes of images against masks and pixels worked out by hand."""

import base64
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFilter

import cam
from cam._media.edits import GRID, WAYS, Edit, edit_image, pack_mask, select_hottest
from cam.errors import ImageError

BOX = "box-250-500-750-1000"


def make_image(width: int = 40, height: int = 30) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(noise)


def make_edit(way: str, part: str) -> Edit:
    return Edit(way, part, "coffee" if way == "paste" else "")


def write_grid(bits: bytes) -> str:
    return "grid-" + base64.urlsafe_b64encode(zlib.compress(bits)).decode().rstrip("=")


def test_a_box_covers_the_pixels_between_its_sides():
    expected = np.zeros((4, 8), bool)
    expected[2:, 2:6] = True
    assert (Edit("blur", BOX).draw_mask(4, 8) == expected).all()


@pytest.mark.parametrize("side", ["0-1", "499-500", "500-501", "999-1000"])
def test_a_thin_box_covers_a_pixel(side):
    start, end = side.split("-")
    mask = Edit("blur", f"box-{start}-{start}-{end}-{end}").draw_mask(7, 5)
    assert mask.sum() == 1
    [[row, column]] = np.argwhere(mask)
    assert abs(row - int(start) * 7 / 1000) <= 1 and abs(column - int(start) * 5 / 1000) <= 1


@pytest.mark.parametrize("size", [(GRID, GRID), (GRID * 2, GRID * 3)])
def test_a_part_is_packed_and_drawn_again(size):
    cells = np.random.default_rng(1).random((GRID, GRID)) < 0.3
    rows, columns = size[0] // GRID, size[1] // GRID
    mask = cells.repeat(rows, 0).repeat(columns, 1)
    assert (Edit("erase", pack_mask(mask)).draw_mask(*size) == mask).all()


def test_a_part_that_fills_no_cell_is_still_a_part():
    mask = np.zeros((10 * GRID, 10 * GRID), bool)
    mask[123, 456] = True
    drawn = Edit("erase", pack_mask(mask)).draw_mask(GRID, GRID)
    assert np.argwhere(drawn).tolist() == [[12, 45]]


def test_a_random_part_is_its_seeds_and_as_large_as_it_says():
    first, again, other = (Edit("erase", f"random-20-{seed}") for seed in (3, 3, 4))
    mask = first.draw_mask(32, 48)
    # 51 of 16 × 16 cells, each of two by three pixels.
    assert mask.sum() == 51 * 6
    assert (mask == again.draw_mask(32, 48)).all()
    assert (mask != other.draw_mask(32, 48)).any()
    assert (mask.reshape(16, 2, 16, 3).any((1, 3)) == mask.reshape(16, 2, 16, 3).all((1, 3))).all()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("part", [BOX, "random-20-0"])
def test_only_the_part_changes(way, part):
    image, crop = make_image(), (5, 3, 35, 23)
    before = image.tobytes()
    edit = make_edit(way, part)
    edited = edit_image(image, crop, [edit])
    mask = np.zeros((30, 40), bool)
    mask[3:23, 5:35] = edit.draw_mask(20, 30)
    changed = (np.asarray(edited) != np.asarray(image)).any(2)
    assert not changed[~mask].any()
    # Noise differs from anything else at nearly each pixel.
    assert changed[mask].mean() > 0.95
    assert edited.size == image.size and image.tobytes() == before
    assert edit_image(image, crop, [str(edit)]).tobytes() == edited.tobytes()


def test_what_stands_in_the_part():
    image, crop = make_image(), (5, 3, 35, 23)
    part = np.asarray(image)[3:23, 5:35]
    mask = Edit("erase", BOX).draw_mask(20, 30)
    drawn = {
        way: np.asarray(edit_image(image, crop, [make_edit(way, BOX)]))[3:23, 5:35][mask]
        for way in WAYS
    }
    assert (drawn["grey"] == 128).all()
    mean = part.reshape(-1, 3).astype(np.float64).mean(0)
    assert np.abs(drawn["erase"] - mean).max() <= 0.5
    # Of an image this small the small copy is the image itself.
    blurred = Image.fromarray(part).filter(ImageFilter.GaussianBlur(2))
    assert (drawn["blur"] == np.asarray(blurred)[mask]).all()
    photo = cam.sample("coffee")
    side, (width, height) = min(photo.size), photo.size
    left, top = (width - side) // 2, (height - side) // 2
    square = photo.crop((left, top, left + side, top + side)).resize((30, 20), Image.BICUBIC)
    assert (drawn["paste"] == np.asarray(square)[mask]).all()


def test_edits_follow_each_other():
    image, crop = make_image(), (0, 0, 40, 30)
    both = edit_image(image, crop, ["grey.box-0-0-500-1000", "blur.box-0-0-1000-1000"])
    half = edit_image(image, crop, ["grey.box-0-0-500-1000"])
    assert both.tobytes() == half.filter(ImageFilter.GaussianBlur(3)).tobytes()


def test_a_text_is_read_as_it_is_written():
    for way in WAYS:
        edit = make_edit(way, "random-5-7")
        assert Edit.parse(str(edit)) == edit


@pytest.mark.parametrize(
    "text",
    [
        "",
        "blur",
        "blur.",
        "burn.box-0-0-500-500",
        "paste.box-0-0-500-500",
        "paste-nobody.box-0-0-500-500",
        "blur-coffee.box-0-0-500-500",
        "blur.box-0-0-500",
        "blur.box-500-0-500-500",
        "blur.box--5-0-500-500",
        "blur.box-0-0-500-1001",
        "blur.box-0-0-1e2-500",
        "blur.random-0-1",
        "blur.random-101-1",
        "blur.random-20",
        "blur.random-20-" + "9" * 10_000,
        "blur.grid-",
        "blur.grid-é",
        "blur.grid-AAAA",
        "blur.grid-<script>",
        "blur." + write_grid(b"\xff" * 511),
        "blur." + write_grid(b"\xff" * 513),
        "blur." + write_grid(bytes(512)),
        "blur." + write_grid(b"\xff" * 512)[:-6],
        "blur." + write_grid(b"\xff" * 512) + "!",
        "blur." + write_grid(np.random.default_rng(0).bytes(100_000)),
        # One that unfolds to a hundred megabytes, and what starts like a grid.
        "blur." + write_grid(b"\xff" * 100_000_000)[:1000],
        "blur." + write_grid(b"\xff" * 700_000),
    ],
    ids=lambda text: text[:24],
)
def test_what_says_nothing_that_can_be_done_is_refused(text):
    with pytest.raises(ImageError) as refused:
        Edit.parse(text)
    assert len(str(refused.value)) < 200


def test_the_hottest_part_is_where_the_map_is_highest():
    heatmap = np.zeros((2 * GRID, 2 * GRID), np.float32)
    heatmap[:GRID] = np.linspace(1, 2, 2 * GRID)
    mask = select_hottest(heatmap, 0.2)
    # 819 of 4,096 cells: in the upper half's 32 rows the last 25 columns, and 19 cells beside.
    assert mask.sum() == round(0.2 * GRID * GRID) == 819
    assert mask[:32, -25:].all() and mask[:32, -26].sum() == 19 and not mask[32:].any()


def test_single_hot_pixels_are_as_large_a_part():
    """A saliency map has few pixels side by side; each in another cell would be none."""
    heatmap = np.random.default_rng(0).random((224, 224)).astype(np.float32) ** 8
    mask = Edit("erase", pack_mask(select_hottest(heatmap, 0.2))).draw_mask(224, 224)
    assert mask.mean() == pytest.approx(0.2, abs=0.005)
    assert heatmap[mask].mean() > 1.5 * heatmap.mean()


def test_what_has_no_evidence_is_not_hot():
    heatmap = np.zeros((GRID, GRID), np.float32)
    heatmap[3, 4:9] = 1
    heatmap[7] = np.nan
    assert np.argwhere(select_hottest(heatmap, 0.2)).tolist() == [[3, c] for c in range(4, 9)]
    assert not select_hottest(np.full((GRID, GRID), np.nan), 0.2).any()
