"""Hold what workers of a cluster are doing, in another process.

It imports nothing, so that its process begins at once: states are bytes to it.
"""


class Board:
    """What each worker is doing, and whether they shall stop; an actor of Ray's."""

    def __init__(self) -> None:
        self._states: dict[tuple[int, int], bytes] = {}
        self._announced: dict[str, float] = {}
        self._stopped = False

    def announce(self, passes: dict[str, float]) -> None:
        """Keep what parts say that they will make for an image."""
        self._announced = passes

    def post(self, shard: tuple[int, int], state: bytes) -> bool:
        """Keep a state; return whether the worker shall stop."""
        self._states[shard] = state
        return self._stopped

    def take(self) -> tuple[dict[tuple[int, int], bytes], dict[str, float]]:
        """Return the states that came since the last call, and what was announced."""
        states, self._states = self._states, {}
        return states, self._announced

    def stop(self) -> None:
        """Have every worker stop."""
        self._stopped = True
