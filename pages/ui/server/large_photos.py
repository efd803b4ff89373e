"""Hold large photos as their files, and decode them when asked."""

import io
import threading
from functools import lru_cache

from PIL import Image

from cam._media.images import Photo, open_picture, read_image

# 12 MB of pixels. 64 megapixels, which the decoder lets in, are 200 MB: of such only a few are held
# decoded at a time, for all visitors together.
LARGE_PIXELS = 4_000_000
DECODED_KEPT = 2
# One at a time: the others would need the memory of as many.
_DECODING = threading.Lock()


class LargePhoto(Photo):
    """A photo whose pixels are decoded again when they are asked for and no longer held.

    It is explained at its full size, as the library does, and costs a visitor its file's bytes.

    Args:
        content: The file's bytes.
        digest: Their hash.
        name: For messages.

    Raises:
        ImageError: It is no picture that can be read.
    """

    _content: bytes
    _key: tuple[str, str]

    def __init__(self, content: bytes, digest: str, name: str) -> None:
        # Its parent is frozen.
        self.__dict__.update(_content=content, _key=(digest, name), name=name)
        # Decoded here, and refused where it is damaged.
        self.__dict__["notes"] = decode(self).notes

    def __eq__(self, other: object) -> bool:
        """Compare by content and name."""
        return isinstance(other, LargePhoto) and self._key == other._key

    def __hash__(self) -> int:
        """Hash content and name."""
        return hash(self._key)

    @property
    def image(self) -> Image.Image:
        """The whole picture: RGB, 8 bits, upright."""
        return decode(self).image


def decode(photo: LargePhoto) -> Photo:
    """Decode a photo, unless it is one of the last that were."""
    with _DECODING:
        return _decode(photo)


@lru_cache(maxsize=DECODED_KEPT)
def _decode(photo: LargePhoto) -> Photo:
    return read_image(photo._content, photo.name)


def is_large(content: bytes, name: str) -> bool:
    """Return whether an encoded picture has many pixels, by its header.

    Raises:
        ImageError: It is no picture.
    """
    with open_picture(io.BytesIO(content), name) as image:
        return image.width * image.height > LARGE_PIXELS
