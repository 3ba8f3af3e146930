"""What Luthier 0.1 stored (old_store.json: written by the code of commit 5aa81e1) is read as it was meant."""

from typing import Any

import pytest

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1.dataset_pb2 import DatasetManifest
from luthier_kit.rpc import FailedPrecondition, error_of
from luthier_kit.store import Store
from luthier_pipeline.corpus import ingest_series, read_manifest, wait_for
from luthier_pipeline.lineage import LineageIndex, lineage_of
from luthier_pipeline.retention.gc import Amount, Rule, collect
from luthier_pipeline.run_status import RunStatusReader, seconds, state_name
from tests.pipeline.fakes import FakeClients, luthier
from tests.pipeline.filled_store import reach

MANIFEST = "2aa70034898ae6ff302b7c277d02efad7fbe316a937a156bc11bd145814fa1a4"
DATASET = "cebe1241dc191a5b8f5cedca98cad4e8aea98739f19c38ed4620757af3b73770"
MIDI = [
    "midi/7cd56e1e7696b0d5f8f1a2fc9247724e1a313456a7ffcf5b400e114698ef9763.mid",
    "midi/3088b15eb7cc28f42314b699f67cb1ce86cec3b74cc02d2fb77f4fb38a0d8c32.mid",
]
AUDIO = "9c9b7685a1774db7aac4ab193a6ea352ccd923d0911f106086abb32a20e3f66e"
TRAINING = "training-8e35c2cd3bf6641bdb0e2050b76932cb"


def test_a_corpus_manifest(old_store: Store) -> None:
    corpus = read_manifest(old_store, ArtifactRef(key=f"manifests/{MANIFEST}.json", sha256=MANIFEST))
    counts = corpus.counts
    assert (counts.files, counts.songs, counts.duplicates, counts.failed) == (4, 2, 1, 1)
    assert (corpus.manifest.licence, [song.path for song in corpus.songs]) == (
        "CC0-1.0", ["Artist/Song 0.mid", "Artist/Song 1.mid"],
    )  # fmt: skip
    song = corpus.songs[0]
    assert (song.artist, song.title, song.key, song.size_bytes, song.duration_s) == (
        "Artist", "Song 0", MIDI[0], 6, 61.25,
    )  # fmt: skip
    assert corpus.manifest.files[2].duplicate_of == "Artist/Song 0.mid"
    [failure] = corpus.failures
    assert (failure.path, failure.stage, failure.reason) == ("Artist/Broken.mid", "ingest", "MIDI_NOT_MIDI")


def test_what_ingests_came_to(old_store: Store) -> None:
    outcomes = [outcome for _, outcome in ingest_series(old_store, "way").entries()]
    assert [(outcome.run, outcome.WhichOneof("outcome")) for outcome in outcomes] == [
        ("r0", "error"), ("r0", "error"), ("r1", "corpus"), ("r2", "corpus"),
    ]  # fmt: skip
    errors = [error_of(outcome.error) for outcome in outcomes[:2]]
    assert [(error.reason, str(error), error.permanent) for error in errors] == [
        ("UNREACHABLE", "no renderer", False), ("FOLDER_EMPTY", "the folder is empty", True),
    ]  # fmt: skip
    assert [outcome.corpus.manifest.sha256 for outcome in outcomes[2:]] == [MANIFEST] * 2
    assert [outcome.corpus.HasField("sheet") for outcome in outcomes[2:]] == [True, False]
    assert outcomes[2].corpus.counts.songs == 2


def test_shards_find_their_corpus(old_store: Store) -> None:
    found = wait_for(old_store, "way", "r1", 1.0, lambda _: None)
    assert found.sheet
    assert (found.manifest.sha256, found.sheet.media_type, len(found.corpus.songs)) == (MANIFEST, "text/csv", 2)
    with pytest.raises(FailedPrecondition, match="FOLDER_EMPTY"):
        wait_for(old_store, "way", "r0", 1.0, lambda _: None)


def test_how_far_runs_were(old_store: Store) -> None:
    runs = {run.name: run for run in RunStatusReader(old_store).runs("way")}
    done = runs["r1"]
    assert (done.state, done.shard_count, done.songs) == ("FAILED", 3, 2)
    assert [(part.part, state_name(part.state)) for part in done.parts] == [
        ("ingest", "DONE"), ("0-of-3", "DONE"), ("1-of-3", "FAILED"), ("2-of-3", "INTERRUPTED"),
    ]  # fmt: skip
    first, failed = done.shards[0], done.shards[1]
    assert (first.shard.rendered, first.shard.clips, first.shard.audio_s, first.shard.seconds) == (1, 2, 61.25, 12.5)
    assert dict(first.shard.cpu_s) == {"render": 1.5, "cut": 0.25}
    assert (first.host, seconds(first.updated_at), first.shard.eta_s) == ("vm", 1795908134.8247292, 0.0)
    assert (failed.shard.eta_s, failed.need_render) == (65.5, 1)
    assert (error_of(failed.error).reason, failed.error.message) == ("UNREACHABLE", "no server")
    assert not done.shards[2].shard.HasField("eta_s")
    assert [failure.path for failure in done.failures] == ["Artist/Broken.mid", "Artist/Song 1.mid"]
    going = runs["r2"]
    assert going.ingest
    assert (going.state, going.ingest.ingest.inspected, going.ingest.ingest.files) == ("RUNNING", 1, 4)
    assert (going.ingest.ingest.submitted, going.ingest.need_render) == (False, 3)


def test_status_shows_them(old_store: Store) -> None:
    text = luthier("status --collection way", FakeClients(old_store)).out
    assert "1-of-3  FAILED       1/2" in text
    assert "UNREACHABLE: no server" in text
    document = luthier("status --collection way --json", FakeClients(old_store)).document
    assert document["runs"]["way"]["shards"][1]["reason"] == "UNREACHABLE"


def test_a_data_set(old_store: Store) -> None:
    manifest = old_store.get(DatasetManifest, ArtifactRef(key=f"manifests/{DATASET}.json", sha256=DATASET))
    assert [(row.clip_id, row.split, list(row.prompts), row.verdict.reviewer) for row in manifest.rows] == [
        ("clip-0", "train", ["prompt 0"], "ann"), ("clip-1", "validation", ["prompt 1"], "ann"),
    ]  # fmt: skip
    assert (manifest.rows[0].source.span.end_s, manifest.rows[0].facts.tempo.tempo_bpm) == (30.5, 120)


def test_the_lineage_of_audio(old_store: Store) -> None:
    document: Any = lineage_of(LineageIndex(old_store), AUDIO).document()
    assert {(song["path"], song["licence"]) for song in document["midi"]} == {
        ("Artist/Song 0.1.mid", "CC0-1.0"), ("Artist/Song 1.mid", "CC0-1.0"),
    }  # fmt: skip
    assert document["tools"] == {"soundfont": "5f" * 32}
    assert set(document["prompts"]) == {"A rock song", "prompt 0", "prompt 1"}
    assert (document["datasets"], document["models"]) == (["way@1"], ["tuned@1", "base@1"])
    assert document["licences"] == ["CC0-1.0", "MIT"]
    nodes = {node["name"]: node for node in document["nodes"]}
    render = next(node for node in nodes.values() if node.get("stage") == "render")
    assert (render["version"], render["seed"], render["parameters"]) == ("3", 7, {"mix_only": False})
    assert nodes[TRAINING]["state"] == "SUCCEEDED"


def test_the_reach_of_a_takedown(old_store: Store) -> None:
    index = LineageIndex(old_store)
    found = reach(index, index.resolve_file("Artist/Song 0.mid"))
    assert sorted(key.partition("/")[0] for key in found.derived.values()) == ["clips", "midi", "mixes"]
    assert (found.datasets, found.models, found.runs) == (["way@1"], ["tuned@1"], [TRAINING])


def test_what_gc_may_take(old_store: Store) -> None:
    """Only the audio that no evaluation holds: a document of either form holds what it names."""
    went = collect(old_store, Rule(grace_s=-60, generated_s=-60)).went
    assert went == {"expired": {"generated": Amount(1, len("A rock song"))}}
