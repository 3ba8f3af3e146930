"""`corpora/<collection>`: shards wait for their manifest, and stop when there will be none."""

import threading
import time

import pytest

from luthier_kit.artifacts import open_artifacts
from luthier_kit.errors import DeadlineExceeded, FailedPrecondition, InvalidRequest, Unavailable
from luthier_kit.settings import StoreSettings
from luthier_pipeline import catalogue
from luthier_pipeline.corpus import Corpus, Entry

CORPUS = Corpus((Entry("a.mid", fingerprint="f"),), licence="CC0-1.0")


@pytest.fixture
def store(tmp_path):
    return open_artifacts(StoreSettings(store_folder=tmp_path))


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(catalogue, "LOOK_EVERY_S", 0.05)


def wait_for(store, run="", wait_s=5.0):
    return catalogue.wait_for(store, "book", run, wait_s, lambda _: None)


def test_a_shard_waits_until_the_manifest_is_written(store):
    threading.Timer(0.3, catalogue.publish, (store, "book", "r", CORPUS, None)).start()
    begun = time.monotonic()
    assert wait_for(store, "r").corpus == CORPUS
    assert time.monotonic() - begun > 0.25


def test_a_shard_takes_its_own_runs_manifest_and_the_first_of_them(store):
    sheet = store.put_bytes("sheets", b"x", "csv", "text/csv")
    first = catalogue.publish(store, "book", "mine", CORPUS, sheet)
    catalogue.publish(store, "book", "mine", Corpus(CORPUS.entries * 2), None)
    catalogue.publish(store, "book", "other", Corpus(()), None)
    found = wait_for(store, "mine")
    assert (found.manifest, found.sheet.key, found.run) == (first, sheet.key, "mine")
    assert wait_for(store).run == "other"


def test_another_runs_manifest_is_not_taken(store):
    catalogue.publish(store, "book", "old", CORPUS, None)
    with pytest.raises(DeadlineExceeded, match=r"no manifest after 0\.2 s"):
        wait_for(store, "new", 0.2)


def test_a_folder_that_cannot_be_used_ends_the_waiting_at_once(store):
    catalogue.publish_failure(store, "book", "r", InvalidRequest("the folder is empty", reason="FOLDER_EMPTY"))
    with pytest.raises(FailedPrecondition, match="FOLDER_EMPTY: the folder is empty"):
        wait_for(store, "r")


def test_an_ingest_that_may_try_again_is_given_time(store, monkeypatch):
    catalogue.publish_failure(store, "book", "r", Unavailable("no renderer", reason="UNREACHABLE"))
    with pytest.raises(DeadlineExceeded, match="it may try again: UNREACHABLE"):
        wait_for(store, "r", 0.2)
    monkeypatch.setattr(catalogue, "ANOTHER_TRY_S", 0.0)
    with pytest.raises(FailedPrecondition, match="no renderer"):
        wait_for(store, "r")
