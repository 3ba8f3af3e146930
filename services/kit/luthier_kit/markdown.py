"""Markdown whose text is shown as it is: titles, tags and names of others must not become links, markup or HTML."""

import html
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

_MARKUP: Final = re.compile(r"([\\`*_{}\[\]()#+\-.!|~$:@/])")
MAX_TEXT: Final = 200


def plain(text: str) -> str:
    """The text on one line, at most MAX_TEXT characters, without characters that control how it is shown."""
    shown = "".join(
        " " if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") else char for char in text
    )
    shown = " ".join(shown.split())
    return shown if len(shown) <= MAX_TEXT else shown[: MAX_TEXT - 1] + "…"


def escaped(text: str) -> str:
    """The text for a place in Markdown, a cell of a table included."""
    return _MARKUP.sub(r"\\\1", html.escape(plain(text), quote=False))


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table. Texts of `rows` are escaped already; columns of numbers are aligned to the right."""
    lines = [list(map(str, row)) for row in rows]
    numeric = [all(re.fullmatch(r"[\d:]{1,12}", row[at]) for row in lines) for at in range(len(header))]
    rule = ["---:" if right else "---" for right in numeric]
    return "\n".join(f"| {' | '.join(row)} |" for row in (list(header), rule, *lines))
