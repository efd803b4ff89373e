"""Read from the files which module of the checkout imports which."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.checkout import ROOT

# kernels/ and pages/ lie beside cam/ in the checkout and are parts of it.
FOLDERS = {"cam": "cam", "kernels": "cam.kernels", "pages": "cam.pages"}


def modules() -> dict[str, Path]:
    """Name every module, packages included, as it is imported."""
    named = {}
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            named[".".join((package, *parts))] = path
    return named


def imported(name: str, path: Path) -> Iterator[str]:
    """Yield every module that a file names in an import, wherever in the file that stands."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            source = ".".join([*(parents if node.level else []), *filter(None, [node.module])])
            # `from cam._models import load` names a module in its second half.
            yield from (f"{source}.{alias.name}" for alias in node.names)
            yield source


def graph() -> dict[str, set[str]]:
    """Map each module to those of the checkout that it imports, imports for types included.

    Importing a module imports the packages around it, which say nothing of the architecture:
    a package counts where it is named itself, and not where a module inside it is.
    """
    every = modules()
    arrows: dict[str, set[str]] = {}
    for name, path in every.items():
        named = set(imported(name, path)) & every.keys()
        inside = {other for other in named if any(more.startswith(f"{other}.") for more in named)}
        arrows[name] = named - inside - {name}
    return arrows


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """Return the names along a circle of arrows; an empty list where there is none."""
    finished: set[str] = set()

    def visit(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in finished:
            return []
        for other in sorted(arrows.get(name, ())):
            if names := visit(other, [*way, name]):
                return names
        finished.add(name)
        return []

    return next((names for start in sorted(arrows) if (names := visit(start, []))), [])


def between_children(arrows: dict[str, set[str]], package: str) -> dict[str, set[str]]:
    """Gather the arrows between what lies directly in a package: its folders and its modules."""
    depth = package.count(".") + 2

    def child(name: str) -> str:
        return ".".join(name.split(".")[:depth])

    inside = f"{package}."
    gathered: dict[str, set[str]] = {}
    for name, others in arrows.items():
        if name.startswith(inside):
            to = {child(other) for other in others if other.startswith(inside)}
            gathered.setdefault(child(name), set()).update(to - {child(name)})
    return gathered
