"""Parses deploy/Dockerfile: its stages, their bases and instructions."""

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
FROM = re.compile(r"(?P<parent>\S+)(?:\s+AS\s+(?P<name>\S+))?")


@dataclass
class Stage:
    """A stage: its name, the image or stage below it, and its instructions in order as (instruction, arguments)."""

    name: str
    parent: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def arguments(self, instruction: str) -> list[str]:
        """Arguments of each of its instructions of this name, such as `RUN`."""
        return [rest for step, rest in self.steps if step == instruction]


@cache
def stages() -> dict[str, Stage]:
    """All stages by name, in the order of the file."""
    found: dict[str, Stage] = {}
    for word, rest in _instructions((ROOT / "deploy/Dockerfile").read_text()):
        if word == "FROM" and (match := FROM.fullmatch(rest)):
            found[match["name"]] = Stage(match["name"], match["parent"])
        elif found:
            list(found.values())[-1].steps.append((word, rest))
    return found


def services(*parents: str) -> list[str]:
    """The stages of services that start from one of `parents`, without those of an extra (`analysis-deeprhythm`)."""
    return [name for name in entry_points(*parents) if "-" not in name]


def entry_points(*parents: str) -> list[str]:
    """The stages with an entry point that start from one of `parents`; what starts from `cuda` starts from `torch`."""
    above = {"cuda": "torch"}
    return [
        stage.name
        for stage in stages().values()
        if above.get(stage.parent, stage.parent) in parents and stage.arguments("ENTRYPOINT")
    ]


def _instructions(text: str) -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    pairs = [line.split(None, 1) for line in lines if line.strip()]
    return [(word, rest.strip()) for word, rest in pairs]
