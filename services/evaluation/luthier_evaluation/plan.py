"""What an evaluation does: a suite of prompts for one or two models, as an `EvaluationPlan`, fixed when it is created.

A suite is a frozen list of rows: a prompt, a length, a seed, and the tempo and key that the prompt states. It is named by
the digest of its rows, so that two evaluations with one digest asked for exactly the same. The shipped ones lie in
`suites/` as JSON.
"""

import hashlib
import json
from importlib import resources

from luthier.common.v1.common_pb2 import MODE_MAJOR, MODE_MINOR, KeyFact
from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier_kit.artifacts.action import canonical_json
from luthier_music.keys import Key, Mode, parse_key, parse_pitch_class

DEFAULT_STEPS = 100
DEFAULT_GUIDANCE_SCALE = 7.0
MODES: dict[int, Mode] = {MODE_MAJOR: "major", MODE_MINOR: "minor"}


def candidate(plan: pb.EvaluationPlan) -> pb.EvaluatedModel:
    """The model that is measured."""
    return plan.models[-1]


def baseline(plan: pb.EvaluationPlan) -> pb.EvaluatedModel | None:
    """The model that it is compared with."""
    return plan.models[0] if len(plan.models) > 1 else None


def total(plan: pb.EvaluationPlan) -> int:
    """Rows over all models."""
    return len(plan.suite.rows) * len(plan.models)


def shipped_names() -> list[str]:
    """Names of the suites that come with the service."""
    folder = resources.files("luthier_evaluation") / "suites"
    return sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))


def shipped_suite(name: str) -> pb.Suite:
    """A suite that comes with the service; KeyError for another name."""
    if name not in shipped_names():
        raise KeyError(name)
    document = json.loads((resources.files("luthier_evaluation") / "suites" / f"{name}.json").read_text())
    suite = pb.Suite(name=name, description=document["description"])
    for row in document["rows"]:
        key = key_fact(parse_key(row.pop("key"))) if row.get("key") else None
        suite.rows.append(pb.SuiteRow(**row, key=key))
    return suite


def effective_suite(suite: pb.Suite, max_rows: int | None = None, seconds_total: float | None = None) -> pb.Suite:
    """The suite that takes effect: only the first `max_rows`, each `seconds_total` long."""
    rows = suite.rows[:max_rows]
    taken = pb.Suite(name=suite.name, description=suite.description, rows=rows)
    for row in taken.rows:
        row.seconds_total = row.seconds_total if seconds_total is None else seconds_total
    return taken


def suite_sha256(suite: pb.Suite) -> str:
    """Digest of a suite's rows alone."""
    return hashlib.sha256(canonical_json([row_json(row) for row in suite.rows])).hexdigest()


def row_json(row: pb.SuiteRow) -> dict[str, str | float | None]:
    """The row in the form over which digests are taken: a change here would rename every suite."""
    key = key_of(row.key)
    return {
        "prompt": row.prompt,
        "seconds_total": row.seconds_total,
        "seed": row.seed,
        "tempo_bpm": row.tempo_bpm if row.HasField("tempo_bpm") else None,
        "key": str(key) if key else None,
    }


def key_of(fact: KeyFact) -> Key | None:
    """The key, None when tonic or mode is unknown. ValueError for a tonic that is no pitch class."""
    mode = MODES.get(fact.mode)
    return Key(parse_pitch_class(fact.tonic), mode) if fact.tonic and mode else None


def key_fact(key: Key) -> KeyFact:
    """The fact without a source."""
    return KeyFact(tonic=key.tonic_name, mode=MODE_MAJOR if key.mode == "major" else MODE_MINOR)
