"""luthier score: which audio belongs to which prompt, what is told when it does not, and what evaluation is asked."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from luthier.analysis.v1.analysis_pb2 import DecodeAudioRequest, DecodeAudioResponse
from luthier.common.v1.common_pb2 import MODE_MINOR, ArtifactRef
from luthier.evaluation.v1.evaluation_pb2 import (
    EVALUATION_STATE_QUEUED,
    EVALUATION_STATE_SUCCEEDED,
    AudioSet,
    CreateEvaluationRequest,
    CreateEvaluationResponse,
    Evaluation,
    WatchEvaluationResponse,
)
from luthier_kit.rpc import InvalidRequest
from luthier_kit.store import Store
from luthier_pipeline.score_audio import AudioFolder
from tests.pipeline.fakes import Done, FakeClients, Stub, luthier

RATE = 8000


def sound(path: Path, seconds: float = 1.0, channels: int = 1, level: float = 0.1) -> Path:
    """Noise of a length; what differs in name differs in content."""
    drawn = np.random.default_rng(abs(hash(path.name)) % 1000).normal(size=(round(seconds * RATE), channels))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, level * drawn.clip(-1, 1), RATE)
    return path


def decoding(request: DecodeAudioRequest) -> DecodeAudioResponse:
    """As analysis does: bytes that begin with `?` are no audio."""
    if request.original.size_bytes == 1:
        raise InvalidRequest("it is no audio that can be read", reason="INVALID_AUDIO")
    digest = request.original.sha256
    return DecodeAudioResponse(audio=ArtifactRef(key=f"decoded/{digest}.flac", sha256=digest), duration_s=62.0)


class Services:
    """The store, analysis and evaluation behind the command."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.report = store.blobs.put_bytes("reports", b"<!doctype html>", "html")
        ended = Evaluation(
            evaluation_id="e1", state=EVALUATION_STATE_SUCCEEDED, candidate="audio:x", report=self.report
        )
        created = Evaluation(evaluation_id="e1", state=EVALUATION_STATE_QUEUED, candidate="audio:x")
        self.evaluation = Stub(
            CreateEvaluation=CreateEvaluationResponse(evaluation=created),
            WatchEvaluation=lambda _request: iter([WatchEvaluationResponse(evaluation=ended)]),
        )
        self.analysis = Stub(DecodeAudio=decoding)

    def score(self, *words: str | Path) -> Done:
        clients = FakeClients(self.store, evaluation=self.evaluation, analysis=self.analysis)
        return luthier(["score", *map(str, words), "--as", "ann"], clients)

    @property
    def asked(self) -> list[CreateEvaluationRequest]:
        found: list[CreateEvaluationRequest] = self.evaluation.requests("CreateEvaluation")
        return found

    def names(self, ref: ArtifactRef) -> list[str]:
        return [item.name for item in self.store.get(AudioSet, ref).items]


@pytest.fixture
def services(store: Store) -> Services:
    return Services(store)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two systems, their references and their prompts."""
    for name, seconds in (("a", 1.0), ("b", 1.5)):
        sound(tmp_path / "Ours" / f"{name}.wav", seconds)
        sound(tmp_path / "Theirs" / f"{name}.flac", 2.0)
        sound(tmp_path / "Truth" / f"{name}.wav", 3.0)
    prompts = "file,prompt\na.wav,A rock song with drums at 125 BPM in C# minor.\nb.wav,A waltz.\n"
    (tmp_path / "prompts.csv").write_text(prompts)
    return tmp_path


def prompts_of(folder: Path, text: str) -> Path:
    (folder / "prompts.csv").write_text(text)
    return folder / "prompts.csv"


def test_each_prompt_is_a_row_with_its_file_and_what_it_states(services: Services, folder: Path) -> None:
    done = services.score(folder / "Ours", "--prompts", folder / "prompts.csv", "--report", folder / "r.html")

    assert done.code == 0, done.err
    [request] = services.asked
    first, second = request.suite.rows
    assert (first.prompt, first.seconds_total, first.seed, first.tempo_bpm) == (
        "A rock song with drums at 125 BPM in C# minor.", 1.0, 0, 125,
    )  # fmt: skip
    assert (first.key.tonic, first.key.mode, list(first.genres), list(first.instruments)) == (
        "C#", MODE_MINOR, ["rock"], ["drums"],
    )  # fmt: skip
    assert (second.seconds_total, second.seed, second.HasField("tempo_bpm"), second.HasField("key")) == (
        1.5, 1, False, False,
    )  # fmt: skip
    audio = services.store.get(AudioSet, request.candidate_audio)
    assert (audio.name, [item.name for item in audio.items]) == ("Ours", ["a.wav", "b.wav"])
    assert services.store.blobs.read(audio.items[0].audio) == (folder / "Ours/a.wav").read_bytes()
    assert (request.candidate_model, request.suite.name, request.created_by) == ("", "prompts", "ann")
    assert (folder / "r.html").read_bytes() == b"<!doctype html>"
    assert "luthier promote" not in done.out


def test_the_same_arguments_are_the_same_evaluation(services: Services, folder: Path) -> None:
    for _ in range(2):
        services.score(folder / "Ours", "--prompts", folder / "prompts.csv")
    services.score(folder / "Theirs", "--prompts", folder / "prompts.csv")

    first, again, other = (request.request_id for request in services.asked)
    assert first == again != other


def test_another_folder_or_a_model_stands_beside(services: Services, folder: Path) -> None:
    services.score(
        folder / "Ours", "--prompts", folder / "prompts.csv", "--baseline", folder / "Theirs", "--name", "me"
    )
    services.score(folder / "Ours", "--prompts", folder / "prompts.csv", "--baseline-model", "sao@1", "--steps", "50")

    beside_folder, beside_model = services.asked
    assert services.names(beside_folder.baseline_audio) == ["a.flac", "b.flac"]  # found without their suffix
    assert services.store.get(AudioSet, beside_folder.candidate_audio).name == "me"
    assert (beside_model.baseline_model, beside_model.steps) == ("sao@1", 50)
    assert not beside_model.HasField("baseline_audio")


def test_references_are_of_the_rows_and_of_the_distances(services: Services, folder: Path) -> None:
    arguments = (folder / "Ours", "--prompts", folder / "prompts.csv", "--reference", folder / "Truth")
    services.score(*arguments, "--aligned", "--tempo-estimator", "deeprhythm")

    [request] = services.asked
    assert services.names(request.reference_audio) == ["a.wav", "b.wav"]
    heard = [services.store.blobs.read(row.reference) for row in request.suite.rows]
    assert heard == [(folder / "Truth" / name).read_bytes() for name in ("a.wav", "b.wav")]
    assert (request.aligned, request.tempo_estimator) == (True, "deeprhythm")


def test_a_reference_folder_of_other_names_is_compared_with_as_a_whole(services: Services, folder: Path) -> None:
    sound(folder / "Songs" / "deep" / "one.wav")
    done = services.score(folder / "Ours", "--prompts", folder / "prompts.csv", "--reference", folder / "Songs")

    [request] = services.asked
    assert services.names(request.reference_audio) == ["deep/one.wav"]
    assert not request.suite.rows[0].HasField("reference")
    assert "no file of" in done.err


def test_references_that_a_file_names_lie_beside_it(services: Services, folder: Path) -> None:
    prompts_of(folder, "file,prompt,reference\na.wav,A rock song.,Truth/b.wav\nb.wav,A waltz.,\n")
    done = services.score(folder / "Ours", "--prompts", folder / "prompts.csv", "--skip-missing")

    assert done.code == 0, done.err
    [request] = services.asked
    assert [row.HasField("reference") for row in request.suite.rows] == [True, False]
    assert services.names(request.reference_audio) == ["b.wav"]


def test_what_a_file_says_goes_before_what_its_prompt_states(services: Services, folder: Path) -> None:
    header = "file,prompt,tempo_bpm,key,genres,seconds_total"
    prompts_of(folder, f"{header}\na.wav,A rock song at 125 BPM.,124,,pop,9\nb.wav,A waltz at 90 BPM.,,A minor,,\n")
    services.score(folder / "Ours", "--prompts", folder / "prompts.csv")

    first, second = services.asked[0].suite.rows
    assert (first.tempo_bpm, list(first.genres), first.seconds_total) == (124, ["pop"], 9)
    assert (second.HasField("tempo_bpm"), second.key.tonic, second.seconds_total) == (False, "A", 1.5)


def test_what_is_not_flac_or_wav_is_decoded_by_analysis_once(services: Services, folder: Path) -> None:
    (folder / "Ours" / "b.wav").unlink()
    (folder / "Ours" / "b.mp3").write_bytes(b"ID3 a song")
    prompts_of(folder, "file,prompt\na.wav,A rock song.\nb.mp3,A waltz.\n")
    services.score(folder / "Ours", "--prompts", folder / "prompts.csv")

    [request] = services.asked
    items = services.store.get(AudioSet, request.candidate_audio).items
    assert [item.audio.key.partition("/")[0] for item in items] == ["audio", "decoded"]
    assert request.suite.rows[1].seconds_total == 62.0
    assert len(services.analysis.requests("DecodeAudio")) == 1


def test_a_file_of_many_channels_is_decoded(services: Services, folder: Path) -> None:
    sound(folder / "Ours" / "a.wav", channels=6)
    services.score(folder / "Ours", "--prompts", folder / "prompts.csv")

    assert len(services.analysis.requests("DecodeAudio")) == 1


BROKEN = (
    "file,prompt\na.wav,A rock song.\na.wav,Again.\nmissing.wav,A waltz.\nshort.wav,A short one.\ntext.wav,No audio.\n"
)


def broken(folder: Path) -> Path:
    """A folder in which nothing fits but a.wav."""
    sound(folder / "Ours" / "short.wav", 0.2)
    (folder / "Ours" / "text.wav").write_text("no audio")
    return prompts_of(folder, BROKEN)


def test_everything_in_the_way_is_told_at_once(services: Services, folder: Path) -> None:
    done = services.score(folder / "Ours", "--prompts", broken(folder))

    assert done.code == 1
    for told in (
        "SCORE_INPUT",
        "1 names that stand twice among the prompts: a.wav",
        "1 prompts without audio: missing.wav (line 4)",
        "1 files without a prompt: b.wav",
        "2 files that cannot be read: ",
        "short.wav: must last 0.5 to 1800 s, lasts 0.20 s",
        "--skip-missing goes on without them",
    ):
        assert told in done.err
    assert services.asked == []


def test_with_skip_missing_the_rest_is_measured(services: Services, folder: Path) -> None:
    done = services.score(folder / "Ours", "--prompts", broken(folder), "--skip-missing")

    assert done.code == 0, done.err
    [request] = services.asked
    assert [row.prompt for row in request.suite.rows] == ["A rock song."]
    assert services.names(request.candidate_audio) == ["a.wav"]
    assert "left out: 1 names that stand twice" in done.err


def test_what_analysis_cannot_decode_is_told_by_file(services: Services, folder: Path) -> None:
    (folder / "Ours" / "c.mp3").write_bytes(b"?")
    prompts_of(folder, "file,prompt\na.wav,A.\nb.wav,B.\nc.mp3,C.\n")
    done = services.score(folder / "Ours", "--prompts", folder / "prompts.csv")

    assert done.code == 1
    assert "c.mp3: it is no audio that can be read" in done.err


def test_audio_that_only_one_of_two_folders_has_is_told(services: Services, folder: Path) -> None:
    (folder / "Theirs" / "b.flac").unlink()
    done = services.score(folder / "Ours", "--prompts", folder / "prompts.csv", "--baseline", folder / "Theirs")

    assert (done.code, "1 prompts without audio of --baseline: b.wav" in done.err) == (1, True)


def test_two_files_that_a_name_may_mean_are_told(services: Services, folder: Path) -> None:
    sound(folder / "Ours" / "again" / "a.wav")
    prompts_of(folder, "file,prompt\na,A.\nb,B.\n")
    done = services.score(folder / "Ours", "--prompts", folder / "prompts.csv")

    assert done.code == 1
    sound(folder / "Ours" / "a.flac")
    told = services.score(folder / "Ours", "--prompts", folder / "prompts.csv").err
    assert "prompts whose audio is there twice: a: a.flac and a.wav" in told


def test_more_prompts_than_a_suite_has_rows_are_refused_but_the_first_may_be_taken(
    services: Services, folder: Path
) -> None:
    lines = "".join(f"{number},{7 if number % 2 else 8},A song.\n" for number in range(5001))
    prompts_of(folder, f"caption_id,track_id,caption\n{lines}")
    for track in (7, 8):
        sound(folder / "Tracks" / f"0{track}" / f"{track}.2min.wav")

    done = services.score(folder / "Tracks", "--prompts", folder / "prompts.csv")
    assert (done.code, "5001 prompts have audio, an evaluation has at most 5000" in done.err) == (1, True)

    assert services.score(folder / "Tracks", "--prompts", folder / "prompts.csv", "--max-rows", "5").code == 0
    [request] = services.asked
    assert services.names(request.candidate_audio) == ["08/8.2min.wav", "07/7.2min.wav"] * 2 + ["08/8.2min.wav"]


def test_the_ground_truth_of_song_describer_is_found_by_track_and_each_track_is_one_reference(
    services: Services, folder: Path
) -> None:
    text = "caption_id,track_id,caption,path\n1,1004034,A.,34/1004034.mp3\n2,1004034,B.,34/1004034.mp3\n"
    prompts_of(folder, text + "3,10575,C.,75/10575.mp3\n")
    for caption in "123":
        sound(folder / "Generated" / f"{caption}.wav")
    for track in ("34/1004034", "75/10575"):
        sound(folder / "Audio" / f"{track}.2min.wav")

    done = services.score(folder / "Generated", "--prompts", folder / "prompts.csv", "--reference", folder / "Audio")

    assert done.code == 0, done.err
    [request] = services.asked
    assert services.names(request.candidate_audio) == ["1.wav", "2.wav", "3.wav"]
    assert services.names(request.reference_audio) == ["1004034.2min.wav", "10575.2min.wav"]
    assert request.suite.rows[0].reference == request.suite.rows[1].reference


def test_longer_references_than_the_papers_are_said_and_taken_whole(services: Services, folder: Path) -> None:
    prompts_of(folder, "ytid,start_s,end_s,caption\n-0xzr,30,40,A.\n")
    sound(folder / "Generated" / "-0xzr.wav")
    sound(folder / "Clips" / "Y-0xzr.wav", 11.0)
    done = services.score(folder / "Generated", "--prompts", folder / "prompts.csv", "--reference", folder / "Clips")

    assert "1 references last longer than the 10 s" in done.err
    assert len(services.asked) == 1


def test_an_exported_data_set_is_scored_by_its_own_columns(services: Services, folder: Path) -> None:
    sound(folder / "set" / "test" / "clip-1.wav", 8.0)
    sound(folder / "set" / "test" / "clip-2.wav", 8.0)
    rows = (
        '{"file_name": "clip-1.wav", "text": "A rock song at 125 BPM.", "tempo_bpm": 124.98, "key": "A minor",'
        ' "genres": ["rock"], "duration_s": 8.0}',
        '{"file_name": "clip-2.wav", "text": "A calm waltz.", "tempo_bpm": 90.0, "key": "D minor", "duration_s": 8.0}',
    )
    (folder / "set" / "test" / "metadata.jsonl").write_text("\n".join(rows))

    done = services.score(folder / "set")

    assert done.code == 0, done.err
    first, second = services.asked[0].suite.rows
    assert (first.tempo_bpm, first.HasField("key"), list(first.genres)) == (124.98, False, ["rock"])  # as stated
    assert (second.HasField("tempo_bpm"), second.HasField("key")) == (False, False)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "FOLDER must be a folder"),
        (["Ours", "--baseline", "Theirs", "--baseline-model", "m"], "one of them"),
        (["Ours", "--layout", "papers"], "--layout must be one of song-describer, musiccaps"),
        (["Ours", "--baseline", "other/Ours"], "both folders are called Ours: name this one (--name)"),
        (["Ours", "--reference", "nowhere"], "--reference must be a folder"),
    ],
)
def test_wrong_usage_is_told(
    services: Services, folder: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    monkeypatch.chdir(folder)
    sound(folder / "other" / "Ours" / "a.wav")
    done = services.score(*words, "--prompts", "prompts.csv")

    assert (done.code, told in done.err) == (2, True)


def test_names_are_taken_as_they_are_before_their_suffix_is_looked_past(tmp_path: Path) -> None:
    for name in ("a.wav", "a.flac", "Mr. Big.take.2.wav", "deep/b.wav"):
        sound(tmp_path / name)
    found = AudioFolder(tmp_path, "FOLDER")

    def named(*names: str) -> list[str]:
        return [found.name_of(file) for file in found.find(names)]

    assert named("a.wav") == ["a.wav"]
    assert named("a.mp3") == ["a.flac", "a.wav"]  # nobody can tell
    assert named("Mr. Big.take.2") == ["Mr. Big.take.2.wav"]
    assert named("b") == named("deep/b.mp3") == named("b.wav") == ["deep/b.wav"]
    assert named("c") == []


def test_a_folder_of_references_beside_a_model_must_be_audio(services: Services, folder: Path) -> None:
    (folder / "Truth" / "c.wav").write_text("no audio")
    clients = FakeClients(services.store, evaluation=services.evaluation, analysis=services.analysis)
    told = luthier(f"evaluate --model tuned --reference {folder / 'Truth'}", clients)
    assert (told.code, "c.wav: " in told.err) == (1, True)

    (folder / "Truth" / "c.wav").unlink()
    assert luthier(f"evaluate --model tuned --reference {folder / 'Truth'}", clients).code == 0
    [request] = services.asked
    assert services.names(request.reference_audio) == ["a.wav", "b.wav"]
