"""An action: one run of one stage, named by everything that decides its result."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_STAGE = re.compile(r"[a-z][a-z0-9_-]{0,62}")


@dataclass(frozen=True, eq=False)
class Action:
    """What a stage is about to do.

    `inputs` are digests, in an order that matters; `parameters` are JSON values; `version` is the stage's own, raised
    whenever its code gives other results; `tools` maps plugins, SoundFonts and models to their digests or versions.
    `licences` bind the result and are no part of its name.
    """

    stage: str
    inputs: Sequence[str] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    version: str = "1"
    tools: Mapping[str, str] = field(default_factory=dict)
    licences: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not _STAGE.fullmatch(self.stage):
            raise ValueError(f"not a stage name: {self.stage!r}")
        if isinstance(self.inputs, str) or not all(isinstance(i, str) and i for i in self.inputs):
            raise ValueError(f"inputs of {self.stage} must be digests, got {self.inputs!r}")

    def document(self) -> dict[str, Any]:
        """The part of the record that names the action."""
        return {
            "stage": self.stage,
            "inputs": list(self.inputs),
            "parameters": dict(self.parameters),
            "seed": self.seed,
            "version": self.version,
            "tools": dict(self.tools),
        }

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of `document`; ValueError for NaN and what JSON cannot say."""
        return hashlib.sha256(canonical_json(self.document())).hexdigest()

    def key(self, generation: int) -> str:
        """Key of the record: `actions/<stage>/<digest>.json`, from the second generation on `….<n>.json`."""
        suffix = "" if generation == 1 else f".{generation}"
        return f"actions/{self.stage}/{self.digest}{suffix}.json"


def canonical_json(document: Any) -> bytes:
    """One spelling per value: sorted keys, no spaces, no NaN."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()
