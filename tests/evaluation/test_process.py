"""`python -m luthier_evaluation`: wrong settings, and a kill -9 in the middle of an evaluation."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from loopback import (
    Music,
    analysis_service,
    follows_prompt,
    ignores_prompt,
    inference_service,
    loopback_inference,
)

from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier.evaluation.v1.evaluation_pb2_grpc import EvaluationServiceStub
from luthier.inference.v1.inference_pb2 import GenerateRequest
from luthier_kit.rpc import Channel
from luthier_kit.store import Store
from tests.support.services import running


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(environ: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen([sys.executable, "-m", "luthier_evaluation"], env={**os.environ, **environ})
    try:
        yield started
    finally:
        started.terminate()
        started.wait(timeout=30)


def test_all_wrong_settings_are_named_at_once_with_variable_and_path() -> None:
    environ = {**os.environ, "LUTHIER_TLS_CA": "/nope.pem", "LUTHIER_ROWS_IN_FLIGHT": "0"}

    done = subprocess.run(
        [sys.executable, "-m", "luthier_evaluation"], check=False, env=environ, capture_output=True, text=True
    )

    assert done.returncode == 2
    assert "LUTHIER_TLS_CA=/nope.pem cannot be read" in done.stderr
    assert "LUTHIER_ROWS_IN_FLIGHT must be between 1 and 256, got 0" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_killed_service_is_followed_by_one_that_finishes_and_repeats_no_row(store: Store, tmp_path: Path) -> None:
    def slowly(request: GenerateRequest, row: int) -> Music:
        time.sleep(0.5)
        return follows_prompt(request, row)

    inference = loopback_inference(store, base=ignores_prompt, tuned=slowly)
    with ExitStack() as stack:
        port = free_port()
        environ = {
            "LUTHIER_ADDRESS": f"127.0.0.1:{port}",
            "LUTHIER_METRICS_ADDRESS": "127.0.0.1:0",
            "LUTHIER_STORE_FOLDER": str(tmp_path / "store"),
            "LUTHIER_INFERENCE_ADDRESS": stack.enter_context(running(inference_service(inference))),
            "LUTHIER_ANALYSIS_ADDRESS": stack.enter_context(running(analysis_service(store, tmp_path))),
            "LUTHIER_ROWS_IN_FLIGHT": "1",
        }
        client = EvaluationServiceStub(stack.enter_context(Channel(f"127.0.0.1:{port}")))
        request = pb.CreateEvaluationRequest(
            request_id="r", candidate_model="tuned", suite_name="quick", seconds_total=4
        )
        with process(environ) as first:
            created = client.CreateEvaluation(request).evaluation
            while len(inference.calls) < 3:
                time.sleep(0.05)
            first.send_signal(signal.SIGKILL)
            first.wait()
        before = list(inference.calls)

        with process(environ):
            watch = pb.WatchEvaluationRequest(evaluation_id=created.evaluation_id)
            *_, last = client.WatchEvaluation(watch, timeout=120)

        assert last.evaluation.state == pb.EVALUATION_STATE_SUCCEEDED
        assert len(inference.calls) <= len(before) + 8 - 2  # at most the row in work is done twice
        assert {row for _, row in inference.calls} == set(range(8))
