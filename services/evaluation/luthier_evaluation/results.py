"""Everything that was measured, as one JSON document: what the report shows and programs can read."""

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from luthier_evaluation.measurement import Measurement
from luthier_evaluation.plan import Plan
from luthier_evaluation.scores import Score
from luthier_kit.runs import Run

FORMAT = "luthier-evaluation/1"


def document(run: Run, plan: Plan, measurements: Sequence[Measurement], table: Sequence[Score]) -> dict[str, Any]:
    """The document; see the README for its fields."""
    return {
        "format": FORMAT,
        "evaluation_id": run.id,
        "created_at": run.created_at,
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "plan": plan.document(),
        "suite_sha256": plan.suite.sha256,
        "scores": [score.__dict__ for score in table],
        "rows": [measurement.document() for measurement in measurements],
        "failed_rows": sum(bool(measurement.error) for measurement in measurements),
        "estimators": estimators(measurements),
        "evaluator": version("luthier-evaluation"),
        "machine": machine(),
    }


def encode(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode()


def estimators(measurements: Sequence[Measurement]) -> dict[str, list[str]]:
    """Who measured tempo and key; more than one each means that the estimator changed on the way."""
    return {
        "tempo": sorted({m.tempo_estimator for m in measurements if m.tempo_estimator}),
        "key": sorted({m.key_estimator for m in measurements if m.key_estimator}),
    }


def machine() -> str:
    """Where the evaluation ran (the models may have run elsewhere): processor, cores, system."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{model or platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"
