"""One row of one model: generate, then measure. An action, so a restarted evaluation does not do it again."""

import hashlib

from luthier.evaluation.v1.evaluation_pb2 import RowResult
from luthier.inference.v1.inference_pb2 import OUTPUT_FORMAT_FLAC, GenerateRequest
from luthier_evaluation.backend import Backend
from luthier_evaluation.measurement import failed
from luthier_evaluation.plan import Model, Plan
from luthier_kit import statuses
from luthier_kit.artifacts import Action, Artifacts
from luthier_kit.artifacts.action import canonical_json
from luthier_kit.errors import Cancelled, FailedPrecondition, LuthierError, Unavailable

STAGE_VERSION = "1"


def row_result(
    store: Artifacts, backend: Backend, evaluation_id: str, plan: Plan, model: Model, index: int
) -> RowResult:
    """What `model` does with row `index`. A row that fails is a result with its error.

    Raises Unavailable when a backend stays down, and Cancelled when the service stops: neither says anything about the
    row.
    """
    try:
        action = _action(evaluation_id, plan, model, index)
        found, _ = store.run(action, RowResult, lambda: _measure(backend, evaluation_id, plan, model, index))
        return found
    except (Unavailable, Cancelled):
        raise
    except LuthierError as error:
        return failed(index, model.label, statuses.to_proto(error, "evaluation"))


def _action(evaluation_id: str, plan: Plan, model: Model, index: int) -> Action:
    """Of this evaluation only: another one measures again, with the estimators of its own day."""
    row = plan.suite.rows[index]
    text = hashlib.sha256(canonical_json(row.document())).hexdigest()
    parameters = {
        "evaluation": evaluation_id,
        "row": index,
        "prompt": row.prompt,
        "seconds_total": row.seconds_total,
        "steps": plan.steps,
        "guidance_scale": plan.guidance_scale,
        "sampler": plan.sampler,
    }
    inputs = [model.digest.removeprefix("sha256:"), text]
    return Action("evaluation-row", inputs, parameters, row.seed, STAGE_VERSION, {"model": model.digest})


def _measure(backend: Backend, evaluation_id: str, plan: Plan, model: Model, index: int) -> RowResult:
    row = plan.suite.rows[index]
    made = backend.generate(
        GenerateRequest(
            prompt=row.prompt,
            seconds_total=row.seconds_total,
            steps=plan.steps,
            guidance_scale=plan.guidance_scale,
            sampler=plan.sampler,
            seed=row.seed,
            model=model.label,
            output_format=OUTPUT_FORMAT_FLAC,
            request_id=f"{evaluation_id}-{index}-{model.digest.removeprefix('sha256:')[:16]}",
        )
    )
    if made.model_digest != model.digest:
        text = f"inference answered with {made.model} ({made.model_digest}) in place of {model.label} ({model.digest})"
        raise FailedPrecondition(text, reason="MODEL_DIFFERS")
    heard = backend.analyze(made.audio)
    result = RowResult(
        row=index, model=model.label, audio=made.audio, tempo=heard.tempo, key=heard.key, duration_s=heard.duration_s
    )
    if heard.HasField("loudness_lufs"):
        result.loudness_lufs = heard.loudness_lufs
    return result
