"""The service over real gRPC: what is asked is done once, and what is wrong is answered as the table says."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from luthier.common.v1.common_pb2 import ArtifactRef, Variation
from luthier.rendering.v1 import rendering_pb2 as pb
from luthier.rendering.v1.rendering_pb2_grpc import RenderingServiceStub
from luthier_kit.rpc import (
    Channel,
    FailedPrecondition,
    InvalidRequest,
    LuthierError,
    NotFound,
    PermissionDenied,
    SettingsError,
    Unavailable,
    error_of_call,
    load,
)
from luthier_kit.store import Store, open_store
from luthier_music.audio import audio_info
from luthier_rendering.backends.soundfont import packaged_soundfont
from luthier_rendering.service import build
from luthier_rendering.settings import RenderingSettings
from tests.support.services import running

from .in_workers import within
from .midi_making import control, midi_bytes, name, note, notes, program

SONG = midi_bytes([name("Lead"), program(73), *notes([60, 64, 67])], notes([36, 38, 36], channel=9))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> RenderingSettings:
    folder = tmp_path_factory.mktemp("rendering")
    return RenderingSettings(address="127.0.0.1:0", slots=1, store_folder=folder / "store", scratch=folder)


@pytest.fixture(scope="module")
def service(settings: RenderingSettings) -> Iterator[RenderingServiceStub]:
    with running(build(settings), settings) as address, Channel(address) as channel:
        yield RenderingServiceStub(channel)


@pytest.fixture(scope="module")
def store(settings: RenderingSettings) -> Store:
    return open_store(settings)


def render(service: RenderingServiceStub, midi: ArtifactRef, **options: Any) -> pb.RenderSongResponse:
    response: pb.RenderSongResponse = service.RenderSong(pb.RenderSongRequest(midi=midi, **options), timeout=120)
    return response


def test_a_song_is_rendered_once(service: RenderingServiceStub, store: Store, tmp_path: Path) -> None:
    midi = store.blobs.put_bytes("midi", SONG, "mid", "audio/midi")
    first, second = render(service, midi), render(service, midi)
    assert (first.action.reused, second.action.reused) == (False, True)
    assert second.mix == first.mix
    assert audio_info(store.blobs.fetch(first.mix, tmp_path)).duration_s == pytest.approx(
        first.timeline.duration_s, abs=1e-4
    )
    assert [(s.name, s.activity.instrument) for s in first.stems] == [("Lead", "Flute"), ("", "Drums")]
    assert first.mix_peak_dbfs <= -1.0 + 1e-6
    assert (first.backend, first.sample_rate_hz, first.stem_loudness_lufs, first.stem_jitter_db) == (
        "soundfont", 44_100, -24.0, 3.0,
    )  # fmt: skip
    assert (second.mix_loudness_target_lufs, second.mix_only) == (-16.0, False)


def test_lineage_leads_back_to_file_and_soundfont(service: RenderingServiceStub, store: Store) -> None:
    midi = store.blobs.put_bytes("midi", SONG, "mid", "audio/midi")
    lineage = render(service, midi).action.lineage
    assert list(lineage.inputs) == [midi.sha256]
    assert len(lineage.versions["soundfont"]) == 64
    assert lineage.seed == render(service, midi).seed == int(midi.sha256[:13], 16)


def test_another_seed_or_level_is_another_action(service: RenderingServiceStub, store: Store) -> None:
    midi = store.blobs.put_bytes("midi", SONG, "mid", "audio/midi")
    usual, other = render(service, midi), render(service, midi, seed=7, mix_loudness_lufs=-23.0, mix_only=True)
    assert other.seed == 7
    assert other.mix_loudness_lufs == pytest.approx(-23.0, abs=0.05)
    assert (other.mix_loudness_target_lufs, other.mix_only) == (-23.0, True)
    assert other.action.action_key != usual.action.action_key
    assert not other.stems


def test_a_variation_is_told_as_it_took_effect_and_rendered_once(service: RenderingServiceStub, store: Store) -> None:
    midi = store.blobs.put_bytes("midi", SONG, "mid", "audio/midi")
    asked = {"variation": Variation(number=3, transpose_semitones=2, tempo_factor=0.8), "other_instruments": True}
    usual, first, second = render(service, midi), render(service, midi, **asked), render(service, midi, **asked)
    took = first.variation
    assert (first.action.reused, second.action.reused, second.variation) == (False, True, took)
    assert (took.number, took.transpose_semitones, took.tempo_factor) == (3, 2, 0.8)
    assert set(took.programs) == {73}
    assert first.stems[0].activity.program == took.programs[73]
    assert [change.tempo_bpm for change in first.timeline.tempos] == [96]
    assert first.fingerprint == usual.fingerprint  # it is no other song
    assert first.seed != usual.seed
    assert '"transposeSemitones":2' in first.action.lineage.parameters_json.replace(" ", "")
    assert not usual.HasField("variation")


def test_what_took_effect_asked_for_is_the_same_audio(service: RenderingServiceStub, store: Store) -> None:
    midi = store.blobs.put_bytes("midi", SONG, "mid", "audio/midi")
    asked = Variation(number=4, transpose_semitones=-12)
    first = render(service, midi, variation=asked, other_instruments=True)
    again = render(service, midi, variation=first.variation, seed=first.seed)
    assert not again.action.reused
    assert again.mix.sha256 == first.mix.sha256


def test_another_number_is_another_sound_of_the_same_song(service: RenderingServiceStub, store: Store) -> None:
    midi = store.blobs.put_bytes("midi", SONG, "mid", "audio/midi")
    mixes = [render(service, midi, variation=Variation(number=number)).mix.sha256 for number in (1, 2)]
    assert len({*mixes, render(service, midi).mix.sha256}) == 3


def test_a_song_as_written_is_the_question_that_it_was_before_there_were_variations(
    service: RenderingServiceStub, store: Store
) -> None:
    """A parameter more in its lineage would be another action: all that was rendered before would be rendered anew."""
    midi = store.blobs.put_bytes("midi", SONG, "mid", "audio/midi")
    response = render(service, midi)
    again = service.RenderStem(pb.RenderStemRequest(midi=midi, sound=response.stems[0].sound), timeout=60)
    asked = [json.loads(one.action.lineage.parameters_json) for one in (response, again)]
    levels = {"stem_loudness_lufs", "stem_jitter_db", "mix_loudness_lufs"}
    assert set(asked[0]) == levels | {"backend", "mix_only", "limits", "humanise"}
    assert set(asked[1]) == {"sound", "limits"}


@pytest.mark.parametrize("number", [0, 1])
def test_a_stem_of_a_variation_is_made_again_bit_for_bit(
    service: RenderingServiceStub, store: Store, number: int
) -> None:
    midi = store.blobs.put_bytes("midi", SONG, "mid", "audio/midi")
    asked = Variation(number=5, transpose_semitones=5, tempo_factor=1.2)
    varied = render(service, midi, variation=asked, other_instruments=True, humanise_timing_ms=10.0)
    stem = varied.stems[number]
    request = pb.RenderStemRequest(midi=midi, sound=stem.sound, variation=varied.variation)
    assert service.RenderStem(request, timeout=60).audio.sha256 == stem.audio.sha256
    request.ClearField("variation")
    assert service.RenderStem(request, timeout=60).audio.sha256 != stem.audio.sha256


def test_inspection_tells_facts_faults_and_the_same_fingerprint(service: RenderingServiceStub, store: Store) -> None:
    midi = store.blobs.put_bytes("midi", SONG, "mid", "audio/midi")
    found = service.InspectMidi(pb.InspectMidiRequest(midi=midi), timeout=30)
    assert (found.tracks, found.notes, found.format, found.ticks_per_beat) == (2, 6, 1, 480)
    assert found.duration_s == pytest.approx(1.5)
    assert [fault.reason for fault in found.faults] == ["TEMPO_IS_DEFAULT"]
    assert found.fingerprint == render(service, midi).fingerprint
    assert found.timeline == render(service, midi).timeline


def test_solos_are_found_once_and_their_parts_are_those_of_the_stems(
    service: RenderingServiceStub, store: Store
) -> None:
    play = [message for beat in range(24) for message in note(60 + 2 * (beat % 4), beat, 1, channel=1)]
    song = midi_bytes([program(0), *note(48, 0, 1)], [program(40, channel=1), *play])  # the piano has one note
    midi = store.blobs.put_bytes("midi", song, "mid", "audio/midi")
    request = pb.FindSolosRequest(midi=midi, target_s=4)

    found, again = (service.FindSolos(request, timeout=30) for _ in range(2))
    [violin] = found.parts
    assert (violin.activity.instrument, [p.span.start_s for p in violin.passages]) == ("Violin", [0, 4, 8])
    assert [len(passage.pitch_class_weights) for passage in violin.passages] == [24, 24, 24]  # two bars of each
    assert (found.target_s, found.min_s, found.max_s) == (4, 4, 32)
    assert (found.action.reused, again.action.reused, list(again.parts)) == (False, True, list(found.parts))
    [stem] = [stem for stem in render(service, midi).stems if stem.sound.part == violin.part]
    assert stem.activity == violin.activity


@pytest.mark.parametrize(
    ("lengths", "field"),
    [({"target_s": 1}, "target_s"), ({"min_s": 31}, "min_s"), ({"max_s": 29}, "max_s"), ({"max_s": 601}, "max_s")],
)
def test_lengths_of_solos_beyond_their_bounds_are_refused(
    service: RenderingServiceStub, store: Store, lengths: dict[str, float], field: str
) -> None:
    midi = store.blobs.put_bytes("midi", SONG, "mid")
    with pytest.raises(InvalidRequest) as refusal:
        service.FindSolos(pb.FindSolosRequest(midi=midi, **lengths), timeout=30)
    assert [name for name, _ in refusal.value.violations] == [field]


def test_instruments_are_listed_with_digests(service: RenderingServiceStub) -> None:
    listed = service.ListInstruments(pb.ListInstrumentsRequest(), timeout=30)
    assert {one.program for one in listed.instruments if not one.is_drum} == set(range(128))
    assert any(one.is_drum and one.instrument == "Drums" for one in listed.instruments)
    assert not listed.unavailable


@pytest.mark.parametrize(
    ("options", "field", "bound"),
    [
        ({"backend": "kazoo"}, "backend", "map, soundfont"),
        ({"mix_loudness_lufs": 0.0}, "mix_loudness_lufs", "between -40 and -6"),
        ({"mix_loudness_lufs": float("nan")}, "mix_loudness_lufs", "between -40 and -6"),
        ({"stem_loudness_lufs": -51.0}, "stem_loudness_lufs", "between -50 and -10"),
        ({"stem_jitter_db": 13.0}, "stem_jitter_db", "between 0 and 12"),
        ({"humanise_timing_ms": 20.1}, "humanise_timing_ms", "between 0 and 20"),
        ({"humanise_velocity": -1.0}, "humanise_velocity", "between 0 and 20"),
        ({"variation": Variation()}, "variation.number", "between 1 and 1000"),
        ({"variation": Variation(number=1, transpose_semitones=13)}, "variation.transpose_semitones", "-12 and 12"),
        ({"variation": Variation(number=1, tempo_factor=2.1)}, "variation.tempo_factor", "between 0.5 and 2"),
        ({"variation": Variation(number=1, tempo_factor=float("nan"))}, "variation.tempo_factor", "between 0.5 and 2"),
        ({"variation": Variation(number=1, programs={0: 128})}, "variation.programs[0]", "between 0 and 127"),
        ({"variation": Variation(number=1, kits={-1: 0})}, "variation.kits", "between 0 and 127"),
        ({"other_instruments": True}, "other_instruments", "must come with a variation"),
    ],
)
def test_a_value_beyond_its_bound_is_refused(
    service: RenderingServiceStub, store: Store, options: dict[str, Any], field: str, bound: str
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        render(service, store.blobs.put_bytes("midi", SONG, "mid"), **options)
    (violation,) = refusal.value.violations
    assert violation[0] == field
    assert bound in violation[1]


def test_hostile_files_are_refused_and_silent_ones_are_remembered(service: RenderingServiceStub, store: Store) -> None:
    silent = midi_bytes([control(7, 0), *notes([60])])
    for data, reason in ((b"", "MIDI_EMPTY"), (SONG[:40], "MIDI_TRUNCATED"), (silent, "MIDI_SILENT")):
        for _ in range(2):
            with pytest.raises(InvalidRequest) as refusal:
                render(service, store.blobs.put_bytes("midi", data, "mid"))
            assert refusal.value.reason == reason


@pytest.mark.parametrize("backend", ["map", "vst3"])
def test_a_map_that_is_not_configured_is_said(service: RenderingServiceStub, store: Store, backend: str) -> None:
    with pytest.raises(FailedPrecondition) as refusal:
        render(service, store.blobs.put_bytes("midi", SONG, "mid"), backend=backend)
    assert refusal.value.reason == "BACKEND_NOT_CONFIGURED"


def test_references_that_are_wrong_are_answered_as_the_table_says(service: RenderingServiceStub, store: Store) -> None:
    good = store.blobs.put_bytes("midi", SONG, "mid")
    render(service, good)
    unknown = ArtifactRef(bucket=good.bucket, key=f"midi/{'0' * 64}.mid", sha256="0" * 64)
    elsewhere = ArtifactRef(bucket="private", key=good.key, sha256=good.sha256)
    digest = ArtifactRef(bucket=good.bucket, key=good.key, sha256="0" * 64)
    huge = store.blobs.put_bytes("midi", bytes(9 << 20), "mid")
    cases: list[tuple[ArtifactRef, type[LuthierError], str]] = [
        (ArtifactRef(), InvalidRequest, "INVALID_REQUEST"),
        (unknown, NotFound, "ARTIFACT_NOT_FOUND"),
        (elsewhere, PermissionDenied, "BUCKET_NOT_ALLOWED"),
        (digest, FailedPrecondition, "ARTIFACT_DIGEST_MISMATCH"),
        (huge, InvalidRequest, "ARTIFACT_TOO_LARGE"),
    ]
    for midi, kind, reason in cases:
        with pytest.raises(kind) as refusal:
            render(service, midi)
        assert refusal.value.reason == reason


def test_a_store_that_is_down_is_unavailable_with_a_hint_and_work_goes_on_when_it_is_back(tmp_path: Path) -> None:
    own = RenderingSettings(address="127.0.0.1:0", slots=1, store_folder=tmp_path / "store", scratch=tmp_path)
    midi, away = open_store(own).blobs.put_bytes("midi", SONG, "mid"), tmp_path / "away"
    with running(build(own), own) as address, grpc.insecure_channel(address) as channel:
        ask = partial(RenderingServiceStub(channel).InspectMidi, pb.InspectMidiRequest(midi=midi))
        own.store_folder.rename(away)
        own.store_folder.write_text("a file where the folder was")
        with pytest.raises(grpc.RpcError) as refused:
            ask()
        own.store_folder.unlink()
        away.rename(own.store_folder)
        assert ask().notes == 6
    status = error_of_call(refused.value)
    assert (status.code, status.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_BUCKET_MISSING")
    assert "grpc-retry-pushback-ms" in dict(refused.value.trailing_metadata())


def test_a_caller_that_goes_away_ends_the_rendering_and_its_scratch(tmp_path: Path) -> None:
    own = RenderingSettings(address="127.0.0.1:0", slots=1, store_folder=tmp_path / "store", scratch=tmp_path)
    long = midi_bytes(*[notes([48 + i % 24 for i in range(1400)]) for _ in range(20)])  # 700 s, 20 stems
    midi = open_store(own).blobs.put_bytes("midi", long, "mid")
    with running(build(own), own) as address, grpc.insecure_channel(address) as channel:
        asked = RenderingServiceStub(channel).RenderSong.future(pb.RenderSongRequest(midi=midi))
        assert within(20, lambda: list(tmp_path.glob("render-*/worker.step")))
        asked.cancel()
        assert within(10, lambda: not list(tmp_path.glob("render-*")))


def test_a_scratch_folder_that_is_gone_is_unavailable_and_no_bug(tmp_path: Path) -> None:
    own = RenderingSettings(address="127.0.0.1:0", slots=1, store_folder=tmp_path / "store", scratch=tmp_path / "no")
    midi = open_store(own).blobs.put_bytes("midi", SONG, "mid")
    with running(build(own), own) as address, Channel(address, retry_budget_s=0) as channel:
        stub = RenderingServiceStub(channel)
        asks: list[Callable[[], object]] = [
            partial(stub.InspectMidi, pb.InspectMidiRequest(midi=midi), timeout=30),
            partial(stub.RenderSong, pb.RenderSongRequest(midi=midi), timeout=30),
        ]
        for ask in asks:
            with pytest.raises(Unavailable) as failure:
                ask()
            assert failure.value.reason == "SCRATCH_FAILED"
            assert str(tmp_path) not in str(failure.value)


def test_no_scratch_is_left_behind(service: RenderingServiceStub, settings: RenderingSettings, store: Store) -> None:
    render(service, store.blobs.put_bytes("midi", SONG, "mid"))
    assert [path.name for path in settings.scratch.iterdir()] == ["store"]


def test_settings_that_are_wrong_are_all_named() -> None:
    with pytest.raises(SettingsError) as fault:
        load(RenderingSettings, {"LUTHIER_BACKEND": "kazoo", "LUTHIER_RENDER_TIMEOUT_S": "0"})
    assert "LUTHIER_BACKEND" in str(fault.value)
    assert "LUTHIER_RENDER_TIMEOUT_S" in str(fault.value)


def configured(settings: RenderingSettings, **other: Any) -> str:
    return build(replace(settings, **other)).configuration.digest


def test_what_decides_the_sound_is_in_the_configuration_and_nothing_else(
    settings: RenderingSettings, service: RenderingServiceStub, store: Store, tmp_path: Path
) -> None:
    usual = configured(settings)
    assert configured(settings, slots=2, store_folder=tmp_path, render_timeout_s=9.0) == usual
    font = tmp_path / "own.sf2"
    font.write_bytes(packaged_soundfont().read_bytes() + b"x")
    other = {configured(settings, max_notes=7), configured(settings, soundfont=str(font))}
    assert len({usual, *other}) == 3
    answer = render(service, store.blobs.put_bytes("midi", SONG, "mid"))
    assert answer.action.configuration == usual


def test_another_instrument_map_is_another_configuration(settings: RenderingSettings, tmp_path: Path) -> None:
    found = []
    for weight in (1, 2):
        path = tmp_path / f"{weight}.yaml"
        path.write_text(f"instruments: [{{for: [Piano], candidates: [{{soundfont: packaged, weight: {weight}}}]}}]")
        found.append(configured(settings, instrument_map=str(path)))
    assert len({*found, configured(settings)}) == 3
