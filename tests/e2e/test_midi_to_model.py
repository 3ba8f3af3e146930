"""From MIDI to a promoted model through real processes; facts are compared with what the songbook composed.

The tests build on each other in the order in which a song passes through the services; the fixtures are the stages.
"""

import hashlib
import json
import math
import os
import time
import urllib.request
from pathlib import Path

import soundfile
from google.protobuf.json_format import ParseDict

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1.curation_pb2 import CuratedClip
from luthier.curation.v1.dataset_pb2 import DatasetManifest
from luthier_kit.registry import resolve
from tests.conftest import Answer
from tests.system import SONGS, System


def test_the_run_accounts_for_every_file(ran: Answer) -> None:
    assert (ran["files"], ran["songs"], ran["rendered"], ran["failures"]) == (SONGS, SONGS, SONGS, [])
    assert ran["clips"] >= SONGS


def test_a_second_run_computes_nothing(system: System, folder: Path, ran: Answer) -> None:
    again = system.luthier("run", str(folder), "--collection", "way", "--licence", "Apache-2.0")
    assert again["computed"] == 0
    assert again["reused"] == ran["computed"] + ran["reused"]


def test_tempo_and_instruments_of_clips_are_those_that_were_composed(folder: Path, clips: list[CuratedClip]) -> None:
    by_title = {song["title"].lower(): song for song in json.loads((folder / "truth.json").read_text())}
    for clip in clips:
        song = by_title[clip.source.song.title.lower()]
        played = {instrument["name"] for instrument in song["instruments"]}
        assert {fact.instrument for fact in clip.facts.instruments} <= played
        if not song["tempo_changes"]:
            assert math.isclose(clip.facts.tempo.tempo_bpm, song["tempo_bpm"], rel_tol=0.01)


def test_every_prompt_passed_its_check(clips: list[CuratedClip]) -> None:
    assert all(prompt.check.passed for clip in clips for prompt in clip.prompts)
    assert all(len(clip.prompts) >= 1 for clip in clips)


def test_every_row_of_the_data_set_is_traced_back_to_its_midi_file(
    system: System, folder: Path, exported: Answer
) -> None:
    files = {hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.mid")}
    manifest = ParseDict(exported["manifest"], ArtifactRef(), ignore_unknown_fields=True)
    rows = system.store.get(DatasetManifest, manifest).rows
    assert {row.source.midi_sha256 for row in rows} == files
    assert all(row.source.midi_sha256 in row.lineage.inputs for row in rows)
    assert all("Apache-2.0" in row.licences for row in rows)


def test_a_model_is_traced_back_to_its_data_set_and_its_base(
    system: System, exported: Answer, base: Answer, tuned: Answer
) -> None:
    model = resolve(system.store, tuned["model"])
    assert model.dataset
    assert model.dataset.sha256 == exported["manifest"]["sha256"]
    assert model.dataset_name == exported["dataset"]
    assert model.notes["base"] == base["model"]


def test_the_export_is_an_audio_folder_without_leaks(system: System, exported: Answer) -> None:
    folder = system.folder / "dataset"
    manifest = ParseDict(json.loads((folder / "manifest.json").read_text()), DatasetManifest())
    songs: dict[str, set[str]] = {"train": set(), "validation": set()}
    for row in manifest.rows:
        info = soundfile.info(folder / row.split / f"{row.clip_id}.flac")
        assert (info.samplerate, info.channels) == (44100, 2)
        songs[row.split].add(row.song_fingerprint)
    assert songs["train"]
    assert songs["validation"]
    assert not songs["train"] & songs["validation"]
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix != ".flac"}
    assert written >= {"README.md", "croissant.json", "train/metadata.parquet", "validation/metadata.parquet"}


def test_exporting_again_changes_nothing(system: System, exported: Answer) -> None:
    shares = ("--validation-share", "0.25", "--test-share", "0")
    again = system.luthier("export", "--collection", "way", *shares)
    assert again["dataset"] == exported["dataset"]
    assert again["manifest"]["sha256"] == exported["manifest"]["sha256"]


def test_training_measures_the_base_before_its_first_step(tuned: Answer) -> None:
    assert tuned["validation"][0].get("step", 0) == 0
    assert tuned["validation"][-1]["step"] == 6


def test_the_same_training_is_the_same_run(system: System, base: Answer, tuned: Answer) -> None:
    more = ("--steps", "6", "--batch-size", "2", "--validate-every", "3", "--learning-rate", "0.001")
    again = system.luthier("train", "--base", base["model"], "--dataset", "way", "--name", "tuned", *more)
    assert (again["run"], again["model"]) == (tuned["run"], tuned["model"])


def test_generated_audio_has_the_length_asked_for_and_repeats(system: System, tuned: Answer) -> None:
    arguments = ("generate", "A rock song at 120 BPM", "--seconds", "3", "--steps", "3", "--seed", "5")
    made = [
        system.luthier(*arguments, "--model", tuned["model"], "--out", str(system.folder / name))
        for name in ("first.wav", "second.wav")
    ]
    info = soundfile.info(system.folder / "first.wav")
    assert math.isclose(info.duration, 3.0, abs_tol=1 / info.samplerate)
    assert made[0]["audio"]["sha256"] == made[1]["audio"]["sha256"]
    assert made[0]["model_digest"] == tuned["model_digest"]


def test_generated_audio_is_traced_back_to_every_midi_file_soundfont_prompt_data_set_and_model(
    system: System, folder: Path, exported: Answer, base: Answer, tuned: Answer
) -> None:
    audio = system.folder / "traced.wav"
    arguments = ("generate", "A traced song", "--seconds", "1", "--steps", "1", "--seed", "6")
    system.luthier(*arguments, "--model", tuned["model"], "--out", str(audio))
    found = system.luthier("lineage", str(audio))
    songs = {hashlib.sha256(path.read_bytes()).hexdigest(): path.relative_to(folder) for path in folder.rglob("*.mid")}
    assert {song["sha256"]: song["path"] for song in found["midi"]} == {k: str(path) for k, path in songs.items()}
    assert len(found["tools"]["soundfont"]) == 64
    assert "A traced song" in found["prompts"]
    assert found["datasets"] == [exported["dataset"]]
    assert {base["model"], tuned["model"]} <= set(found["models"])
    assert "Apache-2.0" in found["licences"]


def test_gc_deletes_nothing_that_is_still_needed(system: System, folder: Path, ran: Answer, tuned: Answer) -> None:
    old = time.time() - 7200
    for path in (system.home / "store").rglob("*"):
        os.utime(path, (old, old))
    collected = system.luthier("gc", "--older-than", "1")
    assert collected["kept"] > 0
    again = system.luthier("run", str(folder), "--collection", "way", "--licence", "Apache-2.0")
    assert (again["computed"], again["failures"]) == (0, [])


def test_the_evaluation_measures_both_models_on_the_same_rows(
    system: System, judged: Answer, base: Answer, tuned: Answer
) -> None:
    scores = {(score["metric"], score["model"]): score for score in judged["scores"]}
    for model in (base["model"], tuned["model"]):
        assert scores["tempo_accuracy_1", model]["n"] >= 1
    assert (system.folder / "report.html").read_text().lstrip().lower().startswith("<!doctype html")


def test_people_hear_what_the_evaluation_heard_and_copies_of_it_are_kept(system: System, judged: Answer) -> None:
    made = system.luthier(
        "listening", "create", "--name", "way", "--evaluation", judged["evaluation"], "--rows", "2", "--kind", "mushra"
    )
    assert made["test"]["systems"] == [judged["baseline"], judged["candidate"]]
    assert made["test"]["trials"] == 2
    assert len(list(system.store.objects.keys("listening/"))) == 4
    again = system.luthier("listening", "results", "way")
    assert again["test"] == made["test"]
    with urllib.request.urlopen(made["link"]) as page:
        assert b"Listening" in page.read()
    report = system.folder / "heard.html"
    assert system.luthier("report", judged["evaluation"], "--out", str(report))["listening"] == ["way"]
    assert "Nobody has rated yet" in report.read_text()


def test_a_promoted_model_is_served_under_its_new_name(system: System, judged: Answer, tuned: Answer) -> None:
    promoted = system.luthier(
        "promote",
        "served",
        "--model",
        tuned["model"],
        "--evaluation",
        judged["evaluation"],
        "--reason",
        "test",
        "--force",
    )
    assert promoted["model_digest"] == tuned["model_digest"]
    arguments = ("generate", "A rock song", "--seconds", "1", "--steps", "2", "--seed", "1", "--model", "served")
    made = system.luthier(*arguments, "--out", str(system.folder / "served.wav"))
    assert made["model_digest"] == tuned["model_digest"]


def test_status_knows_all_of_it(system: System, tuned: Answer, judged: Answer) -> None:
    status = system.luthier("status")
    assert status["runs"]["way"]["state"] == "DONE"
    assert any(run["run_id"] == tuned["run"] for run in status["trainings"])
    assert any(found["evaluation_id"] == judged["evaluation"] for found in status["evaluations"])
