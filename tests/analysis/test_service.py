"""The service over gRPC: what it answers, what it refuses, what it remembers."""

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from luthier.analysis.v1 import analysis_pb2 as pb
from luthier.analysis.v1.analysis_pb2_grpc import AnalysisServiceStub as Stub
from luthier.common.v1 import common_pb2 as common
from luthier_analysis.extra import VIBENET, identity
from luthier_analysis.service import configuration
from luthier_analysis.settings import AnalysisSettings, Options, Weights
from luthier_kit.rpc import DataLoss, InvalidRequest, LuthierError, NotFound, PermissionDenied, QuotaExceeded
from luthier_kit.store import Store
from luthier_music.audio import write_audio
from tests.support.flac import streamed

from .synth import RATE_HZ, aba, chords, click_track, stereo

Put = Callable[..., common.ArtifactRef]


def analyze(service: Stub, ref: common.ArtifactRef, *features: Any, **fields: Any) -> pb.AnalyzeAudioResponse:
    request = pb.AnalyzeAudioRequest(audio=ref, features=features or [pb.FEATURE_LOUDNESS], **fields)
    answer: pb.AnalyzeAudioResponse = service.AnalyzeAudio(request, timeout=60)
    return answer


def cut(service: Stub, ref: common.ArtifactRef, **fields: Any) -> pb.CutClipsResponse:
    answer: pb.CutClipsResponse = service.CutClips(pb.CutClipsRequest(mix=ref, **fields), timeout=60)
    return answer


def a_timeline(duration_s: float) -> common.Timeline:
    """4/4 at 120 BPM, C major, a harpsichord throughout."""
    weights = [3, 0, 1, 0, 2, 1, 0, 2.5, 0, 1, 0, 0.7]
    bars = [
        common.Bar(span=common.Span(start_s=at, end_s=at + 2), pitch_class_weights=weights, onsets=9, onsets_on_grid=9)
        for at in np.arange(0, duration_s - 1, 2)
    ]
    harpsichord = common.InstrumentActivity(
        instrument="Harpsichord", family="Piano", program=6, notes=99, spans=[common.Span(start_s=0, end_s=duration_s)]
    )
    return common.Timeline(
        duration_s=duration_s,
        tempos=[common.TempoChange(tempo_bpm=120)],
        meters=[common.MeterChange(numerator=4, denominator=4)],
        bars=bars,
        instruments=[harpsichord],
    )


def test_only_what_is_asked_for_is_answered(service: Stub, put: Put) -> None:
    response = analyze(service, put(chords(0, "major", 4)), pb.FEATURE_KEY)

    assert (response.key.tonic, response.key.mode, response.key.source) == (
        "C", common.MODE_MAJOR, common.FACT_SOURCE_AUDIO,
    )  # fmt: skip
    assert not response.HasField("tempo")
    assert not response.HasField("loudness_lufs")
    assert not response.sections
    assert not response.descriptors


def test_everything_at_once(service: Stub, put: Put) -> None:
    response = analyze(service, put(aba()), *pb.Feature.values()[1:])

    assert response.tempo.tempo_bpm == pytest.approx(120, rel=0.02)
    assert response.tempo.estimator.startswith("essentia/")
    assert -40 < response.loudness_lufs < -10
    assert [section.label for section in response.sections] == ["A", "B", "A"]
    assert {one.name for one in response.descriptors if one.estimator != f"vibenet/{identity(VIBENET)}"} == {
        "spectral_centroid_hz", "onset_rate_hz", "dynamic_range_db", "danceability", "energy",
    }  # fmt: skip
    assert (response.sample_rate_hz, response.channels) == (RATE_HZ, 2)


def test_a_span_is_looked_at_alone(service: Stub, put: Put) -> None:
    mono = np.concatenate([chords(0, "major", 4), chords(6, "minor", 4)])

    response = analyze(service, put(mono), pb.FEATURE_KEY, span=common.Span(start_s=8, end_s=16))

    assert (response.key.tonic, response.key.mode) == ("F#", common.MODE_MINOR)
    assert response.duration_s == pytest.approx(8)


def test_silence_is_unknown_not_wrong(service: Stub, put: Put) -> None:
    response = analyze(service, put(np.zeros(5 * RATE_HZ)), *pb.Feature.values()[1:])

    assert response.tempo == common.TempoFact()
    assert response.key == common.KeyFact()
    assert response.beats == pb.Beats()
    assert not response.HasField("loudness_lufs")


def test_deeprhythm_without_weights_says_whose_estimate_it_is(service: Stub, put: Put) -> None:
    response = analyze(service, put(chords(0, "major", 6)), pb.FEATURE_TEMPO, tempo_estimator="deeprhythm")

    assert response.tempo.estimator.startswith("essentia/")
    assert response.notes == ["deeprhythm gave no estimate: no weights are configured; this one is essentia's"]


def test_beats_say_who_found_them_and_that_bars_were_not_looked_for(service: Stub, put: Put) -> None:
    response = analyze(service, put(click_track(120, 10)), pb.FEATURE_BEATS, beat_estimator="essentia")

    times_s = [beat.time_s for beat in response.beats.beats]
    assert np.diff(times_s) == pytest.approx(0.5, abs=0.05)
    assert response.beats.estimator == "essentia/BeatTrackerDegara"
    assert response.beats.downbeat_estimator == ""
    assert not any(beat.downbeat for beat in response.beats.beats)
    assert response.notes == ["downbeats not computed: essentia finds none, the estimator beatnet does"]


def test_the_same_question_is_answered_from_the_record(service: Stub, put: Put) -> None:
    ref = put(chords(2, "minor", 4))

    first, second = analyze(service, ref), analyze(service, ref)

    assert (first.action.reused, second.action.reused) == (False, True)
    assert first.loudness_lufs == second.loudness_lufs
    assert list(second.action.lineage.inputs) == [ref.sha256]


def test_clips_carry_the_facts_of_their_span(service: Stub, put: Put, store: Store, tmp_path: Path) -> None:
    response = cut(service, put(aba()), timeline=a_timeline(48), target_s=16, min_s=10, max_s=20)

    assert [(clip.span.start_s, clip.span.end_s) for clip in response.clips] == [(0, 16), (16, 32), (32, 48)]
    for clip in response.clips:
        assert clip.on_bar_lines
        assert clip.facts.tempo == common.TempoFact(tempo_bpm=120, source=common.FACT_SOURCE_TEMPO_MAP)
        assert clip.facts.key.source == common.FACT_SOURCE_NOTES
        assert clip.facts.estimated_key.source == common.FACT_SOURCE_AUDIO
        assert [one.instrument for one in clip.facts.instruments] == ["Harpsichord"]
        of_notes = [one for one in clip.facts.descriptors if one.source == common.FACT_SOURCE_NOTES]
        assert {one.name: one.value for one in of_notes} == {"acousticness": 1.0, "instrumentalness": 1.0}
        audio = soundfile.info(str(store.blobs.fetch(clip.audio, tmp_path)))
        assert (audio.format, audio.frames, audio.samplerate, audio.channels) == ("FLAC", 16 * RATE_HZ, RATE_HZ, 2)
    assert response.cpu_s > 0
    assert (response.target_s, response.min_s, response.max_s, response.max_clips) == (16, 10, 20, 40)


def test_of_a_clip_without_notes_nobody_knows_whether_a_voice_is_heard(service: Stub, put: Put) -> None:
    mono = chords(0, "major", 8)
    recorded, rendered = (
        cut(service, put(mono), **given).clips[0].facts for given in ({}, {"timeline": a_timeline(16)})
    )

    assert (recorded.voice.presence, recorded.voice.source) == (0, 0)
    assert recorded.voice.speech_share == 0
    assert not recorded.voice.HasField("vocals_share")
    assert not rendered.HasField("voice")


def test_without_notes_nothing_proves_that_nobody_sings(service: Stub, put: Put) -> None:
    response = cut(service, put(chords(7, "major", 5)))

    descriptors = {one.name: one for clip in response.clips for one in clip.facts.descriptors}
    assert {one.source for one in descriptors.values()} == {common.FACT_SOURCE_AUDIO}
    if identity(VIBENET) == "absent":
        note = "acousticness, instrumentalness and valence not computed: the extra 'vibenet' is not installed"
        assert note in response.notes
        assert not {"acousticness", "instrumentalness", "valence"} & descriptors.keys()
    else:
        assert descriptors["instrumentalness"].estimator == "vibenet/0.1.0"


@pytest.mark.parametrize(("duration_s", "channels", "rate_hz"), [(0.5, 1, 8_000), (3, 1, 16_000), (7.5, 2, 96_000)])
def test_short_low_and_mono_files_are_answered_for_every_feature(
    service: Stub, store: Store, tmp_path: Path, duration_s: float, channels: int, rate_hz: int
) -> None:
    time = np.arange(round(duration_s * rate_hz)) / rate_hz
    wave = (0.3 * np.sin(2 * np.pi * 440 * time) * (time % 0.5 < 0.25))[:, None].repeat(channels, axis=1)
    soundfile.write(tmp_path / "a.wav", wave, rate_hz)
    ref = store.blobs.put_file("mixes", tmp_path / "a.wav", "audio/wav")

    response = analyze(service, ref, *pb.Feature.values()[1:])

    assert (response.sample_rate_hz, response.channels) == (rate_hz, channels)
    assert response.loudness_lufs < 0
    assert response.sections[-1].span.end_s == pytest.approx(duration_s)
    assert {"energy", "spectral_centroid_hz"} <= {one.name for one in response.descriptors}
    assert cut(service, ref).clips


def test_a_clip_in_six_eight_counts_dotted_quarters(service: Stub, put: Put) -> None:
    line = a_timeline(48)
    line.meters[0].numerator, line.meters[0].denominator, line.tempos[0].tempo_bpm = 6, 8, 180
    tempo = cut(service, put(aba()), timeline=line, target_s=16, min_s=10, max_s=20).clips[0].facts.tempo

    assert (tempo.tempo_bpm, tempo.beat_quarters, tempo.notated) == (120, 1.5, False)


def test_cutting_again_gives_the_same_bytes(service: Stub, put: Put) -> None:
    mono = chords(4, "minor", 12)

    by_record, again = (cut(service, put(mono), target_s=12, min_s=8, max_clips=most) for most in (5, 6))

    assert not again.action.reused
    assert (by_record.max_clips, again.max_clips) == (5, 6)
    assert [clip.audio.sha256 for clip in by_record.clips] == [clip.audio.sha256 for clip in again.clips]


def solo(duration_s: float) -> common.Timeline:
    line = a_timeline(duration_s)
    line.solo = True
    return line


def span(start_s: float, end_s: float) -> common.Span:
    return common.Span(start_s=start_s, end_s=end_s)


def test_spans_are_cut_exactly_as_given(service: Stub, put: Put, store: Store, tmp_path: Path) -> None:
    mono = aba()
    response = cut(service, put(mono), timeline=a_timeline(48), spans=[span(2, 10), span(20, 21)])

    assert [(clip.span.start_s, clip.span.end_s) for clip in response.clips] == [(2, 10), (20, 21)]
    assert [clip.on_bar_lines for clip in response.clips] == [True, False]
    assert not response.sections
    samples, _ = soundfile.read(store.blobs.fetch(response.clips[0].audio, tmp_path), dtype="float32")
    assert samples.shape == (8 * RATE_HZ, 2)
    inside = slice(RATE_HZ, 7 * RATE_HZ)  # without the fades at the edges
    assert np.abs(samples[inside, 0] - mono[2 * RATE_HZ :][inside]).max() < 1e-4


def test_other_spans_are_another_question(service: Stub, put: Put) -> None:
    ref = put(aba())
    first, other, first_again = (
        cut(service, ref, timeline=a_timeline(48), spans=[one]) for one in (span(0, 8), span(8, 16), span(0, 8))
    )
    assert (first.action.reused, other.action.reused, first_again.action.reused) == (False, False, True)
    assert first.action.action_key != other.action.action_key


def test_a_span_that_is_nearly_silent_is_no_clip_and_noted(service: Stub, put: Put) -> None:
    music = chords(0, "major", 4)  # 8 s
    whisper = 10 ** (-50 / 20) * music
    mono = np.concatenate([music, np.zeros_like(music), whisper])
    response = cut(service, put(mono), timeline=solo(24), spans=[span(0, 8), span(8, 16), span(16, 24)])

    assert [clip.span.start_s for clip in response.clips] == [0]
    assert list(response.notes) == ["8.00-16.00 s left out: nearly silent", "16.00-24.00 s left out: nearly silent"]


def test_a_part_alone_is_said_to_be_alone_and_nothing_is_guessed_of_it(service: Stub, put: Put) -> None:
    off_grid = solo(48)
    for bar in off_grid.bars:
        bar.onsets_on_grid = 0
        bar.pitch_class_weights[:] = [1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]  # a fifth: no key
    ref = put(aba())
    proven = cut(service, ref, timeline=solo(48), spans=[span(0, 16)]).clips[0].facts
    unproven = cut(service, ref, timeline=off_grid, spans=[span(0, 16)]).clips[0].facts
    mix = cut(service, ref, timeline=a_timeline(48), spans=[span(0, 16)]).clips[0].facts

    assert (proven.solo, unproven.solo, mix.solo) == (True, True, False)
    assert proven.tempo == common.TempoFact(tempo_bpm=120, source=common.FACT_SOURCE_TEMPO_MAP)
    assert (proven.key.tonic, proven.key.source) == ("C", common.FACT_SOURCE_NOTES)
    assert (unproven.tempo, unproven.key) == (common.TempoFact(), common.KeyFact())
    assert unproven.estimated_key.tonic == "C"  # kept beside


@pytest.mark.parametrize(
    ("fields", "violated"),
    [
        ({"spans": [span(0, 4), span(3, 8)]}, "spans[1].start_s"),
        ({"spans": [span(4, 4.4)]}, "spans[0].end_s"),
        ({"spans": [span(float("nan"), 4)]}, "spans[0].start_s"),
        ({"spans": [span(4, 8.1)]}, "spans[0].end_s"),  # the audio has 8 s
        ({"spans": [span(at, at + 0.5) for at in np.arange(0, 101, 0.5)]}, "spans"),
        ({"target_s": 1.0}, "target_s"),
        ({"target_s": float("nan")}, "target_s"),
        ({"target_s": 30.0, "min_s": 31.0}, "min_s"),
        ({"target_s": 30.0, "max_s": 29.0}, "max_s"),
        ({"max_clips": 0}, "max_clips"),
        ({"timeline": common.Timeline(duration_s=8)}, "timeline.tempos"),
        ({"timeline": common.Timeline(duration_s=float("nan"))}, "timeline.duration_s"),
        ({"timeline": a_timeline(40)}, "timeline.duration_s"),
    ],
)
def test_what_is_out_of_bounds_is_named(service: Stub, put: Put, fields: dict[str, Any], violated: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        cut(service, put(chords(0, "major", 4)), **fields)

    assert violated in [field for field, _ in refused.value.violations]


@pytest.mark.parametrize(
    ("broken", "violated"),
    [
        (lambda line: line.bars[1].pitch_class_weights.pop(), "timeline.bars"),
        (lambda line: setattr(line.bars[0], "onsets_on_grid", 99), "timeline.bars"),
        (lambda line: setattr(line.bars[2].span, "start_s", -1), "timeline.bars"),
        (lambda line: setattr(line.tempos[0], "tempo_bpm", float("inf")), "timeline.tempos"),
        (lambda line: setattr(line.meters[0], "start_s", float("nan")), "timeline.meters"),
        (lambda line: setattr(line.instruments[0].spans[0], "end_s", 0), "timeline.instruments"),
        (lambda line: setattr(line.instruments[0], "instrument", ""), "timeline.instruments[0].instrument"),
        (lambda line: setattr(line.instruments[0], "family", "x" * 41), "timeline.instruments[0].family"),
    ],
)
def test_a_hostile_timeline_is_refused(
    service: Stub, put: Put, broken: Callable[[common.Timeline], None], violated: str
) -> None:
    line = a_timeline(8)
    broken(line)

    with pytest.raises(InvalidRequest) as refused:
        cut(service, put(chords(0, "major", 4)), timeline=line)

    assert {field for field, _ in refused.value.violations} == {violated}


@pytest.mark.parametrize(
    ("fields", "violated"),
    [
        ({"features": []}, "features"),
        ({"features": [pb.FEATURE_UNSPECIFIED]}, "features"),
        ({"features": [99]}, "features"),
        ({"features": [pb.FEATURE_KEY], "tempo_estimator": "ears"}, "tempo_estimator"),
        ({"features": [pb.FEATURE_BEATS], "beat_estimator": "deeprhythm"}, "beat_estimator"),
        ({"features": [pb.FEATURE_KEY], "span": common.Span(start_s=2, end_s=1)}, "span.end_s"),
        ({"features": [pb.FEATURE_KEY], "span": common.Span(start_s=0, end_s=99)}, "span.end_s"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(
    service: Stub, put: Put, fields: dict[str, Any], violated: str
) -> None:
    request = pb.AnalyzeAudioRequest(audio=put(chords(0, "major", 2)), **fields)

    with pytest.raises(InvalidRequest) as refused:
        service.AnalyzeAudio(request, timeout=30)

    assert violated in [field for field, _ in refused.value.violations]


def flac(path: Path) -> bytes:
    soundfile.write(path, stereo(chords(0, "major", 4)), RATE_HZ)
    return path.read_bytes()


def eternal(path: Path) -> bytes:
    """A FLAC file whose header promises 2^36 - 1 frames, eighteen days."""
    data = bytearray(flac(path))
    data[21] |= 0x0F
    data[22:26] = b"\xff" * 4
    return bytes(data)


def with_nan(path: Path) -> bytes:
    soundfile.write(path, np.full((RATE_HZ, 2), np.nan, np.float32), RATE_HZ, format="WAV", subtype="FLOAT")
    return path.read_bytes()


def cut_off(path: Path) -> bytes:
    """What an encoder had written to a pipe when it was killed."""
    flac(path)
    return streamed(path).read_bytes()[:-1000]


def of_shape(path: Path, channels: int, rate_hz: int) -> bytes:
    soundfile.write(path, np.zeros((rate_hz, channels)), rate_hz, format="WAV")
    return path.read_bytes()


def test_a_streamed_flac_is_measured_and_cut_as_the_file_it_would_have_been(
    service: Stub, store: Store, tmp_path: Path
) -> None:
    write_audio(tmp_path / "a.flac", stereo(aba(12)), RATE_HZ)
    whole = store.blobs.put_file("mixes", tmp_path / "a.flac")
    stream = store.blobs.put_file("mixes", streamed(tmp_path / "a.flac"))
    assert whole.sha256 != stream.sha256

    measured = [analyze(service, ref, *pb.Feature.values()[1:]) for ref in (whole, stream)]
    clips = [cut(service, ref).clips for ref in (whole, stream)]

    for answer in measured:
        answer.ClearField("action")
    assert measured[0] == measured[1]
    assert clips[0] == clips[1]
    assert clips[0]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: b"", "no audio"),
        (lambda path: b"RIFF" + bytes(40), "no audio"),
        (lambda path: flac(path)[:30_000], "audio"),
        (eternal, "its header says"),
        (with_nan, "NaN"),
        (cut_off, "does not end with a whole frame"),
        (lambda path: of_shape(path, 6, 44_100), "1 or 2 channels, got 6"),
        (lambda path: of_shape(path, 2, 4_000), "8000 to 192000 Hz, got 4000"),
    ],
    ids=["empty", "header-only", "truncated", "endless", "nan", "cut-stream", "six-channels", "4-kHz"],
)
def test_audio_that_is_none(
    service: Stub, store: Store, tmp_path: Path, make: Callable[[Path], bytes], says: str
) -> None:
    ref = store.blobs.put_bytes(
        "uploads", make(tmp_path / "made.wav" if make is with_nan else tmp_path / "made.flac"), "flac"
    )

    with pytest.raises(InvalidRequest, match=says) as refused:
        analyze(service, ref)

    assert refused.value.reason == "INVALID_AUDIO"
    assert [field for field, _ in refused.value.violations] == ["audio"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"key": f"mixes/{'0' * 64}.flac", "sha256": "0" * 64}, NotFound),
        ({"bucket": "someone-elses"}, PermissionDenied),
        ({"sha256": "1" * 64}, LuthierError),
        ({"key": ""}, InvalidRequest),
    ],
)
def test_a_reference_that_does_not_hold(
    service: Stub, put: Put, change: dict[str, Any], error: type[LuthierError]
) -> None:
    ref = put(chords(0, "major", 3))
    analyze(service, ref)
    for field, value in change.items():
        setattr(ref, field, value)

    with pytest.raises(error):
        analyze(service, ref)


def test_corrupt_bytes_in_the_store(service: Stub, put: Put, settings: object, store: Store) -> None:
    ref = put(chords(1, "major", 3))
    (stored,) = Path(settings.store_folder).rglob(Path(ref.key).name)  # type: ignore[attr-defined]
    stored.chmod(0o644)
    stored.write_bytes(stored.read_bytes()[:-1] + b"x")

    with pytest.raises(DataLoss):
        analyze(service, ref)


def test_a_song_whose_workers_are_killed_may_be_asked_for_again(
    service: Stub, put: Put, settings: AnalysisSettings
) -> None:
    ref, killed = put(aba()), set()
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(cut, service, ref)
        while not asked.done():
            for step in settings.scratch.glob("analysis-*/worker.step"):
                with suppress(OSError, IndexError):
                    pid = int(step.read_text().split()[0])
                    if pid not in killed:
                        os.kill(pid, signal.SIGKILL)
                        killed.add(pid)
            time.sleep(0.01)
    with pytest.raises(QuotaExceeded, match="signal SIGKILL") as refused:
        asked.result()
    assert refused.value.reason == "ANALYSIS_KILLED"
    assert len(killed) == 3
    assert cut(service, ref).clips
    assert not list(settings.scratch.iterdir())


@pytest.mark.parametrize("peak", [4e6, 1e20, 3e38])
def test_huge_samples_are_refused_by_name(service: Stub, store: Store, tmp_path: Path, peak: float) -> None:
    soundfile.write(tmp_path / "huge.wav", stereo(peak * chords(0, "major", 2)), RATE_HZ, subtype="FLOAT")
    ref = store.blobs.put_file("mixes", tmp_path / "huge.wav", "audio/wav")
    with pytest.raises(InvalidRequest, match=r"full scale is 1\.0"):
        analyze(service, ref, *pb.Feature.values()[1:])
    with pytest.raises(InvalidRequest, match=r"full scale is 1\.0"):
        cut(service, ref)


def test_facts_of_loud_float_samples_are_finite(service: Stub, store: Store, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "loud.wav", stereo(9e5 * chords(0, "major", 4)), RATE_HZ, subtype="FLOAT")
    ref = store.blobs.put_file("mixes", tmp_path / "loud.wav", "audio/wav")
    response = analyze(service, ref, *pb.Feature.values()[1:])
    assert "nan" not in str(response).lower()
    assert "inf" not in str(response).lower()
    assert response.loudness_lufs > 90


def test_answers_name_the_configuration_of_the_server(service: Stub, settings: AnalysisSettings, put: Put) -> None:
    answer = analyze(service, put(chords(0, "major", 2)))
    assert answer.action.configuration == configuration(settings.options).digest


def test_estimators_and_weights_are_in_the_configuration() -> None:
    weights = Weights(Path("model.onnx"), "ab" * 32)
    options = [
        Options(), Options(tempo_estimator="beatnet"), Options(beat_estimator="beatnet"), Options(vocals=weights),
        Options(deeprhythm=weights), Options(vocals=Weights(Path("model.onnx"), "cd" * 32)),
    ]  # fmt: skip
    assert len({configuration(one).digest for one in options}) == len(options)
    elsewhere = Options(vocals=Weights(Path("moved/model.onnx"), "ab" * 32))
    assert configuration(elsewhere) == configuration(Options(vocals=weights))
