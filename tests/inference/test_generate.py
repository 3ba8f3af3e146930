"""`Generate` over real gRPC with a tiny model of random weights."""

import io
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest
import soundfile

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.inference.v1 import inference_pb2 as pb
from luthier_model.generation import Samples
from luthier_model.objectives import OBJECTIVES
from luthier_music.loudness import integrated_loudness_lufs
from luthier_music.true_peak import true_peak_dbtp
from tests.model.small import ModelFiles

from .conftest import Served, refusal

PROMPT = "calm piano in D minor at 90 BPM"


def request(**fields: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(**{"prompt": PROMPT, "seconds_total": 1.5, "steps": 4, "seed": 7, **fields})


def audio_of(served: Served, response: pb.GenerateResponse) -> tuple[Samples, int]:
    file = io.BytesIO(served.store.blobs.read(response.audio))
    samples, rate_hz = soundfile.read(file, dtype="float32", always_2d=True)
    return samples, rate_hz


def uploaded(served: Served, samples: np.ndarray, rate_hz: int) -> ArtifactRef:
    """Audio of a caller's, in the store."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="WAV")
    return served.store.blobs.put_bytes("uploads", file.getvalue(), "wav", "audio/wav")


def test_audio_has_exactly_the_length_asked_for(served: Served) -> None:
    response = served.stub.Generate(request(seconds_total=1.23456))

    samples, rate_hz = audio_of(served, response)
    assert (rate_hz, samples.shape) == (response.sample_rate_hz, (response.samples, response.channels))
    assert response.samples == round(1.23456 * rate_hz)


def test_untrimmed_audio_is_the_whole_window_and_begins_the_same(served: Served, model_files: ModelFiles) -> None:
    cut, whole = (served.stub.Generate(request(untrimmed=untrimmed)) for untrimmed in (False, True))

    assert whole.samples == model_files.configuration.window_samples
    assert whole.seconds_total == cut.seconds_total
    np.testing.assert_allclose(audio_of(served, cut)[0], audio_of(served, whole)[0][: cut.samples], atol=2**-14)


def test_every_value_that_took_effect_is_told(served: Served) -> None:
    response = served.stub.Generate(pb.GenerateRequest(prompt=PROMPT, steps=2, request_id="one"))

    assert response.sampler == "dpmpp-3m-sde"
    assert [response.sigma_min, response.sigma_max] == pytest.approx([0.3, 500])
    assert (response.guidance_scale, response.guidance_rescale) == (7, 0)
    assert response.model == "tiny@1"
    assert response.model_digest.startswith("sha256:")
    assert response.request_id == "one"
    assert response.output_format == pb.OUTPUT_FORMAT_FLAC
    assert response.audio.key.startswith("generated/")
    assert response.action.lineage.seed == response.seed


def test_the_same_request_is_the_same_artifact_and_computed_once(served: Served) -> None:
    first = served.stub.Generate(request(seed=100))
    again = served.stub.Generate(request(seed=100, request_id="another"))

    assert (first.action.reused, again.action.reused) == (False, True)
    assert again.audio == first.audio
    assert again.request_id == "another"


def test_seeds_that_share_their_lower_32_bits_are_other_audio(served: Served) -> None:
    seeds = (1, 2**32 + 1, 2**63 + 1, 2**64 - 1)
    answers = [served.stub.Generate(request(seed=seed)) for seed in seeds]

    assert tuple(answer.seed for answer in answers) == seeds
    assert len({answer.audio.sha256 for answer in answers}) == len(seeds)
    again = served.stub.Generate(request(seed=2**64 - 1, output_format=pb.OUTPUT_FORMAT_WAV))
    np.testing.assert_allclose(audio_of(served, again)[0], audio_of(served, answers[-1])[0], atol=2**-14)


def test_only_what_sounds_otherwise_than_in_release_0_1_is_made_anew(served: Served) -> None:
    """Resampled init audio, and seeds beyond 32 bits; the rest is found under its old name."""
    ref = uploaded(served, np.zeros(8000), 16_000)
    plain, wide, started = (
        served.stub.Generate(request(**fields)).action.lineage.versions["generate"]
        for fields in ({"seed": 2**32 - 1}, {"seed": 2**32}, {"init_audio": ref})
    )

    assert (plain, wide, started) == ("1", "2", "2")


def test_an_absent_seed_comes_from_the_request_id(served: Served) -> None:
    one, same, other = (
        served.stub.Generate(pb.GenerateRequest(prompt=PROMPT, seconds_total=0.5, steps=2, request_id=name))
        for name in ("a", "a", "b")
    )

    assert one.seed == same.seed != other.seed
    assert one.audio == same.audio != other.audio


def test_a_request_id_asks_one_thing(served: Served) -> None:
    first = served.stub.Generate(request(seed=7, request_id="mine"))
    again = served.stub.Generate(request(seed=7, request_id="mine", inline_audio=True))
    assert again.audio == first.audio

    code, message = refusal(lambda: served.stub.Generate(request(seed=8, request_id="mine")))
    assert (code, "request id 'mine'" in message) == (grpc.StatusCode.FAILED_PRECONDITION, True)
    streamed = pb.StreamGenerateRequest(request=request(seed=8, request_id="mine"))
    assert refusal(lambda: list(served.stub.StreamGenerate(streamed)))[0] == grpc.StatusCode.FAILED_PRECONDITION


def test_a_refused_request_does_not_take_its_id(served: Served) -> None:
    assert refusal(lambda: served.stub.Generate(request(steps=0, request_id="free")))[0] == (
        grpc.StatusCode.INVALID_ARGUMENT
    )
    assert served.stub.Generate(request(seed=7, request_id="free")).request_id == "free"


@pytest.mark.parametrize("sampler", OBJECTIVES["v"].samplers)
def test_each_sampler_makes_sound(served: Served, sampler: str) -> None:
    samples, _ = audio_of(served, served.stub.Generate(request(sampler=sampler)))

    assert np.isfinite(samples).all()
    assert np.abs(samples).max() > 0


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 8},
        {"prompt": "loud drums and bass"},
        {"negative_prompt": "loud drums"},
        {"seconds_total": 1.6},
        {"seconds_start": 3.0},
        {"guidance_scale": 1.0},
        {"guidance_rescale": 0.7},
        {"steps": 5},
        {"sigma_max": 80.0},
        {"guidance_from": 0.9},
        {"guidance_to": 0.99},
    ],
)
def test_each_parameter_changes_the_sound(served: Served, change: dict[str, Any]) -> None:
    plain = audio_of(served, served.stub.Generate(request()))[0]
    changed = audio_of(served, served.stub.Generate(request(**change)))[0]

    assert not np.array_equal(plain, changed[: len(plain)])


@pytest.mark.parametrize(
    ("number", "container", "subtype"),
    [
        (pb.OUTPUT_FORMAT_FLAC, "FLAC", "PCM_16"),
        (pb.OUTPUT_FORMAT_WAV, "WAV", "PCM_16"),
        (pb.OUTPUT_FORMAT_WAV_FLOAT, "WAV", "FLOAT"),
        (pb.OUTPUT_FORMAT_FLAC_24, "FLAC", "PCM_24"),
        (pb.OUTPUT_FORMAT_WAV_24, "WAV", "PCM_24"),
        (pb.OUTPUT_FORMAT_OGG_VORBIS, "OGG", "VORBIS"),
        (pb.OUTPUT_FORMAT_OGG_OPUS, "OGG", "OPUS"),
        (pb.OUTPUT_FORMAT_MP3, "MP3", "MPEG_LAYER_III"),
    ],
)
def test_the_format_asked_for_is_the_one_stored(
    served: Served, number: pb.OutputFormat, container: str, subtype: str
) -> None:
    response = served.stub.Generate(request(output_format=number))

    info = soundfile.info(io.BytesIO(served.store.blobs.read(response.audio)))
    assert (info.format, info.subtype, response.output_format) == (container, subtype, number)
    assert (info.samplerate, info.frames) == (response.sample_rate_hz, response.samples)


def test_a_file_says_what_made_it_and_nothing_of_who_asked(served: Served) -> None:
    response = served.stub.Generate(request(seed=41, request_id="a-caller's-own"))

    stored = served.store.blobs.read(response.audio)
    with soundfile.SoundFile(io.BytesIO(stored)) as file:
        assert (file.title, file.comment) == (PROMPT, f"model {response.model_digest}, seed 41")
    assert b"a-caller's-own" not in stored


def test_audio_is_brought_to_a_loudness_and_says_so(served: Served) -> None:
    plain = served.stub.Generate(request(output_format=pb.OUTPUT_FORMAT_WAV_FLOAT))
    asked = request(output_format=pb.OUTPUT_FORMAT_WAV_FLOAT, loudness_target_lufs=-23.0)
    response = served.stub.Generate(asked)

    samples, rate_hz = audio_of(served, response)
    assert response.loudness_lufs == pytest.approx(-23.0)
    assert integrated_loudness_lufs(samples, rate_hz) == pytest.approx(-23.0, abs=0.01)
    np.testing.assert_allclose(
        samples, audio_of(served, plain)[0] * 10 ** (response.gain_db / 20), rtol=1e-4, atol=1e-6
    )
    assert (plain.HasField("loudness_lufs"), plain.HasField("true_peak_dbtp"), plain.gain_db) == (False, False, 0)


def test_the_true_peak_goes_before_the_loudness(served: Served) -> None:
    response = served.stub.Generate(request(loudness_target_lufs=-5.0, true_peak_limit_dbtp=-3.0))

    samples, rate_hz = audio_of(served, response)
    assert response.true_peak_dbtp == pytest.approx(-3.0)
    assert true_peak_dbtp(samples, rate_hz) == pytest.approx(-3.0, abs=0.01)
    assert response.loudness_lufs < -5.0
    assert response.peak_dbfs <= -3.0


def test_float_and_integer_formats_differ_only_by_clipping_and_rounding(served: Served) -> None:
    whole, rounded = (
        audio_of(served, served.stub.Generate(request(output_format=kind)))[0]
        for kind in (pb.OUTPUT_FORMAT_WAV_FLOAT, pb.OUTPUT_FORMAT_FLAC)
    )

    np.testing.assert_allclose(whole.clip(-1, 1), rounded, atol=2**-14)


def test_small_audio_comes_inline(served: Served) -> None:
    response = served.stub.Generate(request(inline_audio=True))

    assert response.inline_audio == served.store.blobs.read(response.audio)


def test_a_model_is_named_by_name_number_or_digest(served: Served) -> None:
    digest = served.stub.Generate(request()).model_digest

    answers = {served.stub.Generate(request(model=name)).model for name in ("", "tiny", "tiny@1", digest)}

    assert answers == {"tiny@1"}


def test_init_audio_shapes_the_result_the_more_the_less_noise_is_added(served: Served) -> None:
    rate_hz = served.stub.Generate(request()).sample_rate_hz
    tone = 0.5 * np.sin(2 * np.pi * 220 * np.arange(rate_hz * 2) / rate_hz)
    ref = uploaded(served, tone, rate_hz)

    loud, quiet = (
        served.stub.Generate(request(init_audio=ref, init_noise_level=level, output_format=pb.OUTPUT_FORMAT_WAV_FLOAT))
        for level in (100.0, 0.4)
    )

    assert [loud.init_noise_level, quiet.init_noise_level] == pytest.approx([100, 0.4])
    assert loud.audio != quiet.audio
    assert list(loud.action.lineage.inputs)[1] == ref.sha256
    ref.bucket = "somebody-elses"  # refused, although this audio is made already
    with pytest.raises(grpc.RpcError) as refused:
        served.stub.Generate(request(init_audio=ref, init_noise_level=100.0, output_format=pb.OUTPUT_FORMAT_WAV_FLOAT))
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


def test_prompts_beyond_what_the_model_reads_are_told(served: Served) -> None:
    response = served.stub.Generate(request(prompt="piano " * 300))

    assert any("tokens" in note for note in response.notes)


def test_less_is_denoised_where_the_caller_chose_so(served: Served) -> None:
    whole, fitted = (served.stub.Generate(request(seed=61, fit_window=fit)) for fit in (False, True))

    assert (whole.fit_window, fitted.fit_window) == (False, True)
    assert (whole.window_s, fitted.window_s) == pytest.approx((48 * 2048 / 16000, 32 * 2048 / 16000))
    assert whole.samples == fitted.samples
    assert whole.audio != fitted.audio


@pytest.mark.parametrize("precision", [pb.PRECISION_BFLOAT16, pb.PRECISION_INT8])
def test_a_precision_that_the_caller_chose_is_near_and_named(served: Served, precision: int) -> None:
    exact, found = (
        served.stub.Generate(request(seed=62, guidance_scale=1, steps=1, precision=each))
        for each in (pb.PRECISION_UNSPECIFIED, precision)
    )

    assert (exact.precision, found.precision) == (pb.PRECISION_FLOAT32, precision)
    sound, near = (audio_of(served, each)[0] for each in (exact, found))
    assert 0 < np.std(sound - near) < 0.25 * np.std(sound)
    again = served.stub.Generate(request(seed=62, guidance_scale=1, steps=1, precision=pb.PRECISION_FLOAT32))
    assert again.audio == exact.audio
    assert again.action.reused


def test_what_a_precision_does_not_go_with_is_refused(served: Served) -> None:
    for fields, text in (
        ({"precision": 17}, "precision: must be one of"),
        ({"fit_window": True, "untrimmed": True}, "fit_window: must be false with untrimmed"),
    ):
        code, details = refusal(partial(served.stub.Generate, request(**fields)))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert text in details
