"""Track how far work of several parts is."""

from collections.abc import Callable

from cam.errors import Cancelled
from cam.types import Progress

Tell = Callable[[float, str], object]
"""Called with how far the work is, from 0 to 1, and what is being done; False cancels."""


class Parts:
    """Several parts of about the same length, one after the other.

    Args:
        tell: Whom to tell; None: nobody.
        count: How many parts there are.
    """

    def __init__(self, tell: Tell | None, count: int) -> None:
        self._tell = tell
        self._count = count
        self._begun = 0
        self._note = ""
        self._total = 1
        self._share = 0.0

    def begin(self, note: str, total: int = 1) -> None:
        """The next part begins.

        Args:
            note: What is being done.
            total: How many inputs go through the model for it, as far as that is known; what a
                method or metric says itself may grow on the way.

        Raises:
            Cancelled: The caller does not want it.
        """
        self._begun += 1
        self._note, self._total = note, total
        if self.report(Progress(note, 0, 1)) is False:
            raise Cancelled(f"cancelled before {note}")

    def report(self, progress: Progress) -> object:
        """How far the part is that was begun last; what :func:`cam.attribute` and metrics call."""
        if self._tell is None:
            return None
        share = progress.done / max(progress.total, self._total)
        self._share = max(self._share, (self._begun - 1 + share) / self._count)
        return self._tell(self._share, self._note)
