"""A client that goes away ends its generation and frees its place, however it waits for the answer."""

import http.client
import json
from pathlib import Path
from typing import Any

import pytest

from luthier_inference import metrics
from tests.model.small import ModelFiles

from .conftest import GENERATE, Both, body, both, wait_until


def begin(served: Both, asked: dict[str, Any]) -> http.client.HTTPConnection:
    """A connection on which this was asked."""
    connection = http.client.HTTPConnection(served.server.service.front.address, timeout=30)  # type: ignore[union-attr]
    connection.request("POST", GENERATE, json.dumps(asked), {"content-type": "application/json"})
    return connection


def cancelled() -> float:
    found: float = metrics.CANCELLED._value.get()
    return found


def steps() -> float:
    found: float = metrics.STEPS.labels("tiny")._value.get()
    return found


@pytest.mark.usefixtures("slow_steps")
@pytest.mark.parametrize(
    "form", [{}, {"response_format": "json"}, {"stream_format": "sse"}], ids=["audio", "json", "sse"]
)
def test_the_place_of_a_client_who_left_is_free_within_a_step(
    model_files: ModelFiles, tmp_path: Path, form: dict[str, str]
) -> None:
    with both(model_files, tmp_path, slots=1, queue=0) as served:
        before, ended = steps(), cancelled()
        connection = begin(served, body(seed=1, num_inference_steps=1000, **form))
        wait_until(lambda: steps() >= before + 3)
        at_leaving = steps()
        connection.close()
        wait_until(lambda: cancelled() == ended + 1)
        made = steps() - at_leaving
        answer = served.http.post(GENERATE, json=body(seed=2, num_inference_steps=1))

    assert made <= 2  # the one under way, and one begun while the news came
    assert answer.status_code == 200


@pytest.mark.usefixtures("slow_steps")
def test_a_client_who_waits_for_a_place_and_leaves_gives_it_up(model_files: ModelFiles, tmp_path: Path) -> None:
    with both(model_files, tmp_path, slots=1, queue=1) as served:
        before = steps()
        first = begin(served, body(seed=1, num_inference_steps=1000))
        wait_until(lambda: steps() > before)
        second = begin(served, body(seed=2, num_inference_steps=1000, stream_format="sse"))
        assert second.getresponse().status == 200  # it was told how long it will wait
        assert served.http.post(GENERATE, json=body(seed=3)).status_code == 503
        second.close()

        def there_is_room() -> bool:
            third = begin(served, body(seed=3, stream_format="sse"))
            status = third.getresponse().status
            third.close()
            return status == 200

        wait_until(there_is_room)
        first.close()


@pytest.mark.usefixtures("slow_steps")
def test_a_client_who_leaves_between_pieces_of_audio_holds_nothing(
    model_files: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("luthier_inference.service.CHUNK_BYTES", 1000)
    with both(model_files, tmp_path) as served:
        connection = begin(served, body(seed=1, num_inference_steps=1, response_format="wav"))
        assert connection.getresponse().read(10)[:4] == b"RIFF"
        connection.close()
        wait_until(lambda: not served.server.dispatcher.admission.scheduled.taken)
        answer = served.http.post(GENERATE, json=body(seed=1, num_inference_steps=1))

    assert answer.headers["x-luthier-reused"] == "1"
