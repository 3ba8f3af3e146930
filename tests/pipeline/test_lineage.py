"""lineage: what is behind a file, and what names mean."""

from pathlib import Path
from typing import Any

import pytest

from luthier.curation.v1.dataset_pb2 import DatasetManifest, DatasetRow, DatasetVersion
from luthier.pipeline.v1.pipeline_pb2 import CorpusFile, Recording
from luthier_kit.rpc import NotFound, Unavailable
from luthier_kit.store import Store
from luthier_pipeline.corpus import corpus_of, publish
from luthier_pipeline.lineage import LineageIndex, lineage_of
from tests.pipeline.fakes import FakeClients, luthier
from tests.pipeline.filled_store import FilledStore, reach


def test_lineage_walks_back_from_audio_to_midi_soundfont_prompts_data_set_and_models(each_store: Store) -> None:
    filled = FilledStore(each_store)
    document: Any = lineage_of(LineageIndex(each_store), filled.audio.sha256).document()
    assert {(song["sha256"], song["path"]) for song in document["midi"]} == {
        (ref.sha256, f"Artist/Song {n}.mid") for n, ref in enumerate(filled.midi)
    }
    assert document["tools"] == {"soundfont": "5f" * 32}
    assert set(document["prompts"]) == {"A rock song", "prompt 0", "prompt 1"}
    assert document["datasets"] == ["way@1"]
    assert set(document["models"]) == {"tuned@1", "base@1"}
    assert document["licences"] == ["CC0-1.0"]


def test_lineage_walks_back_through_an_adapter_to_its_base_and_data_set(store: Store) -> None:
    filled = FilledStore(store)
    once = filled.adapt("once", filled.base)
    twice = filled.adapt("twice", once)
    document: Any = lineage_of(LineageIndex(store), twice.adapters[1].artifact.sha256).document()
    nodes = {node["name"]: node for node in document["nodes"]}
    assert set(document["models"]) == {"twice@1", "once@1", "base@1"}
    assert document["datasets"] == ["way@1"]
    assert len(document["midi"]) == 2
    made_by = {
        ref.sha256: nodes[ref.sha256]["from"] for ref in (once.checkpoint, *(a.artifact for a in twice.adapters))
    }
    assert list(made_by.values()) == [["base@1"], ["once@1"], ["twice@1"]]
    assert LineageIndex(store).resolve_file(twice.adapters[1].artifact.sha256) == twice.adapters[1].artifact.sha256


def test_the_graph_names_every_step_with_what_it_came_from(store: Store) -> None:
    filled = FilledStore(store)
    document: Any = lineage_of(LineageIndex(store), filled.audio.sha256).document()
    nodes = {node["name"]: node for node in document["nodes"]}
    [making] = nodes[filled.audio.sha256]["from"]
    assert (nodes[making]["stage"], nodes[making]["version"], nodes[making]["seed"]) == ("generate", "1", 5)
    assert nodes[making]["parameters"] == {"prompt": "A rock song"}
    assert set(nodes[filled.tuned.digest]["from"]) == {"tuned@1", filled.run_id}
    assert (nodes[filled.run_id]["kind"], nodes[filled.run_id]["state"]) == ("run", "SUCCEEDED")
    assert nodes["tuned@1"]["run"] == filled.run_id
    assert nodes[filled.clips[0].sha256]["records"] == ["actions/prompt/x.json"]


def test_a_model_of_several_data_sets_comes_from_all_of_them(store: Store) -> None:
    """Of stages and of the runs that it goes on from: else a takedown would not name it."""
    filled = FilledStore(store)
    clip = filled.blob("clips", "a clip of the other data set")
    other = store.put("manifests", DatasetManifest(rows=[DatasetRow(clip_id="clip-9", audio=clip)]))
    store.series(DatasetVersion, "datasets/other").append(DatasetVersion(manifest=other))
    datasets = [{"name": "way@1", "sha256": filled.dataset.sha256}, {"name": "other@1", "sha256": other.sha256}]
    mixed = filled.model("mixed", {"base_digest": filled.base.digest, "datasets": datasets}, dataset=filled.dataset)
    index = LineageIndex(store)
    document: Any = lineage_of(index, mixed.digest).document()
    assert set(document["datasets"]) == {"way@1", "other@1"}
    assert "mixed@1" in reach(index, clip.sha256).models


def test_a_recording_is_listed_beside_midi_files_under_its_own_licence(store: Store) -> None:
    filled = FilledStore(store)
    tapes = {name: filled.blob("audio", name, "mp3") for name in ("stated.mp3", "silent.mp3")}
    files = [
        CorpusFile(path=path, key=ref.key, sha256=ref.sha256, fingerprint=path, recording=Recording(licence=licence))
        for (path, ref), licence in zip(tapes.items(), ("CC-BY-4.0", ""), strict=True)
    ]
    publish(store, "tapes", "r", corpus_of(files, "CC0-1.0"), None)
    index = LineageIndex(store)
    licences = {}
    for path, ref in tapes.items():
        document: Any = lineage_of(index, ref.sha256).document()
        assert (document["midi"], [node["kind"] for node in document["nodes"]]) == ([], ["recording"])
        [recording] = document["recordings"]
        assert (recording["sha256"], recording["path"]) == (ref.sha256, path)
        licences[path] = (recording["licence"], document["licences"])
    assert licences == {"stated.mp3": ("CC-BY-4.0", ["CC-BY-4.0"]), "silent.mp3": ("CC0-1.0", ["CC0-1.0"])}
    of_midi: Any = lineage_of(index, filled.audio.sha256).document()
    assert (len(of_midi["midi"]), of_midi["recordings"]) == (2, [])


def test_a_store_that_is_down_is_not_taken_for_one_without_data_sets(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    FilledStore(store)

    def down(*_: object, **__: object) -> bytes:
        raise Unavailable("the store does not answer")

    monkeypatch.setattr(store.blobs, "read", down)
    with pytest.raises(Unavailable):
        LineageIndex(store)


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[1]", b'{"stage": 1, "lineage": 2}', b'{"stage": "x", "lineage": {"seed": []}}']
)
def test_a_record_that_is_none_is_passed_over(store: Store, text: bytes) -> None:
    filled = FilledStore(store)
    store.objects.create(f"actions/render/{'0' * 64}.json", text)
    store.objects.create("runs/training-broken/1.json", text)
    assert lineage_of(LineageIndex(store), filled.audio.sha256).document()["datasets"] == ["way@1"]


@pytest.mark.parametrize("name", ["key", "digest", "sha256:digest", "file"])
def test_a_file_is_known_by_its_key_its_digest_or_its_bytes(store: Store, tmp_path: Path, name: str) -> None:
    filled = FilledStore(store)
    copy = tmp_path / "copy.flac"
    copy.write_bytes(store.blobs.read(filled.audio))
    digest = filled.audio.sha256
    names = {"key": filled.audio.key, "digest": digest, "sha256:digest": f"sha256:{digest}", "file": str(copy)}
    assert luthier(["lineage", names[name], "--json"], FakeClients(store)).document["sha256"] == digest


def test_the_tree_is_for_people(store: Store) -> None:
    filled = FilledStore(store)
    lines = luthier("lineage tuned@1", FakeClients(store)).out.splitlines()
    assert any(line.strip().startswith("model  tuned@1") for line in lines)
    assert any(line.strip() == f"{filled.midi[0].key}  Artist/Song 0.mid  CC0-1.0" for line in lines)
    assert any(f"{filled.clips[0].key}" in line and '"prompt 0"' in line for line in lines)


@pytest.mark.parametrize("name", ["nobody@1", "0" * 64, __file__])
def test_what_the_store_does_not_know_is_said(store: Store, name: str) -> None:
    done = luthier(["lineage", name, "--json"], FakeClients(store))
    assert done.document["error"]["code"] == NotFound.code.name
