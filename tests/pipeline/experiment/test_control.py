"""The control: the tempi of captions go to other songs, all else stays."""

import hashlib

import pytest

from luthier.common.v1.common_pb2 import ArtifactRef, Prompt
from luthier.curation.v1.dataset_pb2 import DatasetManifest, DatasetVersion
from luthier.prompting.v1.prompting_pb2 import ComposePromptsRequest, ComposePromptsResponse
from luthier_kit.store import Store
from luthier_pipeline.experiment.control import control_dataset, shuffled
from tests.pipeline.fakes import FakeClients, Stub


def manifest(songs: int = 20, clips: int = 3) -> DatasetManifest:
    made = DatasetManifest(format="luthier.dataset.v1", name="true", collection="c")
    for song in range(songs):
        for clip in range(clips):
            row = made.rows.add(
                clip_id=f"clip-{song}-{clip}",
                split="validation" if song % 5 == 0 else "train",
                song_fingerprint=hashlib.sha256(bytes([song])).hexdigest(),
                prompts=["p", "q"],
                composers=["grammar", "grammar"],
            )
            row.facts.tempo.tempo_bpm = row.facts.estimated_tempo.tempo_bpm = 75 + song
            row.facts.descriptors.add(name="onset_rate_hz", value=(75 + song) / 30)
            row.facts.key.tonic = "C"
    return made


def compose(request: ComposePromptsRequest) -> ComposePromptsResponse:
    text = f"{request.facts.key.tonic}, {request.facts.tempo.tempo_bpm:.0f} BPM"
    return ComposePromptsResponse(prompts=[Prompt(text=text, composer="grammar")] * request.count)


def test_the_tempi_of_a_split_change_hands_song_by_song() -> None:
    true = manifest()
    lying = shuffled(true)
    for split in ("train", "validation"):
        rows = [row for row in true.rows if row.split == split]
        told = [lying[row.clip_id].tempo.tempo_bpm for row in rows]
        assert sorted(told) == sorted(row.facts.tempo.tempo_bpm for row in rows)
    by_song = {row.song_fingerprint: lying[row.clip_id].tempo.tempo_bpm for row in true.rows}
    assert all(lying[row.clip_id].tempo.tempo_bpm == by_song[row.song_fingerprint] for row in true.rows)
    assert all(lying[row.clip_id].tempo.tempo_bpm != row.facts.tempo.tempo_bpm for row in true.rows)
    rates = [(lying[row.clip_id].descriptors[0].value, lying[row.clip_id].tempo.tempo_bpm) for row in true.rows]
    assert all(rate == tempo / 30 for rate, tempo in rates)
    assert all(lying[row.clip_id].key.tonic == "C" for row in true.rows)


def test_the_control_differs_in_its_captions_alone_and_is_made_once(store: Store) -> None:
    true = manifest()
    entry = DatasetVersion(manifest=store.put("manifests", true), collection="c")
    clients = FakeClients(store, prompting=Stub(ComposePrompts=compose))
    assert control_dataset(clients, entry, "control") == "control@1"
    assert control_dataset(clients, entry, "control") == "control@1"
    made = store.series(DatasetVersion, "datasets/control").entry(1)
    assert made is not None
    lying = store.get(DatasetManifest, made.manifest)
    assert lying.rows[0].prompts[0] == f"C, {shuffled(true)['clip-0-0'].tempo.tempo_bpm:.0f} BPM"
    for row, before in zip(lying.rows, true.rows, strict=True):
        assert len(row.prompts) == 2
        row.prompts[:] = before.prompts
    assert lying.rows == true.rows


def test_an_entry_whose_manifest_is_gone_is_an_error(store: Store) -> None:
    gone = ArtifactRef(key="manifests/" + "0" * 64 + ".json", sha256="0" * 64, size_bytes=3)
    with pytest.raises(Exception, match="manifests/"):
        control_dataset(FakeClients(store, prompting=Stub(ComposePrompts=compose)), DatasetVersion(manifest=gone), "x")
