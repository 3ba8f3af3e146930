"""Queries: Prometheus parses them, they ask for series that the code has, and a quiet installation answers each."""

import re
from pathlib import Path

import pytest
import yaml

from tests.operations.metrics import declared
from tests.operations.queries import Promtool, queries

ALL = list(queries())
GROUPING = re.compile(r"\b(?:by|on|without)\s*\([^)]*\)")
METRIC = re.compile(r"\b((?:luthier|process|rpc|up)(?:_\w+)?)(?:\{(?P<matchers>[^}]*)\})?(?=[\s\[)]|$)")
RENDERING, INFERENCE, ANALYSIS = (
    f"luthier.{name.lower()}.v1.{name}Service" for name in ("Rendering", "Inference", "Analysis")
)


def series(name: str, value: str, **labels: str) -> dict[str, str]:
    """One input of promtool: half an hour of samples, one a minute."""
    return {"series": name + "{" + ", ".join(f'{key}="{text}"' for key, text in labels.items()) + "}", "values": value}


def call(service: str, method: str) -> list[dict[str, str]]:
    """The histogram of calls that end well, one a minute."""
    labels = {"rpc_service": service, "rpc_method": method, "rpc_grpc_status_code": "OK"}
    buckets = [series("rpc_server_duration_seconds_bucket", "0+1x30", le=le, **labels) for le in ("1", "+Inf")]
    return [*buckets, series("rpc_server_duration_seconds_count", "0+1x30", **labels)]


def quiet() -> list[dict[str, str]]:
    """An installation after a collection and some generations, its render workers scaled in, nothing ever wrong."""
    found = [*call(INFERENCE, "Generate"), *call(ANALYSIS, "CutClips")]
    for past in call(RENDERING, "RenderSong"):
        found.append(past | {"values": "0+1x15 _x15"})
    found.append(series("up", "1x30", job="luthier-monitor", instance="monitor"))
    for job in ("inference", "analysis"):
        found.append(series("up", "1x30", job=f"luthier-{job}", instance=job))
        for name in ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"):
            found.append(series(name, "9x30", job=f"luthier-{job}", instance=job))
    for service in (INFERENCE, ANALYSIS):
        for name, value in (("in_flight", "0"), ("waiting", "0"), ("slots", "1"), ("refused_total", "0")):
            found.append(series(f"luthier_work_{name}", f"{value}x30", service=service))
        found.append(series("luthier_calls_refused_by_caller_limit_total", "0x30", service=service))
    for name in ("steps_total", "audio_seconds_total", "step_seconds_count"):
        found.append(series(f"luthier_inference_{name}", "0+1x30", model="m"))
    found += [series("luthier_inference_step_seconds_bucket", "0+1x30", model="m", le=le) for le in ("1", "+Inf")]
    found += [
        series(f"luthier_inference_{name}", "0x30") for name in ("reused_total", "cancelled_total", "models_loaded")
    ]
    found.append(series("luthier_pipeline_work_waiting", "0x30", stage="rendering"))
    found.append(series("luthier_takedowns_unfinished", "0x30"))
    found.append(series("luthier_inference_certificate_expires_timestamp_seconds", "99999999x30"))
    found.append(series("luthier_pipeline_clips", "9x30", collection="c"))
    for state in ("waiting", "in_flight", "done", "failed"):
        found.append(series("luthier_pipeline_songs", "1x30", collection="c", state=state))
    for state in ("running", "done", "failed", "interrupted", "silent", "waiting"):
        found.append(series("luthier_pipeline_shards", "1x30", collection="c", state=state))
    return found


def test_a_quiet_installation_answers_every_query(promtool: Promtool, tmp_path: Path) -> None:
    asked = [
        {"expr": f"count({expr}) > bool 0", "eval_time": "28m", "exp_samples": [{"labels": "{}", "value": 1}]}
        for _, expr in ALL
    ]
    case = {"interval": "1m", "input_series": quiet(), "promql_expr_test": asked}
    path = tmp_path / "case.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [], "evaluation_interval": "1m", "tests": [case]}))

    answered = promtool("test", "rules", path)

    assert answered.returncode == 0, answered.stdout + answered.stderr


@pytest.mark.parametrize(("where", "expr"), ALL, ids=[where for where, _ in ALL])
def test_a_query_asks_for_series_and_labels_that_the_code_has(where: str, expr: str) -> None:
    known = declared()
    asked = list(METRIC.finditer(GROUPING.sub("", expr)))

    assert asked, expr
    for found in asked:
        assert found[1] in known, f"{found[1]} is declared nowhere"
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", found["matchers"] or ""))
        assert labels <= known[found[1]], f"{found[1]} has no {labels - known[found[1]]}"
