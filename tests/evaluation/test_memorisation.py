"""What a model was trained on is found in what it makes, told, and no ground for a promotion."""

import io
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from conftest import Platform, add_model
from loopback import RATE, Make
from test_copies import RATE_HZ, Song, played

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1.dataset_pb2 import DatasetManifest, DatasetRow
from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier.inference.v1.inference_pb2 import GenerateRequest
from luthier_evaluation.memorisation import training_sets_of
from luthier_kit.registry import ModelVersion, register
from luthier_kit.rpc import FailedPrecondition
from luthier_kit.store import Store
from luthier_music.audio_rate import resampled

ROWS = 3


def flac(store: Store, number: int) -> ArtifactRef:
    out = io.BytesIO()
    soundfile.write(out, played(Song(number)) * 0.5, RATE_HZ, format="FLAC")
    return store.blobs.put_bytes("clips", out.getvalue(), "flac", "audio/flac")


def dataset(store: Store, *songs: int) -> ArtifactRef:
    manifest = DatasetManifest(format="luthier.dataset.v1", name="songs")
    for number in songs:
        row = DatasetRow(clip_id=f"clip-{number}", split="train", audio=flac(store, number), prompts=["a song"])
        row.source.song.artist, row.source.song.title = "Nobody", f"Song {number}"
        manifest.rows.append(row)
    return store.put("manifests", manifest)


def trained_on(store: Store, manifest: ArtifactRef, weights: str = "weights", **notes: str) -> ModelVersion:
    version = add_model(store, "trained", weights)
    return register(store, replace(version, dataset=manifest, dataset_name="songs", notes=notes, n=0, created_at=None))


def repeats(*songs: int) -> Make:
    """Plays a passage of a song for each row."""

    def make(request: GenerateRequest, row: int) -> np.ndarray:
        song = played(Song(songs[row])) * 0.5
        mono = resampled(song[4 * RATE_HZ : 12 * RATE_HZ], RATE_HZ, RATE)
        return np.stack([mono, mono], axis=1)

    return make


def evaluated(platform: Platform, make: Make, *songs: int) -> list[pb.RowResult]:
    version = trained_on(platform.store, dataset(platform.store, *songs))
    platform.inference.makes["trained"] = make
    suite = pb.Suite(name="own", rows=[pb.SuiteRow(prompt="a", seconds_total=8, seed=9000 + n) for n in range(ROWS)])
    done = platform.done(
        candidate_model=version.label, baseline_model="", suite=suite, suite_name=None, seconds_total=None
    )
    return list(platform.store.get(pb.EvaluationResults, done.results).rows)


def test_a_clip_that_was_trained_on_is_found_in_the_row_that_holds_it(platform: Platform) -> None:
    rows = evaluated(platform, repeats(8, 1, 9), 0, 1, 2)

    assert [row.values["copy"] for row in rows] == [0, 1, 0]
    nearest = rows[1].nearest[0]
    assert (nearest.clip_id, nearest.song, nearest.copy) == ("clip-1", "Nobody - Song 1", True)
    assert nearest.clip_at_s - nearest.at_s == pytest.approx(4, abs=0.2)
    assert rows[0].nearest[0].similarity < nearest.similarity / 2


def test_a_model_that_repeats_its_training_clips_is_not_promoted(platform: Platform) -> None:
    evaluated(platform, repeats(0, 1, 2), 0, 1, 2)

    (evaluation,) = platform.evaluation.ListEvaluations(pb.ListEvaluationsRequest()).evaluations
    with pytest.raises(FailedPrecondition, match="copies: 3 of 3 rows hold a training clip, at most 2%"):
        platform.promote(model="trained", evaluation_id=evaluation.evaluation_id)


def test_a_model_without_a_recorded_data_set_says_that_nothing_was_looked_for(platform: Platform) -> None:
    evaluation = platform.done(baseline_model="", max_rows=1)
    clauses = platform.promote(evaluation_id=evaluation.evaluation_id, check_only=True).clauses

    told = {clause.name: clause for clause in clauses}["copies"]
    assert told.holds
    assert "no data set is recorded" in told.figure


def test_a_data_set_whose_clips_are_gone_fails_the_evaluation_and_says_so(platform: Platform) -> None:
    store = platform.store
    gone = DatasetManifest(format="luthier.dataset.v1", name="songs")
    gone.rows.add(clip_id="clip-1", split="train", audio=ArtifactRef(key=f"clips/{'0' * 64}.flac", sha256="0" * 64))
    version = trained_on(store, store.put("manifests", gone))
    platform.inference.makes["trained"] = repeats(0)

    done = platform.done(candidate_model=version.label, baseline_model="", max_rows=1)

    assert done.state == pb.EVALUATION_STATE_FAILED
    assert "clips/" in done.error.message


def test_the_data_sets_of_a_base_are_looked_for_too(store: Store) -> None:
    below = trained_on(store, dataset(store, 0))
    own = dataset(store, 1)
    version = trained_on(store, own, "tuned", base_digest=below.digest)

    found = [ref.sha256 for ref in training_sets_of(store, version)]

    assert below.dataset
    assert found == [own.sha256, below.dataset.sha256]


def test_training_clips_of_different_songs_that_hold_the_same_passage_are_listed_when_asked_for(
    platform: Platform,
) -> None:
    store = platform.store
    again = DatasetManifest(format="luthier.dataset.v1", name="songs")
    again.CopyFrom(store.get(DatasetManifest, dataset(store, 0, 1)))
    out = io.BytesIO()
    soundfile.write(out, played(Song(1, semitones=1.0)) * 0.5, RATE_HZ, format="FLAC")
    cover = store.blobs.put_bytes("clips", out.getvalue(), "flac", "audio/flac")
    row = again.rows.add(clip_id="cover", split="train", audio=cover, prompts=["a song"])
    row.source.song.title = "A cover"
    version = trained_on(store, store.put("manifests", again))
    platform.inference.makes["trained"] = repeats(8)

    asked = platform.done(candidate_model=version.label, baseline_model="", max_rows=1, near_duplicates=True)
    plain = platform.done("plain", candidate_model=version.label, baseline_model="", max_rows=1)

    (pair,) = store.get(pb.EvaluationResults, asked.results).near_duplicates
    assert {pair.clip_id, pair.other.clip_id} == {"clip-1", "cover"}
    assert abs(pair.other.pitch_semitones) == pytest.approx(1, abs=0.2)
    section = store.blobs.read(asked.report).decode().partition("Training clips that hold the same passage")[2]
    assert section.count("<audio") >= 2
    assert "hold the same passage" not in store.blobs.read(plain.report).decode()


def test_the_report_plays_what_was_made_beside_the_clip(platform: Platform) -> None:
    evaluated(platform, repeats(8, 1, 9), 0, 1, 2)

    (evaluation,) = platform.evaluation.ListEvaluations(pb.ListEvaluationsRequest()).evaluations
    page = platform.store.blobs.read(evaluation.report).decode()

    section = page[page.index("Nearest training clips") :]
    assert "a copy" in section
    assert section.index("Nobody - Song 1") < section.index("Nobody - Song 0")
    assert section.count("<audio") >= 2 * ROWS
