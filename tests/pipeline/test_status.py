"""`luthier status` of runs: a line a collection, a line a shard, every failure."""

import json
import time

import pytest

from luthier_kit.artifacts import open_artifacts
from luthier_kit.settings import StoreSettings
from luthier_pipeline.arguments import parser
from luthier_pipeline.commands.context import Context
from luthier_pipeline.commands.status import status
from luthier_pipeline.diary import series_of

FAILURE = {"path": "A/b.mid", "stage": "render", "reason": "MIDI_TOO_LONG", "message": "must be shorter"}


@pytest.fixture
def place(tmp_path):
    """A run of three shards: one done, one that has said nothing for two minutes, one that has not begun."""
    store = open_artifacts(StoreSettings(store_folder=tmp_path))
    numbers = {"songs": 4, "corpus_songs": 12, "shards": 3, "in_flight": 0, "waiting": 0, "clips": 6, "host": "pod-0"}
    common = {"collection": "book", "run": "r", "began_at": 0.0, "eta_s": 0.0, **numbers}
    done = {"shard": 0, "state": "DONE", "at": time.time(), "rendered": 3, "failed": 1, "failures": [FAILURE]}
    dead = {"shard": 1, "state": "RUNNING", "at": time.time() - 120, "rendered": 1, "failed": 0, "waiting": 1}
    for facts in (done, {**dead, "in_flight": 2, "host": "pod-1", "eta_s": 65.0}):
        part = f"{facts['shard']}-of-3"
        store.append(series_of("book", "r", part), {**common, "part": part, **facts})
    return type("Place", (), {"store": store})


def told(place, collection="book") -> tuple[dict, str]:
    answers = []
    context = Context(parser().parse_args(["status", "--collection", collection]), place)
    context.answer = lambda document, text="": answers.append((document, text))
    status(context)
    return answers[0]


def test_a_run_is_the_sum_of_its_shards(place):
    run = told(place)[0]["runs"]["book"]
    assert (run["state"], run["songs"], run["rendered"], run["failed"]) == ("RUNNING", 12, 4, 1)
    assert (run["in_flight"], run["waiting"], run["clips"], run["eta_s"]) == (2, 1 + 4, 12, 65.0)
    assert json.loads(json.dumps(run)) == run


def test_people_see_what_is_silent_what_has_not_begun_and_what_failed(place):
    text = told(place)[1]
    head, shards, failures = text.split("\n\n")
    assert "RUNNING (1/3 shards done, 1 not begun, 1 silent)  5/12" in head
    assert "1-of-3  silent for 02:00  1/4" in shards
    assert failures == "FAILED book: A/b.mid: render: MIDI_TOO_LONG: must be shorter"


def test_a_collection_that_nobody_ran_has_no_run(place):
    assert told(place, "other") == ({"runs": {}}, "no pipeline run yet")
