"""Say which items belong together: of one scene, patient or photo."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property

from cam._data.dataset import Dataset, Item, Part, digest
from cam.errors import DataError

Groups = str | Callable[[str], object] | Iterable[object]
"""A column of a CSV, a function of an item's id, or a name for each item."""


class Regrouped(Part):
    """All items of another data set, in the caller's groups.

    Args:
        whole: The items.
        groups: A name for each item in their order, or a function from an item's id to it.

    Raises:
        DataError: There are more or fewer groups than items, some are missing, or all are one.
    """

    def __init__(self, whole: Dataset, groups: Callable[[str], object] | Iterable[object]) -> None:
        super().__init__(whole, range(len(whole)))
        if whole.caution:
            raise DataError(f"the items of {whole.name!r} cannot be grouped: {whole.caution}")
        self.groups = tuple(map(name_group, _list_groups(whole, groups)))
        if len(self.groups) != len(whole):
            raise DataError(
                f"groups has {len(self.groups)} entries for {len(whole)} items; give one for each"
            )
        missing = [index for index, group in enumerate(self.groups) if not group]
        if missing:
            raise DataError(
                f"groups has no name for {len(missing)} of {len(whole)} items, such as "
                f"{whole.identifier(missing[0])!r}; give every item a group"
            )
        require_several(self.groups)

    def __getitem__(self, index: int) -> Item:
        """Read the whole's item into its group; see :meth:`Dataset.__getitem__`."""
        return replace(super().__getitem__(index), group=self.groups[index])

    @cached_property
    def fingerprint(self) -> str:
        """Of the whole and the groups."""
        return digest(self.whole.fingerprint, self.groups)


def name_group(group: object) -> str:
    """Name a group; "" where it is None, NaN or blank."""
    # NaN, as pandas has it for an empty cell, is the only value unlike itself.
    return "" if group is None or group != group else str(group).strip()


def require_several(groups: Sequence[str]) -> None:
    """Refuse groups that are a single one.

    Raises:
        DataError: All items are of one group.
    """
    if len(groups) > 1 and len(set(groups)) == 1:
        raise DataError(
            f"groups puts all {len(groups)} items into the one group {groups[0]!r}, over which "
            "there is no interval and no test; give at least 2 groups, and 8 for intervals"
        )


def _list_groups(
    whole: Dataset, groups: Callable[[str], object] | Iterable[object]
) -> list[object]:
    if not callable(groups):
        try:
            return list(groups)
        except TypeError:
            raise DataError(
                "groups is a column of a CSV, a function of an item's id or a name for each item, "
                f"not {type(groups).__name__}"
            ) from None
    listed = []
    for index in range(len(whole)):
        name = whole.identifier(index)
        try:
            listed.append(groups(name))
        except Exception as error:
            # It is somebody's own code: whatever it raises is about this item.
            raise DataError(
                f"groups raised {type(error).__name__} for the item {name!r}: {error}"
            ) from error
    return listed
