"""Suites: frozen lists of prompts, with the tempo and the key that each prompt states.

A suite is named by the digest of its rows, so two evaluations with one digest asked for exactly the same. The shipped
ones lie in `suites/` as JSON.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib import resources
from typing import Any

from luthier_kit.artifacts.action import canonical_json
from luthier_music.keys import Key, parse_key


@dataclass(frozen=True)
class SuiteRow:
    """One prompt. `seconds_total` 0.5 to 600; `tempo_bpm` and `key` are what the prompt states, None = nothing."""

    prompt: str
    seconds_total: float
    seed: int
    tempo_bpm: float | None = None
    key: Key | None = None

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "key": str(self.key) if self.key else None}


@dataclass(frozen=True)
class Suite:
    """Rows under a name."""

    name: str
    rows: tuple[SuiteRow, ...]
    description: str = ""

    @property
    def sha256(self) -> str:
        """Digest of the rows alone."""
        return hashlib.sha256(canonical_json([row.document() for row in self.rows])).hexdigest()

    def taking(self, max_rows: int | None = None, seconds_total: float | None = None) -> "Suite":
        """The suite that takes effect: only the first `max_rows`, each `seconds_total` long."""
        rows = self.rows[:max_rows]
        if seconds_total is not None:
            rows = tuple(replace(row, seconds_total=seconds_total) for row in rows)
        return replace(self, rows=rows)

    def document(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "description": self.description,
            "sha256": self.sha256,
            "rows": [row.document() for row in self.rows],
        }


def shipped_names() -> list[str]:
    """Names of the suites that come with the service."""
    folder = resources.files("luthier_evaluation") / "suites"
    return sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))


def shipped(name: str) -> Suite:
    """A suite that comes with the service; KeyError for another name."""
    if name not in shipped_names():
        raise KeyError(name)
    return from_document(json.loads((resources.files("luthier_evaluation") / "suites" / f"{name}.json").read_text()))


def from_document(document: Mapping[str, Any]) -> Suite:
    """The suite in a JSON document, as `Suite.document` or a shipped file writes it."""
    return Suite(
        document["name"], tuple(_row(row) for row in document["rows"]), description=document.get("description", "")
    )


def _row(row: Mapping[str, Any]) -> SuiteRow:
    key = parse_key(row["key"]) if row.get("key") else None
    return SuiteRow(row["prompt"], row["seconds_total"], row["seed"], row.get("tempo_bpm"), key)
