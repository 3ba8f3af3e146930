"""Documents name what is there: links, anchors, paths in code spans and command blocks; their Python parses."""

import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]
LISTED = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
    cwd=ROOT, capture_output=True, text=True, check=True,
).stdout.splitlines()  # fmt: skip
FILES = [path for path in LISTED if (ROOT / path).is_file()]
KNOWN = {*FILES, *(str(parent) for path in FILES for parent in PurePosixPath(path).parents)}
TOP = {path.partition("/")[0] for path in FILES if "/" in path}
DOCUMENTS = [path for path in FILES if path.endswith(".md")]

MADE = ("docs/api", "protos/dist", "*/.venv", "*/.venv/*", "deploy/terraform/.terraform*")  # by commands, not committed
SUFFIXES = (".py", ".proto", ".md", ".sh", ".tpl", ".toml")

LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
WORD = re.compile(r"[\w.<>*…{},/-]+")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


def anchors(document: str) -> set[str]:
    """The anchors that a host makes of headings: lower case, spaces to hyphens, punctuation gone."""
    text = FENCE.sub("", (ROOT / document).read_text())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(text)}


def resolved(path: str, folder: PurePosixPath) -> str:
    """A path that may go up, as one from the root."""
    parts: list[str] = []
    for part in (folder / path).parts:
        if part == ".." and parts:
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts) or "."


def is_there(path: str) -> bool:
    """Whether a path from the root exists; `<name>` stands for any name, `*` is a glob; made by a command counts."""
    pattern = re.sub(r"<[^>]*>", "*", path.rstrip("/"))
    if any(fnmatch(pattern, made) or fnmatch(pattern, f"{made}/*") for made in MADE):
        return True
    return pattern in KNOWN or ("*" in pattern and any(fnmatch(known, pattern) for known in KNOWN))


def mentions(document: str) -> set[str]:
    """Words in code that begin with a folder of the root or go up to one, or name a source file below some folder."""
    text = (ROOT / document).read_text()
    code = [*FENCE.findall(text), *SPAN.findall(FENCE.sub("", text))]
    lines = [
        line for block in code for line in block.splitlines() if "kubectl" not in line
    ]  # deploy/x is its Deployment
    words = {word.strip(".,…") for line in lines for word in WORD.findall(line)}
    return {
        word
        for word in words
        if "/" in word
        and not word.startswith("/")
        and "…" not in word
        and "{" not in word
        and not word.startswith("google/")  # comes with googleapis
        and (word.partition("/")[0] in TOP or word.startswith("../") or word.endswith(SUFFIXES))
    }


@pytest.mark.parametrize("document", DOCUMENTS)
def test_relative_links_lead_somewhere(document: str) -> None:
    folder = PurePosixPath(document).parent
    lost = []
    for link in LINK.findall(FENCE.sub("", (ROOT / document).read_text())):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = resolved(path, folder) if path else document
        if not is_there(target) or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_paths_in_code_exist(document: str) -> None:
    """From the root, from the document's folder, or as the end of a path of the document's own folder."""
    folder = PurePosixPath(document).parent
    lost = [
        word
        for word in sorted(mentions(document))
        if not is_there(word)
        and not is_there(resolved(word, folder))
        and not any(fnmatch(path, f"{folder}/*/{re.sub('<[^>]*>', '*', word)}") for path in KNOWN)
    ]
    assert lost == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_python_blocks_are_python(document: str) -> None:
    for block in PYTHON.findall((ROOT / document).read_text()):
        compile(block, document, "exec")


def test_the_contracts_page_has_every_package() -> None:
    packages = {
        ".".join(PurePosixPath(path).parts[1:-1])
        for path in FILES
        if path.startswith("protos/") and path.endswith(".proto")
    }
    rows = re.findall(r"^\| `(luthier\.[a-z0-9.]+)` \|", (ROOT / "protos/README.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(packages)


def test_the_architecture_names_files_by_their_whole_path() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    named = [span for span in SPAN.findall(FENCE.sub("", text)) if span.endswith((".py", ".proto"))]

    assert named, "the walks name the files that they go through"
    assert [path for path in named if not is_there(path)] == []
