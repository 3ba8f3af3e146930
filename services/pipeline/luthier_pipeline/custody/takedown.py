"""Takes a song (or any blob) down: what was derived from it alone is refused to every reader from now on.

What was learned or frozen from many songs (data sets, models, audio that those models generated) is told, for a person
to decide about.
"""

from dataclasses import dataclass, field
from typing import Any

from luthier_pipeline.custody.ledger import ACTION, DATASET, MODEL, Ledger, Step


@dataclass
class Reach:
    """What comes from a digest. `derived` are digests of blobs made from it by actions, itself included."""

    digest: str
    derived: dict[str, str] = field(default_factory=dict)
    datasets: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    generated: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Plain JSON."""
        lists = {name: getattr(self, name) for name in ("datasets", "models", "runs", "generated")}
        return {"sha256": self.digest, "derived": sorted(self.derived.values()), **lists}


def reach(ledger: Ledger, digest: str) -> Reach:
    """Everything that comes from a digest."""
    found = Reach(digest)
    derived, _ = _closure(ledger, {digest}, only=ACTION)
    found.derived = {one: ledger.blobs.get(one, f"sha256:{one}") for one in derived}
    everything, steps = _closure(ledger, derived)
    found.datasets = sorted(step.name for step in steps if step.kind == DATASET)
    found.models = sorted(step.name for step in steps if step.kind == MODEL)
    found.runs = sorted(step.name for step in steps if step.kind not in (ACTION, DATASET, MODEL))
    later = (ledger.blobs[one] for one in everything - derived if one in ledger.blobs)
    found.generated = sorted(key for key in later if key.startswith("generated/"))
    return found


def _closure(ledger: Ledger, begin: set[str], only: str = "") -> tuple[set[str], list[Step]]:
    """Digests and steps that follow from `begin`, through steps of one kind or of all."""
    digests, waiting = set(begin), list(begin)
    steps: dict[str, Step] = {}
    while waiting:
        for step in ledger.users.get(waiting.pop(), []):
            if step.name in steps or (only and step.kind != only):
                continue
            steps[step.name] = step
            fresh = [one for one in step.outputs if one not in digests]
            digests.update(fresh)
            waiting += fresh
    return digests, list(steps.values())
