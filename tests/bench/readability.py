"""How long files and functions are, how many functions serve a single other one, and how much is commented.

    python tests/bench/readability.py services ../httpx/httpx ../nanochat --skip dev --skip tasks

prints one row per folder, as a Markdown table. The numbers describe; they are no target. How each is counted:

- **files**: `*.py` below the folder, without tests (`tests/`, `test/`, `test_*.py`, `conftest.py`), environments
  (`.venv`), builds and generated stubs (`*_pb2*.py`). `--skip PATTERN` leaves out more: names of files or folders, as
  fnmatch reads them. Files below 8 lines mark a package or hold a version; they are left out.
- **lines/file**: physical lines, with docstrings, comments and blank lines: what a reader scrolls through.
- **lines/function**: from `def` to the last line, with the docstring and without decorators. Methods and nested
  functions count, lambdas do not.
- **private, used once**: functions whose name begins with one underscore (`__init__` and its kind do not) and that
  their own file mentions exactly once besides the definition, as a share of *all* functions.
- **comments**: lines on which a comment stands, alone or behind code, as a share of all lines. Docstrings are none.
- **p90**: the smallest of the values that 90 % of the values do not exceed (nearest rank).
"""

import argparse
import ast
import io
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from statistics import median

SKIP = ("tests", "test", "test_*.py", "conftest.py", ".venv", "build", "dist", "*.egg-info", "*_pb2*.py")
MIN_LINES = 8  # below: the marker of a package, a version


@dataclass
class Counts:
    """What was counted below one folder: a number of lines for each file and each function, and two totals."""

    files: list[int] = field(default_factory=list)
    functions: list[int] = field(default_factory=list)
    used_once: int = 0
    comments: int = 0

    def add(self, source: str) -> None:
        """Counts one file's text; SyntaxError when it is no Python."""
        lines = len(source.splitlines())
        if lines < MIN_LINES:
            return
        self.files.append(lines)
        nodes = list(ast.walk(ast.parse(source)))
        functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        self.functions += [(node.end_lineno or node.lineno) - node.lineno + 1 for node in functions]
        mentions = Counter(
            node.id if isinstance(node, ast.Name) else node.attr
            for node in nodes
            if isinstance(node, ast.Name | ast.Attribute)
        )
        private = (node.name for node in functions if node.name.startswith("_") and not node.name.startswith("__"))
        self.used_once += sum(mentions[name] == 1 for name in private)
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        self.comments += sum(token.type == tokenize.COMMENT for token in tokens)

    def row(self, name: str) -> list[str]:
        return [
            name,
            str(len(self.files)),
            f"{sum(self.files)}",
            *spread(self.files),
            *spread(self.functions),
            share(self.used_once, len(self.functions)),
            share(self.comments, sum(self.files)),
        ]


def spread(values: list[int]) -> tuple[str, str]:
    """Median and p90 of counts; dashes when there are none."""
    if not values:
        return "-", "-"
    rank = -(-9 * len(values) // 10)  # ceil of 90 %
    return f"{median(values):g}", str(sorted(values)[rank - 1])


def share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def sources(folder: Path, skip: Iterable[str]) -> Iterator[Path]:
    """The Python files below a folder that no pattern leaves out. Patterns do not see the folder's own name."""
    for path in sorted(folder.rglob("*.py")):
        names = path.relative_to(folder).parts
        if not any(fnmatch(name, pattern) for name in names for pattern in skip):
            yield path


def count(folder: Path, skip: Iterable[str] = SKIP) -> Counts:
    counts = Counts()
    for path in sources(folder, tuple(skip)):
        counts.add(path.read_text(encoding="utf-8"))
    return counts


HEADER = ["folder", "files", "lines", "lines/file", "p90", "lines/function", "p90", "private, used once", "comments"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Prints one row of counts for each folder, as a Markdown table.")
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument(
        "--skip",
        action="append",
        default=[],
        metavar="PATTERN",
        help="files or folders to leave out, besides " + ", ".join(SKIP),
    )
    given = parser.parse_args()
    rows = [HEADER, *(count(folder, (*SKIP, *given.skip)).row(str(folder)) for folder in given.folders)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    for number, row in enumerate(rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


if __name__ == "__main__":
    main()
