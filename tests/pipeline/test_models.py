"""register, models, generate, promote: requests as they are sent, files as they are written."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from luthier.common.v1.common_pb2 import ADAPTER_KIND_DORA, ADAPTER_KIND_LORA, ModelAdapter, Span
from luthier.evaluation.v1.evaluation_pb2 import PromoteModelResponse, PromotionClause
from luthier.inference.v1.inference_pb2 import (
    OUTPUT_FORMAT_FLAC,
    GeneratedAudio,
    GenerateProgress,
    GenerateResponse,
    GenerationTry,
    ListModelsResponse,
    Model,
    MusicFields,
    ObeyedField,
    OutputFormat,
    Precision,
    RegisterModelResponse,
    StreamGenerateRequest,
    StreamGenerateResponse,
)
from luthier_kit.rpc import Unavailable
from luthier_kit.store import Store
from luthier_pipeline import models
from luthier_pipeline.models import default_model
from tests.pipeline.fakes import FakeClients, Stub, luthier


@pytest.mark.parametrize(
    ("default", "known", "chosen"),
    [
        ("", [("base", 1, 10, ""), ("tuned", 1, 20, ""), ("served", 2, 15, "evaluation-1")], "served@2"),
        ("", [("base", 1, 10, ""), ("tuned", 1, 20, "")], "tuned@1"),
        ("base", [("base", 1, 10, ""), ("tuned", 1, 20, "")], ""),
        ("", [], ""),
    ],
)
def test_generate_asks_the_servers_default_else_what_was_promoted_last_else_the_newest(
    default: str, known: list[tuple[str, int, int, str]], chosen: str
) -> None:
    answer = ListModelsResponse(default_model=default)
    for name, version, at, evaluation in known:
        answer.models.add(name=name, version=version, evaluation_id=evaluation).created_at.seconds = at
    assert default_model(FakeClients(inference=Stub(ListModels=answer))) == chosen


Stream = Callable[[StreamGenerateRequest], Iterator[StreamGenerateResponse]]


def stream(store: Store, *, cut_after: int | None = None, response: bool = True, **more: Any) -> Stream:
    """What StreamGenerate sends; an error after so many messages."""
    audio = store.blobs.put_bytes("generated", b"sound", "flac")
    found = GenerateResponse(audio=audio, model="sao@1", samples=88200, sample_rate_hz=44100, seed=5, steps=2, **more)
    messages = [StreamGenerateResponse(progress=GenerateProgress(step=n + 1, total=2)) for n in range(2)]
    messages += [StreamGenerateResponse(response=found)] if response else []
    messages += [StreamGenerateResponse(audio_chunk=b"sound")]

    def send(_request: StreamGenerateRequest) -> Iterator[StreamGenerateResponse]:
        for number, message in enumerate(messages):
            if number == cut_after:
                raise Unavailable("the server went away", retry_after_s=0.0)
            yield message

    return send


def generator(*streams: Stream) -> Stub:
    return Stub(ListModels=ListModelsResponse(default_model="sao"), StreamGenerate=list(streams))


def test_generate_writes_the_file_and_repeats_the_same_request_when_a_server_dies(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "FIRST_PAUSE_S", 0.001)
    inference = generator(stream(store, cut_after=1), stream(store, response=False), stream(store))
    clients = FakeClients(store, inference=inference)
    clients.retry_budget_s = 30.0
    out = tmp_path / "folder/song.flac"
    done = luthier(f"generate 'a song' --out {out} --seconds 2 --steps 2 --seed 5", clients)
    assert done.out == f"{out}: 00:02 by sao@1, seed 5, 2 steps\n"
    assert out.read_bytes() == b"sound"
    asked = [request.request for request in inference.requests("StreamGenerate")]
    assert len(asked) == 3
    assert asked[0] == asked[1] == asked[2]
    assert (asked[0].prompt, asked[0].seconds_total, asked[0].seed) == ("a song", 2, 5)
    assert asked[0].output_format == OUTPUT_FORMAT_FLAC
    assert asked[0].request_id
    assert not asked[0].HasField("guidance_scale")


def test_several_seeds_are_one_request_and_a_file_each(store: Store, tmp_path: Path) -> None:
    other = GeneratedAudio(seed=9, audio=store.blobs.put_bytes("generated", b"other sound", "flac"))
    inference = generator(stream(store, others=[other]))

    done = luthier(
        f"generate 'a song' --out {tmp_path / 'song.flac'} --seed 5 --seed 9", FakeClients(store, inference=inference)
    )

    (asked,) = (message.request for message in inference.requests("StreamGenerate"))
    assert (list(asked.seeds), asked.HasField("seed")) == ([5, 9], False)
    assert (tmp_path / "song.flac").read_bytes() == b"sound"
    assert (tmp_path / "song-9.flac").read_bytes() == b"other sound"
    assert done.out.splitlines()[1] == f"{tmp_path / 'song-9.flac'}: 00:02, seed 9"


def test_music_is_sent_in_its_fields_and_the_completed_prompt_is_shown(store: Store, tmp_path: Path) -> None:
    inference = generator(stream(store, prompt="jazz, in D minor, at 90 BPM", music=MusicFields(tempo_bpm=90)))
    options = "--tempo 90 --key 'D minor' --meter 3/4 --bars 8 --instrument piano --instrument drums"

    done = luthier(f"generate jazz --out {tmp_path / 'a.flac'} {options}", FakeClients(store, inference=inference))

    (asked,) = (message.request for message in inference.requests("StreamGenerate"))
    assert asked.music == MusicFields(tempo_bpm=90, key="D minor", meter="3/4", bars=8, instruments=["piano", "drums"])
    assert (asked.prompt, asked.HasField("seconds_total")) == ("jazz", False)
    assert done.out.splitlines()[1] == "prompt: jazz, in D minor, at 90 BPM"


def test_asked_and_heard_are_a_table_and_so_are_the_tries(store: Store, tmp_path: Path) -> None:
    def heard(tempo: str, *, obeyed: bool) -> list[ObeyedField]:
        return [
            ObeyedField(field="tempo_bpm", asked="90 BPM", heard=tempo, obeyed=obeyed, estimator="essentia/1"),
            ObeyedField(field="meter", asked="3/4", note="not measured: analysis hears no meter"),
        ]

    tries = [
        GenerationTry(seed=5, heard=heard("120 BPM", obeyed=False)),
        GenerationTry(seed=77, heard=heard("90.5 BPM", obeyed=True), chosen=True),
    ]
    inference = generator(
        stream(store, prompt="p", music=MusicFields(tempo_bpm=90), heard=tries[1].heard, tries=tries, best_of=4)
    )

    done = luthier(
        f"generate --tempo 90 --meter 3/4 --best-of 4 --out {tmp_path / 'a.flac'}",
        FakeClients(store, inference=inference),
    )

    (asked,) = (message.request for message in inference.requests("StreamGenerate"))
    assert asked.best_of == 4
    assert [line.split() for line in done.out.splitlines()[2:]] == [
        ["field", "asked", "heard", "obeyed", "how"],
        ["tempo_bpm", "90", "BPM", "90.5", "BPM", "yes", "essentia/1"],
        ["meter", "3/4", "-", "-", "not", "measured:", "analysis", "hears", "no", "meter"],
        ["the", "best", "of", "2", "tries,", "of", "at", "most", "4:"],
        ["seed", "tempo_bpm", "chosen"],
        ["5", "120", "BPM"],
        ["77", "90.5", "BPM", "yes"],
    ]


def test_without_options_of_music_none_is_sent_and_with_them_no_prompt_is_needed(store: Store, tmp_path: Path) -> None:
    inference = generator(stream(store))
    for line in ("jazz", "--tempo 90"):
        assert (
            luthier(f"generate {line} --out {tmp_path / 'a.flac'}", FakeClients(store, inference=inference)).code == 0
        )

    plain, typed = (message.request for message in inference.requests("StreamGenerate"))
    assert (plain.prompt, plain.HasField("music")) == ("jazz", False)
    assert (typed.prompt, typed.music) == ("", MusicFields(tempo_bpm=90))


def test_a_response_counts_even_when_the_server_dies_before_the_last_byte(store: Store, tmp_path: Path) -> None:
    clients = FakeClients(store, inference=generator(stream(store, cut_after=3)))
    assert luthier(f"generate 'a song' --out {tmp_path / 'song.flac'}", clients).code == 0


def test_another_file_format_is_refused_by_name(store: Store) -> None:
    done = luthier("generate song --out song.aiff --json", FakeClients(store))
    assert (done.code, done.document["error"]["reason"]) == (1, "OUTPUT_FORMAT")
    assert "must end in .flac, .wav, .ogg, .opus, .mp3, got song.aiff" in done.err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--out a.WAV", "WAV"),
        ("--out a.wav --bits float", "WAV_FLOAT"),
        ("--out a.wav --bits 24", "WAV_24"),
        ("--out a.flac --bits 24", "FLAC_24"),
        ("--out a.ogg", "OGG_VORBIS"),
        ("--out a.opus", "OGG_OPUS"),
        ("--out a.mp3", "MP3"),
    ],
)
def test_the_format_follows_from_the_ending_and_the_bits(
    options: str, expected: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    inference = generator(stream(store))

    assert luthier(f"generate song {options}", FakeClients(store, inference=inference)).code == 0

    (asked,) = inference.requests("StreamGenerate")
    assert OutputFormat.Name(asked.request.output_format) == f"OUTPUT_FORMAT_{expected}"


def test_audio_goes_on_from_a_file_and_says_what_was_kept(store: Store, tmp_path: Path) -> None:
    (given := tmp_path / "given.wav").write_bytes(b"given")
    inference = generator(
        stream(store, kept=[Span(start_s=0, end_s=9.98)], loudness_lufs=-14.0, true_peak_dbtp=-1.5, gain_db=2.0)
    )
    options = f"--init-audio {given} --keep 0-10 --keep 12.5-13 --loudness -14 --true-peak -1 --guidance-to 0.9"

    done = luthier(f"generate song --out {tmp_path / 'a.flac'} {options}", FakeClients(store, inference=inference))

    (asked,) = (message.request for message in inference.requests("StreamGenerate"))
    assert store.blobs.read(asked.init_audio) == b"given"
    assert asked.init_audio.key.startswith("audio/")
    assert list(asked.keep) == [Span(start_s=0, end_s=10), Span(start_s=12.5, end_s=13)]
    assert (asked.loudness_target_lufs, asked.true_peak_limit_dbtp, asked.guidance_to) == (-14, -1, 0.9)
    assert not any(asked.HasField(name) for name in ("init_noise_level", "guidance_from"))
    assert done.out.splitlines()[1:] == ["kept 0.00 to 9.98 s", "-14.0 LUFS, -1.5 dBTP after +2.0 dB"]


def test_an_unknown_precision_is_refused_by_name(store: Store, tmp_path: Path) -> None:
    done = luthier(f"generate song --out {tmp_path / 'a.flac'} --precision int4", FakeClients(store))

    assert done.code == 1
    assert "--precision: must be one of float32, bfloat16, int8, got 'int4'" in done.err


def test_quicker_ways_are_asked_for_and_told(store: Store, tmp_path: Path) -> None:
    inference = generator(stream(store, fit_window=True, window_s=4.096, precision=Precision.PRECISION_INT8))

    done = luthier(
        f"generate song --out {tmp_path / 'a.flac'} --seconds 4 --fit-window --precision int8 --model tiny+jazz:0.5",
        FakeClients(store, inference=inference),
    )

    (asked,) = (message.request for message in inference.requests("StreamGenerate"))
    assert (asked.fit_window, asked.precision, asked.model) == (True, Precision.PRECISION_INT8, "tiny+jazz:0.5")
    assert done.out.splitlines()[1:] == ["4.10 s were denoised", "in int8"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--init-audio FILE --keep 3", "--keep must be START-END in seconds, e.g. 0-10, got '3'"),
        ("--init-audio FILE --keep a-b", "got 'a-b'"),
        ("--keep 0-3", "--init-audio FILE"),
        ("--init-noise-level 3", "--init-audio FILE"),
    ],
)
def test_what_is_kept_without_seconds_or_audio_is_wrong_usage(options: str, said: str, store: Store) -> None:
    done = luthier(f"generate song --out song.flac {options}", FakeClients(store))

    assert (done.code, said in done.err) == (2, True)


def test_bits_that_a_format_has_not_are_refused(store: Store) -> None:
    done = luthier("generate song --out song.flac --bits float", FakeClients(store))

    assert (done.code, "--bits: of .flac 16, 24, got float" in done.err) == (1, True)


def test_register_sends_what_a_text_encoder_is_loaded_from(store: Store, tmp_path: Path) -> None:
    for name in (
        "model.safetensors",
        "config.json",
        "t5/config.json",
        "t5/model.safetensors",
        "t5/pytorch_model.bin",
        "t5/vocab.json",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    answer = RegisterModelResponse(model=Model(name="sao", version=1, digest="sha256:1"))
    inference = Stub(RegisterModel=answer)
    line = f"register sao --weights {tmp_path}/model.safetensors --config {tmp_path}/config.json"
    line += f" --text-encoder {tmp_path}/t5 --as ann --json"
    assert luthier(line, FakeClients(store, inference=inference)).document["model"]["name"] == "sao"
    [request] = inference.requests("RegisterModel")
    assert [file.name for file in request.text_encoder] == ["config.json", "model.safetensors"]
    assert store.blobs.read(request.checkpoint) == b"model.safetensors"
    assert (request.registered_by, request.reason) == ("ann", "registered by an operator")


def test_weights_that_are_not_safetensors_are_refused_before_they_are_read(store: Store) -> None:
    done = luthier("register sao --weights /no/model.ckpt --config /no/config.json --json", FakeClients(store))
    assert done.document["error"]["reason"] == "SAFETENSORS_ONLY"


def test_models_are_a_table() -> None:
    known = ListModelsResponse(models=[Model(name="sao", version=2, window_s=47.55, loaded=True, reason="it fits")])
    text = luthier("models", FakeClients(inference=Stub(ListModels=known))).out
    assert text.splitlines()[1].split() == ["sao@2", "47.5", "s", "yes", "no", "it", "fits"]


def test_models_are_listed_with_their_adapters() -> None:
    adapters = [
        ModelAdapter(kind=ADAPTER_KIND_LORA, rank=16, relative_change=0.0213),
        ModelAdapter(kind=ADAPTER_KIND_DORA, rank=8, relative_change=0.3),
    ]
    known = ListModelsResponse(models=[Model(name="sao", version=2, window_s=47.55, adapters=adapters)])
    clients = FakeClients(inference=Stub(ListModels=known))
    assert "LoRA 16, changes 2.1 % + DoRA 8, changes 30 %" in luthier("models", clients).out


def test_without_a_model_the_json_is_an_empty_object() -> None:
    """The chart's test asks this way whether there is a model at all."""
    clients = FakeClients(inference=Stub(ListModels=ListModelsResponse()))
    assert luthier("models --json", clients).out == "{}\n"


def test_promote_says_what_a_name_is_now() -> None:
    evaluation = Stub(PromoteModel=PromoteModelResponse(model="served@2", model_digest="sha256:1", unchanged=True))
    done = luthier("promote served --model sao@1 --reason better --as ann", FakeClients(evaluation=evaluation))
    assert done.out == "served is now served@2 sha256:1 (it already was)\n"
    [request] = evaluation.requests("PromoteModel")
    assert (request.name, request.model, request.promoted_by, request.force) == ("served", "sao@1", "ann", False)


def test_promote_tells_every_clause_and_what_was_forced() -> None:
    clauses = [
        PromotionClause(name="silent", holds=True, figure="0 of 24 rows are silent, at most 2%"),
        PromotionClause(name="clipped", holds=False, figure="9 of 24 are clipped, at most 10%"),
    ]
    answer = PromoteModelResponse(
        model="served@2", model_digest="sha256:1", clauses=clauses, rule="strict", promoted=True
    )
    done = luthier("promote served --model sao@1 --reason x --force", FakeClients(evaluation=Stub(PromoteModel=answer)))
    assert [line.split(maxsplit=2) for line in done.out.splitlines()[1:3]] == [
        ["yes", "silent", "0 of 24 rows are silent, at most 2%"],
        ["no", "clipped", "9 of 24 are clipped, at most 10%"],
    ]
    assert done.out.splitlines()[3:] == [
        "served is now served@2 sha256:1",
        "by force, against 1 of the rule's clauses: that stays in the version",
    ]
    evaluation = Stub(PromoteModel=answer)
    asked = luthier("promote served --model sao@1 --reason x --check", FakeClients(evaluation=evaluation))
    assert asked.out.splitlines()[-1] == "served@2 would not be promoted: 1 do not hold"
    [request] = evaluation.requests("PromoteModel")
    assert (request.check_only, request.force) == (True, False)


def test_a_model_that_was_promoted_by_force_says_so() -> None:
    known = ListModelsResponse(models=[Model(name="sao", version=2, reason="noon", overruled=["silent: 3 of 4"])])
    text = luthier("models", FakeClients(inference=Stub(ListModels=known))).out
    assert text.splitlines()[1].endswith("by force: noon")
