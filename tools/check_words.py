"""Check that names and prose use plain words: part of ``make check``.

A name that says nothing of what it holds, a module's first line that is too long to read at a
glance, and phrases that the field does not use are errors, phrases in documents too. The lists
below are the house rules.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("cam", "kernels", "pages", "benchmarks", "tools", "examples", "tests")
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs")

# Names that only point at something: a result, a module or a layer has a name of its own.
EMPTY_NAMES = frozenset(
    (
        *("one", "ones", "found", "told", "own", "place", "places", "seen", "asked", "given"),
        "kept",
        *("used", "shown", "known", "chosen", "wanted", "said", "took", "likewise"),
    )
)
PHRASES = {
    r"\bputs? out\b": "returns",
    r"\b(?:is|are|was|were) told\b": "reported, stated",
    r"\bone's own\b|\bof (?:its|their|your|one's) own\b": "own, separate, custom",
    r"\bby itself\b|\bby themselves\b": "automatically, alone",
    r"\blikewise\b": "also",
    r"\bshort numbers?\b": "reduced precision",
    r"\bmakes? no sense\b": "is out of range, is invalid",
    r"\bin a line\b": "as one line",
    r"\bso many\b": "a number",
    r"\ba bump\b": "a Gaussian",
    r"\bsurvives? a kill\b": "resume after a crash",
    r"\bforetell|\bforetold\b": "predict",
    r"\bas it is set\b": "keeps its precision",
}
MODULE_LINE_WORDS = 12
# Tables there are written by programs.
RESULTS = ROOT / "benchmarks" / "results"


def bound_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and name of everything that a module binds."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.alias) and node.asname:
            yield node.lineno, node.asname
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def prose_problems(text: str) -> Iterator[tuple[int, str]]:
    """Yield line and sentence for each phrase that the field does not use."""
    for phrase, better in PHRASES.items():
        # A phrase may go on in the next line.
        for match in re.finditer(phrase.replace(" ", r"\s+"), text, re.IGNORECASE):
            yield text.count("\n", 0, match.start()) + 1, f"{match[0]!r}: write {better}"


def without_code(markdown: str) -> str:
    """Blank a document's code, and keep its lines."""
    blocks = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)
    return blocks.sub(lambda match: "\n" * match[0].count("\n"), markdown)


def problems(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and sentence for each rule that a file breaks."""
    text = path.read_text()
    if path.suffix == ".md":
        yield from prose_problems(without_code(text))
        return
    tree = ast.parse(text)
    for line, name in bound_names(tree):
        if name.strip("_").lower() in EMPTY_NAMES:
            yield line, f"the name {name!r} says nothing of what it holds"
    first = (ast.get_docstring(tree) or "").split("\n", 1)[0]
    if len(first.split()) > MODULE_LINE_WORDS:
        yield 1, f"the module's first line has more than {MODULE_LINE_WORDS} words"
    if first and not first.endswith((".", "?")):
        yield 1, "the module's first line is no sentence"
    yield from prose_problems(text)


def main(arguments: list[str]) -> int:
    """Print each problem of the files or folders, by default of the whole tree."""
    count = 0
    for name in arguments or (*FOLDERS, *DOCUMENTS):
        start = ROOT / name
        files = sorted((*start.rglob("*.py"), *start.rglob("*.md"))) if start.is_dir() else [start]
        for path in files:
            if not path.is_file() or path == Path(__file__) or path.parent == RESULTS:
                continue
            for line, sentence in problems(path):
                count += 1
                sys.stdout.write(f"{path.relative_to(ROOT)}:{line}: {sentence}\n")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
