"""A suite of one's own, as a file."""

from pathlib import Path

import pytest

from luthier.common.v1.common_pb2 import MODE_MINOR, ArtifactRef, ClipFacts, KeyFact, TempoFact
from luthier.curation.v1.dataset_pb2 import DatasetManifest, DatasetRow, DatasetVersion
from luthier.evaluation.v1.evaluation_pb2 import (
    EVALUATION_STATE_SUCCEEDED,
    CreateEvaluationRequest,
    CreateEvaluationResponse,
    Evaluation,
    Suite,
    SuiteRow,
    WatchEvaluationResponse,
)
from luthier.inference.v1.inference_pb2 import ListModelsResponse, Model
from luthier_kit.registry import ModelVersion, register
from luthier_kit.rpc import InvalidRequest, NotFound
from luthier_kit.store import Store
from luthier_pipeline.console import UsageError
from luthier_pipeline.long_runs import MAX_REQUEST_BYTES
from luthier_pipeline.suites import SECONDS, dataset_suite, is_file, read_suite, state
from tests.pipeline.fakes import FakeClients, Stub, luthier


def test_a_row_has_what_it_names_and_a_length_and_a_seed_of_its_own_else(tmp_path: Path) -> None:
    path = tmp_path / "tempi.yaml"
    rows = ("{prompt: A rock song., seconds_total: 4.5, seed: 7, tempo_bpm: 125}", "{prompt: A waltz, key: a minor}")
    path.write_text("".join(f"{line}\n" for line in ("rows:", *(f"- {row}" for row in rows))))
    suite = read_suite(path)
    first, second = suite.rows
    assert (suite.name, first.prompt, first.seconds_total, first.seed, first.tempo_bpm) == (
        "tempi", "A rock song.", 4.5, 7, 125,
    )  # fmt: skip
    assert not first.HasField("key")
    assert (second.seconds_total, second.seed, second.key.tonic, second.key.mode) == (SECONDS, 1, "A", MODE_MINOR)
    assert not second.HasField("tempo_bpm")


@pytest.mark.parametrize("name", ["quick", "paper-tempo", "paper-key"])
def test_the_form_is_that_of_the_suites_that_ship(name: str) -> None:
    shipped = Path(__file__).parents[2] / f"services/evaluation/luthier_evaluation/suites/{name}.json"
    suite = read_suite(shipped)
    assert suite.name == name
    assert len(suite.rows) >= 8
    assert all(row.HasField("tempo_bpm") or row.HasField("key") for row in suite.rows)


def test_every_fault_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text('rows:\n- {prompt: "", tempo_bpm: 5}\n- {prompt: A waltz, key: H dur}\n- {seed: -1}\nspeed: 3\n')
    with pytest.raises(InvalidRequest) as caught:
        read_suite(path)
    assert caught.value.reason == "SUITE_INVALID"
    told = str(caught.value)
    for fault in (
        "line 2: rows[0].prompt: must be 1 to 2000 characters",
        "line 2: rows[0].tempo_bpm: must be a number between 20 and 400, got '5'",
        "line 3: rows[1].key: must be a tonic and a mode, such as F# minor, got 'H dur'",
        "line 4: rows[2]: prompt is missing",
        "line 4: rows[2].seed: must be a whole number",
        "line 5: speed: is not known",
    ):
        assert fault in told


def test_a_file_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"nowhere\.json: No such file"):
        read_suite(tmp_path / "nowhere.json")


def test_a_name_without_a_suffix_of_a_file_is_a_suite_that_ships() -> None:
    assert not is_file("paper-tempo")
    assert is_file("mine.json")
    assert is_file("suites/mine.yaml")


PROMPTS = ("A rock song with drums at 125 BPM.", "A piece in A minor.", "Something calm.")


def clip(number: int, split: str, tempo_bpm: float = 124.98, duration_s: float = 8.0) -> DatasetRow:
    digest = f"{number:064x}"
    facts = ClipFacts(duration_s=duration_s, tempo=TempoFact(tempo_bpm=tempo_bpm))
    facts.key.CopyFrom(KeyFact(tonic="D", mode=MODE_MINOR))
    return DatasetRow(
        clip_id=f"clip-{number:024x}", split=split, audio=ArtifactRef(key=f"clips/{digest}.flac", sha256=digest),
        prompts=PROMPTS, facts=facts,
    )  # fmt: skip


@pytest.fixture
def dataset(store: Store) -> Store:
    """Version 2 of `way`: twenty clips to train on, one to test on."""
    rows = [clip(number, "train") for number in range(20)] + [clip(99, "test", duration_s=60.0)]
    for kept in (rows[:1], rows):
        manifest = store.put("manifests", DatasetManifest(name="way", rows=kept))
        store.series(DatasetVersion, "datasets/way").append(DatasetVersion(manifest=manifest))
    return store


def test_a_split_of_a_data_set_is_a_suite_with_its_audio_as_reference(dataset: Store) -> None:
    suite = dataset_suite(dataset, "way", "train")

    assert (suite.name, len(suite.rows), len({row.prompt for row in suite.rows})) == ("way@2 train", 20, 3)
    assert [row.reference.sha256 for row in suite.rows] == [f"{number:064x}" for number in range(20)]
    for row in suite.rows:  # what the clip is, and the prompt does not state, is not asked for
        assert row.HasField("tempo_bpm") == ("BPM" in row.prompt)
        assert row.HasField("key") == ("minor" in row.prompt)
        assert row.tempo_bpm in (0, 124.98)  # the clip's, which the prompt rounds
        assert row.key.tonic in ("", "A")  # as stated
    assert len(dataset_suite(dataset, "way@1", "train").rows) == 1


def test_prompts_and_clips_are_drawn_by_the_seed_alone(dataset: Store) -> None:
    one, again, other = (dataset_suite(dataset, "way", "train", 5, seed) for seed in (1, 1, 2))

    assert one == again
    assert {row.reference.sha256 for row in one.rows} != {row.reference.sha256 for row in other.rows}
    assert len(one.rows) == 5
    assert [row.seed for row in one.rows] == [0, 1, 2, 3, 4]


def test_clips_beyond_the_window_are_asked_for_as_long_as_it_is(dataset: Store) -> None:
    assert [row.seconds_total for row in dataset_suite(dataset, "way", "test", longest_s=47.5).rows] == [47.5]


def test_a_split_or_a_data_set_that_is_not_there_is_told(dataset: Store) -> None:
    with pytest.raises(UsageError, match="--split must be one of train, validation, test, got 'tset'"):
        dataset_suite(dataset, "way", "tset")
    with pytest.raises(UsageError, match="--split validation: way@2 has no clip there"):
        dataset_suite(dataset, "way", "validation")
    with pytest.raises(NotFound, match="no data set other; there are: way"):
        dataset_suite(dataset, "other", "test")


@pytest.mark.parametrize(
    ("prompt", "tempo_bpm", "tonic"),
    [
        ("A song at 125 BPM.", 125, ""),
        ("A song between 80 and 90 BPM.", None, ""),  # no tempo alone
        ("From 80 BPM to 120 BPM, in C# minor.", None, "C#"),
        ("A fast song in a minor mood.", None, ""),
        ("It moves from A minor to C major.", None, ""),
    ],
)
def test_a_row_asks_for_a_tempo_or_a_key_that_its_prompt_states_alone(
    prompt: str, tempo_bpm: float | None, tonic: str
) -> None:
    row = SuiteRow(prompt=prompt)
    state(row)

    assert (row.tempo_bpm if row.HasField("tempo_bpm") else None, row.key.tonic) == (tempo_bpm, tonic)


def test_evaluate_takes_a_split_bounded_by_the_models_window(dataset: Store) -> None:
    weights = dataset.blobs.put_bytes("checkpoints", b"weights", "safetensors")
    version = register(
        dataset, ModelVersion("tuned", weights, dataset.blobs.put_bytes("configurations", b"{}", "json"))
    )
    ended = Evaluation(evaluation_id="e1", state=EVALUATION_STATE_SUCCEEDED)
    evaluation = Stub(
        CreateEvaluation=CreateEvaluationResponse(evaluation=ended),
        WatchEvaluation=lambda _request: iter([WatchEvaluationResponse(evaluation=ended)]),
    )
    models = [Model(name="tuned", version=1, digest=f"sha256:{version.digest}", window_s=11.9)]
    clients = FakeClients(dataset, evaluation=evaluation, inference=Stub(ListModels=ListModelsResponse(models=models)))

    assert luthier("evaluate --model tuned --suite dataset:way@2", clients).code == 0
    assert luthier("evaluate --model tuned --suite dataset:way --split train --max-rows 3", clients).code == 0
    told = luthier("evaluate --model tuned --suite quick --split train", clients)

    test, train = evaluation.requests("CreateEvaluation")
    assert [(row.seconds_total, row.reference.sha256) for row in test.suite.rows] == [(11.9, f"{99:064x}")]
    assert (len(train.suite.rows), train.HasField("max_rows")) == (3, False)
    assert (told.code, "--split is of --suite dataset:NAME" in told.err) == (2, True)


def test_as_many_rows_as_there_may_be_fit_in_a_request_with_their_references() -> None:
    """Captions of Song Describer have 110 characters in the mean, those of MusicCaps 290."""
    reference = ArtifactRef(
        bucket="luthier", key=f"decoded/{'a' * 64}.flac", sha256="a" * 64, size_bytes=5_000_000, media_type="audio/flac"
    )
    row = SuiteRow(
        prompt="x" * 290, seconds_total=47.3, seed=4999, tempo_bpm=120.5, genres=["hip hop", "jazz"],
        instruments=["acoustic guitar", "drums", "electric bass"], reference=reference,
    )  # fmt: skip
    row.key.CopyFrom(KeyFact(tonic="C#", mode=MODE_MINOR))
    request = CreateEvaluationRequest(suite=Suite(name="all", rows=[row] * 5000))

    assert request.ByteSize() < MAX_REQUEST_BYTES < 4 << 20
