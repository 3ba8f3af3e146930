"""What may be asked: bounds of every field, named when they are broken, before anything is stored or started."""

from luthier.evaluation.v1 import evaluation_pb2
from luthier_evaluation import plan as plans
from luthier_evaluation import suite as suites
from luthier_evaluation.facts import key_of
from luthier_evaluation.plan import Model, Plan
from luthier_evaluation.promotion import Promotion
from luthier_evaluation.suite import Suite, SuiteRow
from luthier_kit import models
from luthier_kit.artifacts import Artifacts
from luthier_kit.checks import Checks

MAX_ROWS = 5000
MAX_MODEL_CHARS = 200


def plan_of(store: Artifacts, request: evaluation_pb2.CreateEvaluationRequest) -> Plan:
    """The plan that a request makes. Raises InvalidRequest naming every field, NotFound for an unknown model."""
    _check(request)
    suite = suites.shipped(request.suite_name) if request.suite_name else _own(request.suite)
    taken = suite.taking(
        request.max_rows if request.HasField("max_rows") else None,
        request.seconds_total if request.HasField("seconds_total") else None,
    )
    names = [name for name in (request.baseline_model, request.candidate_model) if name]
    pinned = tuple(_pin(store, name) for name in names)
    checks = Checks()
    checks.that(
        len({model.digest for model in pinned}) == len(pinned),
        "baseline_model",
        f"must be another version than candidate_model: both are {pinned[0].digest}",
    )
    checks.done(reason="MODELS_ALIKE")
    return Plan(
        taken,
        pinned,
        steps=request.steps if request.HasField("steps") else plans.DEFAULT_STEPS,
        guidance_scale=request.guidance_scale if request.HasField("guidance_scale") else plans.DEFAULT_GUIDANCE_SCALE,
        sampler=request.sampler,
        created_by=request.created_by,
    )


def promotion_of(request: evaluation_pb2.PromoteModelRequest) -> Promotion:
    """The promotion asked for. Raises InvalidRequest naming every field."""
    checks = Checks()
    checks.name("name", request.name)
    checks.text("model", request.model, max_chars=MAX_MODEL_CHARS, blank=False)
    checks.text("evaluation_id", request.evaluation_id, max_chars=128)
    checks.text("promoted_by", request.promoted_by, max_chars=100, blank=False)
    checks.text("reason", request.reason, max_chars=500, blank=False)
    checks.done()
    return Promotion(
        request.name, request.model, request.evaluation_id, request.promoted_by, request.reason, request.force
    )


def _check(request: evaluation_pb2.CreateEvaluationRequest) -> None:
    checks = Checks()
    checks.text("request_id", request.request_id, max_chars=128, blank=False)
    checks.text("candidate_model", request.candidate_model, max_chars=MAX_MODEL_CHARS, blank=False)
    checks.text("baseline_model", request.baseline_model, max_chars=MAX_MODEL_CHARS)
    checks.text("created_by", request.created_by, max_chars=100)
    checks.text("sampler", request.sampler, max_chars=64)
    if request.HasField("steps"):
        checks.within("steps", request.steps, 1, 1000)
    if request.HasField("guidance_scale"):
        checks.within("guidance_scale", request.guidance_scale, 0, 50)
    if request.HasField("max_rows"):
        checks.within("max_rows", request.max_rows, 1, MAX_ROWS)
    if request.HasField("seconds_total"):
        checks.within("seconds_total", request.seconds_total, 0.5, 600)
    if request.HasField("suite"):
        checks.that(not request.suite_name, "suite_name", "must be empty where suite is given")
        _check_rows(checks, request.suite)
    else:
        checks.one_of("suite_name", request.suite_name, suites.shipped_names())
    checks.done()


def _check_rows(checks: Checks, suite: evaluation_pb2.Suite) -> None:
    checks.text("suite.name", suite.name, max_chars=100, blank=False)
    checks.count("suite.rows", suite.rows, 1, MAX_ROWS)
    for index, row in enumerate(suite.rows[:MAX_ROWS]):
        at = f"suite.rows[{index}]"
        checks.text(f"{at}.prompt", row.prompt, max_chars=2000, blank=False)
        checks.within(f"{at}.seconds_total", row.seconds_total, 0.5, 600)
        if row.HasField("tempo_bpm"):
            checks.within(f"{at}.tempo_bpm", row.tempo_bpm, 20, 400)
        if row.HasField("key"):
            checks.that(
                _is_key(row), f"{at}.key", f"must have a tonic (C, F#, Bb, …) and a mode, got {row.key.tonic!r}"
            )


def _is_key(row: evaluation_pb2.SuiteRow) -> bool:
    try:
        return key_of(row.key) is not None
    except ValueError:
        return False


def _own(suite: evaluation_pb2.Suite) -> Suite:
    rows = tuple(
        SuiteRow(
            row.prompt,
            row.seconds_total,
            row.seed,
            row.tempo_bpm if row.HasField("tempo_bpm") else None,
            key_of(row.key) if row.HasField("key") else None,
        )
        for row in suite.rows
    )
    return Suite(suite.name, rows)


def _pin(store: Artifacts, name: str) -> Model:
    version = models.resolve(store, name)
    return Model(version.label, f"sha256:{version.digest}", version.dataset_name)
