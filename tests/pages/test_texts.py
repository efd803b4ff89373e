"""Every sentence that a visitor may read uses the pages' words."""

import ast
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass

import cam
from tests.support.import_graph import modules

# A page says image; RST and numbers of errors are for those who wrote the code.
WRONG = re.compile(r"(?i)(?<!\.)\bpictures?\b|:(?:func|class|meth|data|mod):|\[Errno")
SQL = re.compile(r"\b(?:SELECT|FROM|CREATE)\b")
# One's pattern takes such a number out of a sentence; the other makes a docstring.
NO_TEXTS = {"cam._models.download", "cam._metrics.base.metric_registry"}


def list_sentences(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and text of every string with a space that is no docstring."""
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
            if " " in text.strip() and id(node) not in docstrings and not SQL.search(text):
                yield node.lineno, text


def list_texts(value: object) -> Iterator[str]:
    """Yield every text of a record, whatever it is nested in."""
    if isinstance(value, str):
        yield value
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from list_texts(getattr(value, field.name))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from list_texts(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from list_texts(each)


def test_no_message_and_no_label_uses_other_words():
    wrong = [
        f"{name}:{line}: {text}"
        for name, path in modules().items()
        if name not in NO_TEXTS
        for line, text in list_sentences(ast.parse(path.read_text(encoding="utf-8")))
        if WRONG.search(text)
    ]
    assert wrong == []


def test_no_method_and_no_metric_is_described_in_other_words():
    wrong = [
        f"{name}: {text}"
        for infos in (cam.methods(), cam.metrics())
        for name, info in infos.items()
        for text in list_texts(info)
        if " " in text and WRONG.search(text)
    ]
    assert wrong == []


def test_a_wrong_word_is_found():
    code = 'f"no {picture} in a Picture of {1}"\n"""A picture."""\nx = "one picture"\n'
    matches = [text for _, text in list_sentences(ast.parse(code)) if WRONG.search(text)]
    assert sorted(matches) == [" in a Picture of ", "one picture"]
