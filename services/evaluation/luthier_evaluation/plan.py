"""What an evaluation does: a suite of prompts for one or two models, as an `EvaluationPlan`, fixed when it is created.

A suite is a frozen list of rows: a prompt, a length, a seed, and the tempo and key that the prompt states. It is named
by the digest of its rows, so that two evaluations with one digest asked for exactly the same. The shipped ones lie in
`suites/` as JSON. The lengths of one that is of lengths are scaled to the window of the models measured.

The plan is kept as the request of the evaluation's run.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any, Final

from google.protobuf.json_format import ParseDict

from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier_kit.registry import RunKind, RunLog
from luthier_kit.rpc import NotFound
from luthier_kit.store import Store, digest_of
from luthier_music.key_facts import key_fact, key_of
from luthier_music.keys import parse_key

MAX_ROWS: Final = 5000  # of a suite
MIN_SECONDS: Final = 0.5  # of a row

Evaluation = RunLog[pb.EvaluationPlan, pb.EvaluationProgress, pb.EvaluationOutcome]


def candidate(plan: pb.EvaluationPlan) -> pb.EvaluatedModel:
    """The model that is measured."""
    last: pb.EvaluatedModel = plan.models[-1]
    return last


def baseline(plan: pb.EvaluationPlan) -> pb.EvaluatedModel | None:
    """The model that it is compared with."""
    return plan.models[0] if len(plan.models) > 1 else None


def measured_s(plan: pb.EvaluationPlan, model: str, row: pb.SuiteRow) -> float | None:
    """How much of a row's audio by a model (`name@n`) is measured, seconds from its start. None = all of it: it was
    trimmed to the length asked for, or is of a set.
    """
    of_set = any(one.model == model and one.HasField("audio") for one in plan.models)
    return row.seconds_total if plan.measure_end and not of_set else None


def total_rows(plan: pb.EvaluationPlan) -> int:
    """Rows over all models."""
    return len(plan.suite.rows) * len(plan.models)


def shipped_names() -> list[str]:
    """Names of the suites that come with the service."""
    folder = resources.files("luthier_evaluation") / "suites"
    return sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))


def shipped_suite(name: str) -> pb.Suite:
    """A suite that comes with the service; KeyError for another name."""
    document = _shipped(name)
    return pb.Suite(name=name, description=document["description"], rows=_rows_from_json(document["rows"]))


def shipped_window_s(name: str) -> float | None:
    """The window over which the lengths of a shipped suite are spread, seconds; None where it is not of lengths."""
    window_s: float | None = _shipped(name).get("window_s")
    return window_s


def _shipped(name: str) -> dict[str, Any]:
    if name not in shipped_names():
        raise KeyError(name)
    document: dict[str, Any] = json.loads(
        (resources.files("luthier_evaluation") / "suites" / f"{name}.json").read_text()
    )
    return document


def effective_suite(suite: pb.Suite, max_rows: int | None = None, seconds_total: float | None = None) -> pb.Suite:
    """The suite that takes effect: only the first `max_rows`, each `seconds_total` long."""
    taken = pb.Suite(name=suite.name, description=suite.description, rows=suite.rows[:max_rows])
    for row in taken.rows:
        row.seconds_total = row.seconds_total if seconds_total is None else seconds_total
    return taken


def scaled_to_window(suite: pb.Suite, from_window_s: float, window_s: float) -> pb.Suite:
    """The suite with its lengths scaled from one window to another, both in seconds.

    Whole seconds in windows of 20 s or more, as Stable Audio 1 is told no others; tenths below; MIN_SECONDS at least.
    """
    step_s = 1.0 if window_s >= 20 else 0.1
    scaled = pb.Suite(name=suite.name, description=suite.description, rows=suite.rows)
    for row in scaled.rows:
        steps = math.floor(row.seconds_total * window_s / from_window_s / step_s + 1e-9)
        row.seconds_total = max(MIN_SECONDS, round(steps * step_s, 1))
    return scaled


def suite_sha256(suite: pb.Suite) -> str:
    """Digest of a suite's rows alone."""
    return digest_of([row_json(row) for row in suite.rows])


def row_json(row: pb.SuiteRow) -> dict[str, str | float | list[str] | None]:
    """The form over which digests are taken: another one would rename every suite and repeat every row.

    Genres, instruments and a reference came later and are in it only where a row has them. Those that the prompt names
    word for word are in it with the prompt, so that naming them renames no suite.
    """
    key = key_of(row.key)
    more: dict[str, str | list[str]] = {
        "genres": unstated(row.prompt, row.genres),
        "instruments": unstated(row.prompt, row.instruments),
        "reference": row.reference.sha256,
    }
    return {
        **{name: value for name, value in more.items() if value},
        "prompt": row.prompt,
        "seconds_total": row.seconds_total,
        "seed": row.seed,
        "tempo_bpm": row.tempo_bpm if row.HasField("tempo_bpm") else None,
        "key": str(key) if key else None,
    }


def unstated(prompt: str, words: Iterable[str]) -> list[str]:
    """Those of the words or phrases, in lower case, that do not stand in the prompt."""
    lower = prompt.lower()
    return [word for word in words if not re.search(rf"\b{re.escape(word)}\b", lower)]


def evaluation_log(store: Store, evaluation_id: str) -> Evaluation:
    """The run of an evaluation. NotFound for an id of another kind; reading says whether it is there."""
    if not evaluation_id.startswith(f"{EVALUATIONS.name}-"):
        raise NotFound(f"no evaluation {evaluation_id[:128]!r}", reason="RUN_NOT_FOUND")
    return RunLog(store, EVALUATIONS, evaluation_id)


def _rows_from_json(rows: Iterable[Mapping[str, Any]]) -> list[pb.SuiteRow]:
    return [pb.SuiteRow(**{**row, "key": key_fact(parse_key(row["key"])) if row.get("key") else None}) for row in rows]


def _old_plan(value: Mapping[str, Any]) -> pb.EvaluationPlan:
    """Luthier 0.1: the request, and the plan as an object of its own."""
    plan = value["plan"]
    suite = plan["suite"]
    return pb.EvaluationPlan(
        request=ParseDict(value["asked"], pb.CreateEvaluationRequest(), ignore_unknown_fields=True),
        suite=pb.Suite(name=suite["name"], description=suite["description"], rows=_rows_from_json(suite["rows"])),
        models=[
            pb.EvaluatedModel(model=model["label"], model_digest=model["digest"], dataset_name=model["dataset"])
            for model in plan["models"]
        ],
        steps=plan["steps"],
        guidance_scale=plan["guidance_scale"],
    )


EVALUATIONS: Final = RunKind(
    "evaluation", pb.EvaluationPlan, pb.EvaluationProgress, pb.EvaluationOutcome, old_request=_old_plan
)
