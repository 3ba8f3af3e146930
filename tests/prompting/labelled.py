"""Captions with labels, to measure the checker by: `captions/sentences.tsv` and the facts in `captions/clips.json`.

A sentence is labelled `true` (all it says of the clip is in the facts), `false` (one statement is not) or `none` (it
says nothing that a fact could prove), with the subject of what it states. The first set was written without knowledge
of the checker, which was then mended by it; the second was written afterwards, and nothing was mended by it.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from google.protobuf.json_format import ParseDict

from luthier.prompting.v1 import prompting_pb2
from luthier_music.captions import check
from luthier_music.clip_facts import Facts, facts_of

_FOLDER: Final = Path(__file__).with_name("captions")
SETS: Final = ("first", "second")


@dataclass(frozen=True)
class Sentence:
    """`label`: true, false or none; `subjects`: what the checker objects to, empty where to nothing."""

    clip: str
    label: str
    subject: str
    text: str
    subjects: frozenset[str]

    @property
    def is_right(self) -> bool:
        """Whether the checker objects to what is false, and to nothing else."""
        return bool(self.subjects) == (self.label == "false")


@dataclass(frozen=True)
class Score:
    """How the checker finds false sentences: precision is the share of its objections that are right."""

    found: int
    missed: int
    wrongly: int

    @property
    def precision(self) -> float:
        return self.found / (self.found + self.wrongly)

    @property
    def recall(self) -> float:
        return self.found / (self.found + self.missed)


def clips() -> dict[str, Facts]:
    """The facts of each clip."""
    found = {}
    for name, content in json.loads((_FOLDER / "clips.json").read_text()).items():
        message = ParseDict(content, prompting_pb2.ComposePromptsRequest())
        found[name] = facts_of(message.facts, message.tags)
    return found


def sentences(which: str) -> Iterator[Sentence]:
    """Every sentence of a set, held against its clip's facts."""
    facts = clips()
    with (_FOLDER / "sentences.tsv").open(encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE):
            if row["set"] == which:
                found = check(row["sentence"], facts[row["clip"]], allow_subset=True)
                subjects = frozenset(d.subject for d in found)
                yield Sentence(row["clip"], row["label"], row["subject"], row["sentence"], subjects)


def score(found: list[Sentence]) -> Score:
    """Precision and recall over sentences."""
    false = [s for s in found if s.label == "false"]
    right = sum(s.is_right for s in false)
    return Score(right, len(false) - right, sum(not s.is_right for s in found if s.label != "false"))
