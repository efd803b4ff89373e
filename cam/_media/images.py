"""Decode pictures that anybody may upload, safely; bundled sample photos.

A decoder is where a stranger's bytes first meet the program, so the size is judged from the header
before a pixel is unpacked, and only common formats are let in.
"""

import io
import os
import re
import struct
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.ExifTags import Base as ExifTag

from cam.errors import CamWarning, ImageError, require_known

# Pillow opens MPO (a JPEG with more than one picture) as JPEG; there is no opener by that name.
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
NO_PICTURE = (
    "is not an image that can be read here; use PNG, JPEG, WebP, AVIF, HEIC, GIF, BMP or TIFF"
)
NO_HEIC = "is an HEIC image, and pi-heif, which reads those, is not installed: {command}"
# The brands of a HEIC file's first box (ISO/IEC 23008-12, annex B, and those of sequences).
HEIC_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"))
HEIC_BRANDS |= {b"mif1", b"msf1", b"heif"}
MAX_PIXELS = 64_000_000
# Preprocessing scales the short side up to the model's size: a 1 × 30,000 picture would become
# 256 × 7,680,000.
MAX_ASPECT = 50
SMALL_SIDE = 32

# What Pillow's decoders raise on bytes that are not what they say.
DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow's names for samples of 16 bits: "RGB;16B". A BMP's "BGR;16" has 16 bits a pixel.
_DEEP_RAW_MODE = re.compile(r";16[BLNS]")
_KEPT_INFO = ("transparency", "icc_profile")


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded picture and what was done to it on the way.

    Attributes:
        image: RGB, 8 bits, upright.
        notes: One sentence for each change that the owner of the picture may not expect.
        name: Where it came from, for messages.
    """

    image: Image.Image
    notes: tuple[str, ...]
    name: str


# Of an image that has no file name, in messages.
UNNAMED = ("the image", "the array")
ImageSource = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | np.ndarray | Photo


def load_image(source: ImageSource) -> Image.Image:
    """Decode a picture to upright 8-bit RGB.

    Args:
        source: A path, encoded bytes, an open binary file, a PIL image, a uint8 array (H, W, 3),
            ``sample:NAME`` for a bundled photo, or what :func:`read_image` returned, whose notes
            have been reported and are not reported again.

    Returns:
        A PIL image in mode RGB. Anything unexpected that was done to it (first frame of an
        animation, CMYK, transparency, …) is reported by a :class:`cam.CamWarning`.

    Raises:
        ImageError: It is no picture, is damaged, too large, or too narrow.
    """
    if isinstance(source, Photo):
        return source.image
    photo = read_image(source)
    for note in photo.notes:
        warnings.warn(f"{photo.name}: {note}", CamWarning, stacklevel=2)
    return photo.image


def read_image(source: ImageSource, name: str | None = None) -> Photo:
    """Decode a picture and return it with its notes; see :func:`load_image`.

    Args:
        source: As for :func:`load_image`.
        name: What to call it in messages; by default its file name.
    """
    if isinstance(source, Photo):
        return source
    if isinstance(source, Image.Image):
        return _normalise(source, name or UNNAMED[0])
    if isinstance(source, np.ndarray):
        return _normalise(_from_array(source), name or UNNAMED[1])
    if isinstance(source, str) and source.startswith("sample:"):
        return Photo(sample(source.removeprefix("sample:")), (), source)
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source), name or UNNAMED[0])
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        try:
            with path.open("rb") as file:
                return _decode(file, name or path.name)
        except FileNotFoundError:
            raise ImageError(f"there is no file {str(path)!r}") from None
        except IsADirectoryError:
            raise ImageError(f"{str(path)!r} is a folder, not an image") from None
        except PermissionError:
            raise ImageError(f"{str(path)!r} may not be read by this user") from None
        except (OSError, ValueError) as error:
            # A name that is too long, that holds a null byte, or that goes on below a file.
            reason = getattr(error, "strerror", None) or str(error)
            raise ImageError(f"{str(path)!r} cannot be opened: {reason}") from None
    if not hasattr(source, "read"):
        raise ImageError(
            "an image is a path, encoded bytes, an open binary file, a PIL image or a uint8 "
            f"array, not {type(source).__name__}"
        )
    return _decode(source, name or str(getattr(source, "name", UNNAMED[0])))


def _decode(file: BinaryIO, name: str) -> Photo:
    with open_picture(file, name) as image:
        return _normalise(image, name)


def open_picture(file: BinaryIO, name: str, otherwise: str = NO_PICTURE) -> Image.Image:
    """Read a picture's header; nothing is unpacked yet.

    Args:
        file: An open file.
        name: What to call it in messages.
        otherwise: What to say of it if it is none.

    Raises:
        ImageError: It is no picture in one of :data:`FORMATS`, or its header announces too many
            pixels.
    """
    formats: tuple[str, ...] = FORMATS
    if _is_heic(file):
        if not _enable_heic():
            raise ImageError(f"{name} {NO_HEIC.format(command='pip install pi-heif')}")
        formats = ("HEIF", *FORMATS)
    try:
        return Image.open(file, formats=formats)
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\d+", str(error))
        raise _too_large(name, int(pixels[0]) if pixels else None) from None
    except DECODER_ERRORS:
        raise ImageError(f"{name} {otherwise}") from None


def _is_heic(file: BinaryIO) -> bool:
    """Return whether a file begins as HEIC does; it stays where it was."""
    try:
        start = file.tell()
        head = file.read(12)
        file.seek(start)
    except (OSError, ValueError):
        return False
    return isinstance(head, bytes) and head[4:8] == b"ftyp" and head[8:12] in HEIC_BRANDS


@lru_cache(maxsize=1)
def _enable_heic() -> bool:
    """Have Pillow read HEIC too; return whether the package that does is installed.

    Nothing but the picture itself is unpacked: no thumbnails, depth maps or other parts.
    """
    try:
        import pi_heif
    except ImportError:
        return False
    pi_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    return True


def _too_large(name: str, pixels: int | None) -> ImageError:
    fault = f"has {pixels:,} pixels" if pixels else "has too many pixels"
    return ImageError(f"{name} {fault}; at most {MAX_PIXELS:,} are read, so shrink it first")


def _normalise(image: Image.Image, name: str) -> Photo:
    """Convert any mode to upright 8-bit RGB, in a new image."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_large(name, width * height)
    if not width or not height:
        raise ImageError(f"{name} has no pixels: it is {width} × {height}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(
            f"{name} is {width:,} × {height:,} pixels; one side may be at most {MAX_ASPECT} times "
            "the other, so crop it first"
        )
    notes = []
    deep = image.mode.startswith(("I", "F")) or any(
        _DEEP_RAW_MODE.search(str(tile.args)) for tile in _tiles(image)
    )
    try:
        frames = getattr(image, "n_frames", 1)
        turned = _turn(image) is not None
        image.load()
        # Pillow turns a TIFF as it loads it, and then nothing is left to do.
        turn = _turn(image)
    except Image.DecompressionBombError:
        raise _too_large(name, None) from None
    except DECODER_ERRORS:
        raise ImageError(
            f"{name} is damaged or incomplete: it ends, or turns to nonsense, before the image "
            "is whole; save it again"
        ) from None
    if frames > 1 and image.tell() == 0:
        notes.append(f"it has {frames} frames; the first one is used")
    # Not ImageOps.exif_transpose: it writes the rest of the EXIF data anew, and fails where a
    # camera has written nonsense into it.
    upright = image.copy() if turn is None else image.transpose(turn)
    # Without the rest, or the orientation would be followed again when the result is read again.
    upright.info = {key: image.info[key] for key in _KEPT_INFO if key in image.info}
    if turned:
        notes.append("it was turned upright, as its EXIF orientation says")
    if deep:
        notes.append("its values of 16 bits or more were scaled to 8 bits")
    rgb, note = _to_rgb(upright, name)
    notes += note
    if min(rgb.size) < SMALL_SIDE:
        notes.append(
            f"it is only {rgb.width} × {rgb.height} pixels, so its heatmap can show no detail"
        )
    return Photo(rgb, tuple(notes), name)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return the turn that EXIF asks for; None if upright."""
    return _UPRIGHT.get(image.getexif().get(ExifTag.Orientation, 1))


def _tiles(image: Image.Image) -> list:  # type: ignore[type-arg]
    """Return how a file stores its pixels; empty for pictures in memory."""
    return list(getattr(image, "tile", None) or [])


def _to_rgb(image: Image.Image, name: str) -> tuple[Image.Image, list[str]]:
    """Convert any mode to RGB and say what a viewer would notice."""
    if image.mode == "RGB" and "transparency" not in image.info:
        # It is our own copy already.
        return image, []
    if image.mode.startswith(("I", "F")):
        return _from_deep(image, name), []
    if image.mode == "CMYK":
        return image.convert("RGB"), [
            "its CMYK colours were converted to RGB and may look different"
        ]
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        with_alpha = image.convert("RGBA")
        lowest, _ = with_alpha.getchannel("A").getextrema()
        if lowest == 255:
            return with_alpha.convert("RGB"), []
        white = Image.new("RGBA", image.size, "white")
        flat = Image.alpha_composite(white, with_alpha).convert("RGB")
        return flat, ["its transparent parts were laid over white"]
    return image.convert("RGB"), []


def _from_deep(image: Image.Image, name: str) -> Image.Image:
    """Scale deep grey or floats to 8 bits; Pillow would clip."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise ImageError(f"{name} holds NaN or infinite pixels; save it with finite values")
    low, high = values.min(), values.max()
    if image.mode.startswith("I") and low >= 0 and high <= 65_535:
        grey = values / 257
    elif image.mode == "F" and low >= 0 and high <= 1:
        grey = values * 255
    else:
        grey = (values - low) * (255 / (high - low) if high > low else 0)
    return Image.fromarray(np.rint(grey).astype(np.uint8)).convert("RGB")


def _from_array(values: np.ndarray) -> Image.Image:
    if values.dtype != np.uint8 or values.ndim != 3 or values.shape[2] != 3:
        raise ImageError(
            f"an array must be uint8 of shape (H, W, 3); this one is {values.dtype} "
            f"{tuple(values.shape)}"
        )
    if not values.size:
        raise ImageError(f"the array has no pixels: its shape is {tuple(values.shape)}")
    return Image.fromarray(values)


SAMPLES = {
    "chelsea": "A cat's face",
    "coffee": "A cup of coffee",
    "rocket": "A rocket on its launch pad",
    "motorcycle_left": "A motorcycle in a garage",
}


def samples() -> dict[str, str]:
    """List the bundled photos of scikit-image: name → what is on it."""
    return dict(SAMPLES)


@lru_cache(maxsize=len(SAMPLES))
def _sample_array(name: str) -> np.ndarray:
    # Imported here because scikit-image is needed for nothing else on this path.
    from skimage import data

    pixels: np.ndarray = (
        data.stereo_motorcycle()[0] if name == "motorcycle_left" else getattr(data, name)()
    )
    return pixels


def sample(name: str) -> Image.Image:
    """Return a bundled photo, in RGB.

    Raises:
        ImageError: There is no sample of that name.
    """
    require_known(name, SAMPLES, "sample photo", ImageError)
    return Image.fromarray(_sample_array(name))
