"""Read the code blocks of Markdown documents."""

import re


def code_blocks(text: str, language: str) -> list[str]:
    """Return the content of each block of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
