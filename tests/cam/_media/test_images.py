"""Pictures in: what a decoder may meet, against hand-made values."""

import io
import random
import re
import struct
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageColor, ImageFile
from PIL.ExifTags import Base as ExifTag
from skimage import data

import cam
from cam._media import images
from cam._media.images import read_image

UPRIGHT = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG from its specification; ``rows`` is the zlib stream of filter bytes and samples."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"IDAT", rows),
            chunk(b"IEND", b""),
        )
    )


def png16(values: np.ndarray) -> bytes:
    """A 16-bit PNG of (H, W) grey or (H, W, 3) RGB."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(width, height, 16, 0 if values.ndim == 2 else 2, zlib.compress(rows))


def black_png(width: int, height: int) -> bytes:
    """One bit a pixel, all of them zero: as small as a whole picture of that size can be."""
    row = bytes(1 + (width + 7) // 8)
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return png(width, height, 1, 0, rows)


def encoded(image: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(file, kind, **options)
    return file.getvalue()


def tiff(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values)
    return file.getvalue()


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def assert_one_sentence(error: Exception) -> None:
    text = str(error)
    assert text.strip() == text != ""
    assert "\n" not in text
    assert not re.search(r"[.!?;] [A-Z]", text), "more than one sentence"


def refusal(source: object) -> str:
    """The one sentence that refuses ``source``."""
    with pytest.raises(cam.ImageError) as caught:
        cam.load_image(source)
    assert_one_sentence(caught.value)
    return str(caught.value)


# What is refused


def test_a_text_file_named_png_is_no_picture(tmp_path):
    path = tmp_path / "notes.png"
    path.write_text("these are not pixels\n" * 20)
    message = refusal(path)
    assert "notes.png is not an image" in message
    assert "use PNG, JPEG" in message


def test_an_empty_file_is_no_picture(tmp_path):
    path = tmp_path / "nothing.jpg"
    path.touch()
    assert "nothing.jpg is not an image" in refusal(path)


def test_a_format_that_is_not_let_in_is_refused():
    """Pillow itself reads it."""
    content = encoded(UPRIGHT, "PPM")
    assert Image.open(io.BytesIO(content)).size == (56, 40)
    assert "is not an image that can be read here" in refusal(content)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_half_a_file_is_refused(kind, tmp_path):
    content = encoded(UPRIGHT, kind)
    path = tmp_path / f"half.{kind.lower()}"
    path.write_bytes(content[: len(content) // 2])
    assert refusal(path).startswith("half.")


def test_half_a_jpeg_is_called_damaged(tmp_path):
    """Pillow opens it: only decoding shows that the end is missing."""
    content = encoded(UPRIGHT.repeat(8, 0).repeat(8, 1), "JPEG")
    path = tmp_path / "cut.jpg"
    path.write_bytes(content[: len(content) // 2])
    assert "cut.jpg is damaged or incomplete" in refusal(path)


@pytest.mark.parametrize(
    ("width", "height"),
    # Pillow refuses the first of itself; the second lies between our limit and Pillow's.
    [(30_000, 30_000), (8_001, 8_000)],
)
def test_a_huge_picture_in_a_small_file_is_refused_unread(width, height, monkeypatch):
    content = black_png(width, height)
    assert len(content) < 120_000

    def load(_image: object) -> None:
        pytest.fail("the pixels were unpacked")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    start = time.perf_counter()
    message = refusal(content)
    assert time.perf_counter() - start < 0.5
    assert f"{width * height:,} pixels" in message
    assert "64,000,000" in message


def test_the_largest_picture_that_is_let_in():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Pillow's own are left to the caller: filters are the whole process's, and not safe to
        # change in one of its threads.
        warnings.filterwarnings("ignore", module="PIL")
        assert cam.load_image(black_png(8_000, 8_000)).size == (8_000, 8_000)


def test_a_strip_is_refused():
    assert "1 × 30,000 pixels" in refusal(encoded(np.zeros((30_000, 1, 3), np.uint8), "PNG"))
    assert "51 × 1 pixels" in refusal(encoded(np.zeros((1, 51, 3), np.uint8), "PNG"))


def test_a_folder_is_refused(tmp_path):
    assert refusal(tmp_path) == f"{str(tmp_path)!r} is a folder, not an image"


@pytest.mark.parametrize(
    "name",
    ["missing.png", "file.txt/below.png", f"{'long' * 100}.png", "null\0byte.png"],
    ids=["missing", "below-a-file", "long-name", "null-byte"],
)
def test_a_path_that_leads_nowhere_is_refused(name, tmp_path):
    (tmp_path / "file.txt").touch()
    assert repr(str(tmp_path / name)) in refusal(tmp_path / name)


def test_nan_in_a_float_tiff_is_refused(tmp_path):
    values = np.full((40, 40), 0.5, np.float32)
    values[3, 4] = np.nan
    path = tmp_path / "depth.tif"
    path.write_bytes(tiff(values))
    assert "depth.tif holds NaN or infinite pixels" in refusal(path)


@pytest.mark.parametrize(
    ("source", "phrase"),
    [
        (None, "not NoneType"),
        (3, "not int"),
        (np.zeros((40, 40), np.uint8), "uint8 (40, 40)"),
        (np.zeros((40, 40, 3), np.float32), "float32 (40, 40, 3)"),
        (np.zeros((0, 40, 3), np.uint8), "no pixels"),
        (Image.new("RGB", (0, 5)), "no pixels: it is 0 × 5"),
        (io.StringIO("text"), "is not an image"),
        ("sample:chelsae", "did you mean 'chelsea'"),
    ],
    ids=["none", "int", "grey-array", "float-array", "no-rows", "no-columns", "text", "sample"],
)
def test_what_is_no_picture_at_all_is_refused(source, phrase):
    assert phrase in refusal(source)


def assert_a_picture_or_an_image_error(content: bytes) -> bool:
    """Whether it is a picture; nothing else may come out, and no warning of our own."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Pillow's own are left to the caller: filters are the whole process's, and not safe to
        # change in one of its threads.
        warnings.filterwarnings("ignore", module="PIL")
        try:
            assert read_image(content).image.mode == "RGB"
        except cam.ImageError as error:
            assert_one_sentence(error)
            return False
    return True


def animated(kind: str) -> bytes:
    """A picture with EXIF data and, where the format has them, a second frame."""
    frames = [Image.fromarray(UPRIGHT[:14, :20].copy()) for _ in range(2)]
    frames[1].paste("red", (3, 3, 9, 9))
    exif = Image.Exif()
    exif.update({0x0112: 6, 0x010E: "a description", 0x011A: 72.5})
    several = {"save_all": True, "append_images": frames[1:]}
    options = {"GIF": several, "TIFF": {**several, "exif": exif}, "BMP": {}}
    return encoded(frames[0], kind, **options.get(kind, {"exif": exif}))


KINDS = ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_anywhere_gives_a_picture_or_an_image_error(kind):
    content = animated(kind)
    assert assert_a_picture_or_an_image_error(content)
    for length in range(min(len(content), 4000)):
        whole = assert_a_picture_or_an_image_error(content[:length])
        assert not (whole and length < 100)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_bytes_give_a_picture_or_an_image_error(kind):
    content = animated(kind)
    choose = random.Random(0)
    refused = 0
    for _ in range(1500):
        damaged = bytearray(content)
        for _ in range(choose.choice([1, 2, 4, 8])):
            # Mostly in the headers, where the decoders differ.
            end = len(damaged) if choose.random() < 0.3 else min(300, len(damaged))
            damaged[choose.randrange(end)] = choose.choice([0, 1, 255, choose.randrange(256)])
        refused += not assert_a_picture_or_an_image_error(bytes(damaged))
    assert refused > 100


# What is let in, and what is said of it


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "GIF", "MPO"])
def test_a_plain_picture_comes_back_as_it_is(kind):
    image = Image.fromarray(UPRIGHT)
    options = {"WEBP": {"lossless": True}, "MPO": {"quality": 100, "subsampling": 0}}
    if kind == "GIF":
        image = image.quantize(64)
    photo = read_image(encoded(image, kind, **options.get(kind, {})))
    close = 6 if kind == "MPO" else 0
    assert np.abs(pixels(photo.image) - pixels(image.convert("RGB"))).max() <= close
    assert photo.notes == ()


def test_every_way_to_name_a_picture(tmp_path):
    content = encoded(UPRIGHT, "PNG")
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    with path.open("rb") as file:
        for source in (path, str(path), content, io.BytesIO(content), file, UPRIGHT):
            assert (pixels(cam.load_image(source)) == UPRIGHT).all()


def test_the_callers_picture_is_not_changed():
    picture = Image.new("LA", (40, 40), (7, 100))
    before = picture.tobytes()
    taken = read_image(picture).image
    taken.putpixel((0, 0), (1, 2, 3))
    assert (picture.mode, picture.tobytes()) == ("LA", before)
    plain = Image.fromarray(UPRIGHT)
    cam.load_image(plain).putpixel((0, 0), (1, 2, 3))
    assert (pixels(plain) == UPRIGHT).all()


def test_notes_are_warned_of_with_the_files_name(tmp_path):
    path = tmp_path / "dot.png"
    path.write_bytes(encoded(np.full((1, 1, 3), 9, np.uint8), "PNG"))
    with pytest.warns(cam.CamWarning, match=r"^dot\.png: it is only 1 × 1 pixels") as warnings:
        image = cam.load_image(path)
    assert len(warnings) == 1
    assert image.getpixel((0, 0)) == (9, 9, 9)


def test_the_first_frame_of_an_animation_is_used():
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "lime", "blue")]
    photo = read_image(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert photo.image.getpixel((20, 20)) == (255, 0, 0)
    assert photo.notes == ("it has 3 frames; the first one is used",)


def test_cmyk_is_converted():
    inks = {(255, 0, 0, 0): (0, 255, 255), (0, 255, 0, 0): (255, 0, 255)}
    inks |= {(0, 0, 255, 0): (255, 255, 0), (0, 0, 0, 255): (0, 0, 0), (0, 0, 0, 0): (255,) * 3}
    for ink, colour in inks.items():
        photo = read_image(encoded(Image.new("CMYK", (40, 40), ink), "JPEG", quality=95))
        assert np.abs(pixels(photo.image) - colour).max() <= 3
        assert [note for note in photo.notes if "CMYK" in note] == list(photo.notes) != []


def test_grey_of_16_bits_is_divided_by_257():
    values = np.random.default_rng(1).integers(0, 65_536, (64, 64))
    values[0, :8] = [0, 128, 129, 255, 256, 257, 65_406, 65_535]
    photo = read_image(png16(values))
    expected = np.rint(values / 257)
    assert (pixels(photo.image) == expected[..., None]).all()
    assert expected[0, :8].tolist() == [0, 0, 1, 1, 1, 1, 254, 255]
    assert len(photo.notes) == 1
    assert "16 bits" in photo.notes[0]


@pytest.mark.parametrize("write", [png16, tiff], ids=["png", "tiff"])
def test_rgb_of_16_bits_is_divided_by_257(write):
    """Within one level: Pillow takes the upper byte."""
    values = np.random.default_rng(2).integers(0, 65_536, (40, 40, 3)).astype(np.uint16)
    photo = read_image(write(values))
    assert np.abs(pixels(photo.image) - values / 257).max() <= 1
    assert "16 bits" in " ".join(photo.notes)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.float32([0, 0.25, 0.6, 1]), [0, 64, 153, 255]),
        (np.float32([-1, 0, 1.2, 3]), [0, 64, 140, 255]),
        (np.int32([-100, 0, 110, 300]), [0, 64, 134, 255]),
        (np.float32([7, 7, 7, 7]), [0, 0, 0, 0]),
    ],
    ids=["unit", "stretched", "signed-integers", "constant"],
)
def test_a_tiff_of_numbers_is_scaled_to_8_bits(values, expected):
    rows = np.tile(values.repeat(10), (40, 1))
    photo = read_image(tiff(rows))
    assert pixels(photo.image)[0, ::10, 0].tolist() == expected
    assert len(photo.notes) == 1


def palette_with_a_hole() -> bytes:
    image = Image.new("P", (40, 40), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (20, 0, 40, 40))
    return encoded(image, "PNG", transparency=0)


@pytest.mark.parametrize(
    ("content", "left", "right"),
    [
        (palette_with_a_hole(), (255, 255, 255), (0, 0, 255)),
        (encoded(Image.new("RGBA", (40, 40), (200, 0, 0, 51)), "PNG"), (244, 204, 204), None),
        (encoded(Image.new("LA", (40, 40), (0, 51)), "PNG"), (204, 204, 204), None),
        (encoded(Image.new("L", (40, 40), 7), "PNG", transparency=7), (255, 255, 255), None),
    ],
    ids=["palette", "rgba", "grey-alpha", "grey-key"],
)
def test_transparent_parts_are_laid_over_white(content, left, right):
    photo = read_image(content)
    assert np.abs(np.subtract(photo.image.getpixel((0, 0)), left)).max() <= 1
    assert np.abs(np.subtract(photo.image.getpixel((39, 0)), right or left)).max() <= 1
    assert photo.notes == ("its transparent parts were laid over white",)


def test_an_alpha_channel_that_hides_nothing_is_not_worth_a_note():
    opaque = np.dstack([UPRIGHT, np.full((40, 56), 255, np.uint8)])
    photo = read_image(encoded(opaque, "PNG"))
    assert (pixels(photo.image) == UPRIGHT).all()
    assert photo.notes == ()


# The EXIF standard: orientation → (side of the scene at row 0, side at column 0).
STORED = {
    1: UPRIGHT,  # top, left
    2: UPRIGHT[:, ::-1],  # top, right
    3: UPRIGHT[::-1, ::-1],  # bottom, right
    4: UPRIGHT[::-1],  # bottom, left
    5: UPRIGHT.swapaxes(0, 1),  # left, top
    6: UPRIGHT.swapaxes(0, 1)[::-1],  # right, top
    7: UPRIGHT.swapaxes(0, 1)[::-1, ::-1],  # right, bottom
    8: UPRIGHT.swapaxes(0, 1)[:, ::-1],  # left, bottom
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_turned_photo_is_turned_upright(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(STORED[orientation].copy(), kind, exif=exif)
    photo = read_image(content)
    assert (pixels(photo.image) == UPRIGHT).all()
    turned = "it was turned upright, as its EXIF orientation says"
    assert photo.notes == (() if orientation == 1 else (turned,))
    again = read_image(photo.image)
    assert (pixels(again.image) == UPRIGHT).all(), "turned twice"
    assert again.notes == ()


def test_a_turned_jpeg_whose_other_exif_is_nonsense_is_read():
    """Pillow cannot write such an entry anew, and nobody asked it to."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x0100] = 7  # ImageWidth, an integer
    content = bytearray(encoded(STORED[6].copy(), "JPEG", exif=exif, quality=95))
    entry = content.index(b"\x01\x00\x00\x04") if b"\x01\x00\x00\x04" in content else None
    assert entry is not None
    content[entry + 2 : entry + 4] = b"\x00\x0b"  # now it is a float
    photo = read_image(bytes(content))
    assert photo.image.size == (56, 40)
    assert photo.notes == ("it was turned upright, as its EXIF orientation says",)


# The bundled photos


def test_the_samples_are_scikit_images():
    assert list(cam.samples()) == ["chelsea", "coffee", "rocket", "motorcycle_left"]
    truth = {"chelsea": data.chelsea, "coffee": data.coffee, "rocket": data.rocket}
    for name, read in truth.items():
        assert (pixels(cam.sample(name)) == read()).all()
        assert (pixels(cam.load_image(f"sample:{name}")) == read()).all()
    assert (pixels(cam.sample("motorcycle_left")) == data.stereo_motorcycle()[0]).all()


def test_drawing_on_a_sample_does_not_change_the_next_one():
    cam.sample("coffee").paste("red", (0, 0, 400, 400))
    assert (pixels(cam.sample("coffee")) == data.coffee()).all()


# AVIF and HEIC


FILES = Path(__file__).with_name("files")
SIDEWAYS = {ExifTag.Orientation: 6}


def assert_corners(image: Image.Image, *colours: str) -> None:
    """The corners, from the upper left one clockwise, are nearly of these colours."""
    width, height = image.size
    corners = [(3, 3), (width - 4, 3), (width - 4, height - 4), (3, height - 4)]
    for at, colour in zip(corners, colours, strict=True):
        truth = np.array(ImageColor.getrgb(colour))
        assert np.abs(np.array(image.getpixel(at)) - truth).max() < 30, (at, colour)


def corners_of(size: tuple[int, int], *colours: str) -> Image.Image:
    """A picture of four plain quarters, clockwise from the upper left."""
    image, (width, height) = Image.new("RGB", size), size
    for at, colour in zip(((0, 0), (1, 0), (1, 1), (0, 1)), colours, strict=True):
        left, top = at[0] * width // 2, at[1] * height // 2
        image.paste(colour, (left, top, left + width // 2, top + height // 2))
    return image


def test_avif_is_read_and_turned_upright_once():
    exif = Image.Exif()
    exif.update(SIDEWAYS)
    content = encoded(corners_of((64, 48), "red", "lime", "blue", "white"), "AVIF", exif=exif)
    photo = read_image(content)
    assert photo.image.size == (48, 64)
    assert_corners(photo.image, "white", "red", "lime", "blue")
    assert photo.notes == ("it was turned upright, as its EXIF orientation says",)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_avif_is_refused(share):
    content = encoded(corners_of((64, 48), "red", "lime", "blue", "white"), "AVIF")
    with pytest.raises(cam.ImageError, match=r"is not an image|is damaged"):
        read_image(content[: int(len(content) * share)])


def test_heic_is_read_and_turned_upright_once():
    """Left red, right blue, and lighter at the top; the second file says so by a turn of 90°."""
    pytest.importorskip("pi_heif")
    colours = ["#f02828", "#2828f0", "#0000c8", "#c80000"]
    upright = read_image(FILES / "upright.heic")
    assert upright.image.size == (64, 48) and upright.image.mode == "RGB"
    assert_corners(upright.image, *colours)
    sideways = read_image(FILES / "sideways.heic")
    assert sideways.image.size == (48, 64)
    assert_corners(sideways.image, colours[3], *colours[:3])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_heic_is_refused(share):
    pytest.importorskip("pi_heif")
    content = (FILES / "upright.heic").read_bytes()
    with pytest.raises(cam.ImageError, match=r"is not an image|is damaged"):
        read_image(content[: int(len(content) * share)])


def test_without_its_package_heic_is_refused_with_the_command(monkeypatch):
    monkeypatch.setattr(images, "_enable_heic", lambda: False)
    with pytest.raises(cam.ImageError, match=r"upright\.heic is an HEIC.*: pip install pi-heif"):
        read_image(FILES / "upright.heic")


def test_a_heic_that_announces_too_many_pixels_is_refused_before_it_is_unpacked():
    """Its size stands in the box "ispe": 4 bytes of flags, width and height (ISO 23008-12)."""
    pytest.importorskip("pi_heif")
    content = bytearray((FILES / "upright.heic").read_bytes())
    at = content.index(b"ispe") + 8
    assert struct.unpack(">II", content[at : at + 8]) == (64, 64)  # Of whole coded blocks.
    content[at : at + 8] = struct.pack(">II", 30_000, 30_000)
    start = time.perf_counter()
    with pytest.raises(cam.ImageError):
        read_image(bytes(content))
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    "content",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\0\0\0\x20ftypisom" + bytes(64),
        b"%PDF-1.7",
        b"words",
    ],
    ids=["svg", "video", "pdf", "text"],
)
def test_other_files_are_refused_with_the_types_that_are_read(content):
    with pytest.raises(cam.ImageError, match="use PNG, JPEG, WebP, AVIF, HEIC, GIF, BMP or TIFF"):
        read_image(content)
