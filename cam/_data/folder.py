"""Read a folder of pictures, or a list of pictures as CSV."""

import csv
import os
from pathlib import Path

from cam._data.dataset import Entry, Files, FileTruth, Truth
from cam._data.groups import require_several
from cam.errors import DataError, nearest

EXTENSIONS = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
EXTENSIONS |= {".avif", ".heic", ".heif"}
PATH_COLUMNS = ("path", "image", "file", "filename")
LABEL_COLUMNS = ("label", "class", "target")
MASK_COLUMN, GROUP_COLUMN = "mask", "group"
DELIMITERS = (",", ";", "\t", "|")


def open_folder(root: Path) -> Files:
    """Open the pictures below a folder; their first folder is the class.

    Pictures that lie in the folder itself have no class. Hidden files and folders are left out.

    Raises:
        DataError: There is no picture, or the folder cannot be read.
    """
    refused: list[tuple[str, str]] = []

    def refuse(error: OSError) -> None:
        path = Path(error.filename)
        refused.append((str(path.relative_to(root)), error.strerror or type(error).__name__))

    paths: list[str] = []
    for folder, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [
            (Path(folder) / name).relative_to(root).as_posix()
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS
        ]
    entries = [
        Entry(path, path, path.split("/", 1)[0] if "/" in path else None) for path in sorted(paths)
    ]
    return Files(str(root), root, entries, refused)


def open_csv(path: Path, delimiter: str = ",", groups: str | None = None) -> Files:
    """Open a CSV of paths relative to its folder, labels, masks and groups.

    The first row names the columns: ``path`` (or ``image``, ``file``, ``filename``), ``label``
    (or ``class``, ``target``; a whole number is an index of the model's output), ``mask``, a
    picture that is not black where the class is, and ``group``. Only the first is required.

    Args:
        path: The list.
        delimiter: Between its columns.
        groups: The column of the groups. None: ``group`` where it is there, else each picture is
            its own.

    Raises:
        DataError: The list cannot be read, names no column of paths, or leaves groups out.
    """
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        raise DataError(f"a delimiter is one character, not {delimiter!r}")
    root = path.parent
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, delimiter=delimiter)
            columns = {(name or "").strip().lower(): name for name in rows.fieldnames or ()}
            column = next((columns[name] for name in PATH_COLUMNS if name in columns), None)
            if column is None:
                raise DataError(
                    f"{str(path)!r} has no column 'path'; its first row must name the columns, "
                    "such as path,label"
                )
            label_column = next((columns[name] for name in LABEL_COLUMNS if name in columns), None)
            mask_column = columns.get(MASK_COLUMN)
            group_column = columns.get((groups or GROUP_COLUMN).strip().lower())
            if groups is not None and group_column is None:
                raise DataError(
                    f"{str(path)!r} has no column {groups!r} of groups; {nearest(groups, columns)}"
                )
            without_group = []
            entries = []
            refused = []
            counts: dict[str, int] = {}
            for number, row in enumerate(rows, 2):
                name = (row[column] or "").strip()
                if not name:
                    refused.append((f"row {number}", "it names no file"))
                    continue
                counts[name] = counts.get(name, 0) + 1
                unique = name if counts[name] == 1 else f"{name}#{counts[name]}"
                label = (row[label_column] or "").strip() if label_column else ""
                mask = (row[mask_column] or "").strip() if mask_column else ""
                group = (row[group_column] or "").strip() if group_column else ""
                if group_column and not group:
                    without_group.append(number)
                truth: Truth | None = FileTruth(str(root / mask)) if mask else None
                entries.append(Entry(unique, name, parse_label(label), truth, group))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"the list {str(path)!r} cannot be read: {reason}") from None
    if without_group:
        raise DataError(
            f"the column {group_column!r} of {str(path)!r} has no name in {len(without_group)} of "
            f"{len(entries)} rows, such as row {without_group[0]}; give every row a group"
        )
    if group_column:
        require_several([entry.group for entry in entries])
    return Files(str(path), root, entries, refused)


def parse_label(text: str) -> int | str | None:
    """Parse a whole number as an index, any other text as label."""
    if not text:
        return None
    return int(text) if text.isascii() and text.isdigit() else text
