"""Set the precision of a GPU's float32 products, once for all threads.

torch has one setting for the whole process: what one call sets, every other call would compute in,
and two that overlap would each put back what the other had set. So calls that want the same setting
share it, others wait for them, and the last one puts back what was there before the first.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_Setting = str | None
"""As torch calls it, "ieee" or "tf32"; None for what torch is set to."""

_MODULES = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]


class _Turns:
    """Who computes in which setting, and who waits, in the order of arrival."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()
        self._setting: _Setting = None
        self._holders = 0
        self._before: tuple[str, ...] = ()

    def take(self, setting: _Setting) -> None:
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            try:
                # In order, so that nobody waits for ever behind callers who share another setting.
                self._changed.wait_for(
                    lambda: (
                        self._waiting[0] is turn
                        and (self._holders == 0 or setting == self._setting)
                    )
                )
            finally:
                # Whoever is interrupted while waiting leaves the queue, too.
                self._waiting.remove(turn)
                self._changed.notify_all()
            if self._holders == 0:
                self._setting = setting
                self._before = tuple(module.fp32_precision for module in _MODULES)
                if setting is not None:
                    _set((setting,) * len(_MODULES))
            self._holders += 1

    def give_back(self) -> None:
        with self._changed:
            self._holders -= 1
            if self._holders == 0:
                if self._setting is not None:
                    _set(self._before)
                self._changed.notify_all()


def _set(settings: tuple[str, ...]) -> None:
    for module, setting in zip(_MODULES, settings, strict=True):
        module.fp32_precision = setting


_turns = _Turns()
_held = threading.local()


@contextmanager
def hold_product_precision(setting: _Setting) -> Iterator[None]:
    """Compute float32 products in a setting; what was set before returns.

    Args:
        setting: "ieee", "tf32", or None to keep what torch is set to, or what the call around this
            one holds.
    """
    outer: list[_Setting] = getattr(_held, "settings", [])
    if outer and setting in (None, outer[-1]):
        yield
        return
    # What is held while waiting for another setting could be what that one waits for.
    if outer:
        _turns.give_back()
    try:
        _turns.take(setting)
        _held.settings = [*outer, setting]
        try:
            yield
        finally:
            _held.settings = outer
            _turns.give_back()
    finally:
        if outer:
            _turns.take(outer[-1])
