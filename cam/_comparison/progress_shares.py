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
        """Begin the next part.

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
        """Report how far the current part is, as its progress callback."""
        if self._tell is None:
            return None
        share = progress.done / max(progress.total, self._total)
        self._share = max(self._share, (self._begun - 1 + share) / self._count)
        return self._tell(self._share, self._note)
