"""Takes a song (or any file) down: what was derived from it alone is refused to every reader from now on.

A model goes with its checkpoint. What was learned or frozen from many songs (data sets, other models, audio that models
generated), and what was also made without it, is told, for a person to decide about.
"""

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from luthier_kit.artifacts import Artifacts
from luthier_kit.artifacts.tombstones import FRESH_S
from luthier_kit.errors import Unavailable
from luthier_pipeline.custody.ledger import ACTION, DATASET, MODEL, RUN, Ledger, Step

SETTLED_S = FRESH_S + 15.0
"""Until every worker honours a tombstone, and a record that one was writing then is written (S3's patience)."""
LOOKS = 10
"""Each finds what was in flight from what the one before found: more than the stages from MIDI to latents."""


@dataclass
class Reach:
    """What comes from a digest.

    `derived` names, the digest itself first, what goes with it: files that actions made of it alone, and versions of
    models (by digest) whose checkpoint goes; their names are `unserved`. `shared` are files made of it and also without
    it.
    """

    digest: str
    derived: dict[str, str] = field(default_factory=dict)
    shared: list[str] = field(default_factory=list)
    unserved: list[str] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    generated: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Plain JSON."""
        lists = {
            name: getattr(self, name) for name in ("shared", "unserved", "datasets", "models", "runs", "generated")
        }
        return {"sha256": self.digest, "derived": sorted(self.derived.values()), **lists}


def reach(ledger: Ledger, digest: str) -> Reach:
    """Everything that comes from a digest."""
    down, shared = _fallen(ledger, digest)
    holders = [step for one in down for step in ledger.makers.get(one, []) if step.kind in (DATASET, MODEL)]
    versions = [step for step in holders if step.kind == MODEL]
    derived = dict.fromkeys([*down, *(step.outputs[0] for step in versions)])
    everything, later = _closure(ledger, [*derived, *(one for step in holders for one in step.outputs)])
    names = {kind: {step.name for step in (*holders, *later) if step.kind == kind} for kind in (DATASET, MODEL, RUN)}
    unserved = {step.name for step in versions}
    beyond = (ledger.blobs.get(one, "") for one in everything if one not in derived)
    return Reach(
        digest,
        derived={one: _named(ledger, one) for one in derived},
        shared=sorted(_named(ledger, one) for one in shared),
        unserved=sorted(unserved),
        datasets=sorted(names[DATASET]),
        models=sorted(names[MODEL] - unserved),
        runs=sorted(names[RUN]),
        generated=sorted(key for key in beyond if key.startswith("generated/")),
    )


def take_down(store: Artifacts, found: Reach, *, by: str, reason: str) -> Reach:
    """Tombstones over what is derived, the digest itself first, again until work in flight adds nothing.

    Raises Unavailable TAKEDOWN_UNFINISHED when it still does after `LOOKS`.
    """
    down: dict[str, str] = {}
    for _ in range(LOOKS):
        fresh = {digest: name for digest, name in found.derived.items() if digest not in down}
        if not fresh:
            return replace(found, derived=down)
        for digest in fresh:
            store.take_down(digest, by=by, reason=reason)
        down |= fresh
        time.sleep(SETTLED_S)
        found = reach(Ledger(store), found.digest)
    text = f"running work still makes files of {found.digest}: stop it, then take it down again"
    raise Unavailable(text, reason="TAKEDOWN_UNFINISHED")


def _fallen(ledger: Ledger, digest: str) -> tuple[list[str], set[str]]:
    """What actions made of a digest alone, itself first; and what they made of it that others made without it."""
    shared: set[str] = set()
    while True:
        digests, steps = _closure(ledger, [digest], ACTION, without=shared)
        names = {step.name for step in steps}
        more = {
            one
            for one in digests
            if one != digest
            and any(maker.kind == ACTION and maker.name not in names for maker in ledger.makers.get(one, []))
        }
        if not more - shared:
            return [one for one in digests if one not in shared], shared & digests.keys()
        shared |= more


def _closure(
    ledger: Ledger, begin: Iterable[str], only: str = "", without: Collection[str] = ()
) -> tuple[dict[str, None], list[Step]]:
    """Digests (`begin` first) and steps that follow, through steps of one kind or of all, not past `without`."""
    digests = dict.fromkeys(begin)
    waiting = list(digests)
    steps: dict[str, Step] = {}
    while waiting:
        for step in ledger.users.get(waiting.pop(), []):
            if step.name in steps or (only and step.kind != only):
                continue
            steps[step.name] = step
            fresh = [one for one in dict.fromkeys(step.outputs) if one not in digests]
            digests.update(dict.fromkeys(fresh))
            waiting += [one for one in fresh if one not in without]
    return digests, list(steps.values())


def _named(ledger: Ledger, digest: str) -> str:
    return ledger.blobs.get(digest, f"sha256:{digest}")
