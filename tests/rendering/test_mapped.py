"""Sounds drawn from a map: by weight and range, again when they cannot be used, recorded, rendered again from that."""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from luthier.rendering.v1 import rendering_pb2 as pb
from luthier_kit.rpc import FailedPrecondition, InvalidRequest, SettingsError
from luthier_kit.store import Store
from luthier_music.audio import Samples, read_audio
from luthier_music.loudness import integrated_loudness_lufs
from luthier_rendering.backends.base import BackendConfig, BackendError, Unusable
from luthier_rendering.backends.effects import EFFECTS_LUFS
from luthier_rendering.backends.instrument_map import PluginChoice, Range
from luthier_rendering.backends.mapped import MapBackend, open_backend
from luthier_rendering.backends.soundfont import PACKAGED_LICENCE
from luthier_rendering.backends.vst3 import Plugins, PluginSound
from luthier_rendering.midi import load_song
from luthier_rendering.performance import Performance, performance
from luthier_rendering.render import RenderParameters, RenderResult, StemResult, render_song
from luthier_rendering.service import Rendering, build
from luthier_rendering.settings import RenderingSettings
from luthier_rendering.smf import MidiLimits
from tests.support.services import shared, temp_store

from .in_workers import Renderer, Waiting
from .midi_making import midi_bytes, note, notes, program
from .soundfont_making import Tone, soundfont_bytes

RATE = 44_100
SONG = midi_bytes(
    [program(0), *notes([60, 64, 67, 72])], notes([36, 38, 36, 42], channel=9), [program(24), *notes([52])]
)
PIANO = "vst3: mda-vst3.vst3, plugin: mda Piano"
TONES = [Tone(0, 0, "Low", 220), Tone(0, 1, "Middle", 440), Tone(0, 2, "High", 880), Tone(128, 0, "Kit", keys=(36, 60))]


@pytest.fixture
def fonts(tmp_path: Path) -> Path:
    """A folder with a small SoundFont, tones.sf2."""
    folder = tmp_path / "fonts"
    folder.mkdir()
    (folder / "tones.sf2").write_bytes(soundfont_bytes(TONES))
    return folder


def tones_map(*candidates: str, names: str = "Piano", more: str = "") -> str:
    listed = "\n".join(f"      - {one}" for one in candidates)
    top = f"soundfonts: {{tones: {{path: tones.sf2}}}}\n{more}\n"
    return f"{top}instruments:\n  - for: [{names}]\n    candidates:\n{listed}\n"


def opened(text: str, fonts: Path, **more: str) -> MapBackend:
    return open_backend(BackendConfig(soundfont_path=str(fonts), instrument_map=text, **more))


def one_note(number: int = 0, key: int = 69) -> Performance:
    return performance(load_song(midi_bytes([program(number), *note(key, 0, 2)])), 0)


def drawn(backend: MapBackend, seed: int, played: Performance | None = None) -> pb.Sound:
    return backend.render(played or one_note(), RATE, random.Random(seed)).sound


THREE = [f"{{soundfont: tones, preset: {{bank: 0, program: {n}}}, weight: {w}}}" for n, w in ((0, 1), (1, 2), (2, 5))]


def test_candidates_are_drawn_by_weight(fonts: Path) -> None:
    backend = opened(tones_map(*THREE), fonts)
    counts = Counter(drawn(backend, seed).preset for seed in range(800))
    assert counts["Low"] / 800 == pytest.approx(1 / 8, abs=0.04)
    assert counts["Middle"] / 800 == pytest.approx(2 / 8, abs=0.05)
    assert counts["High"] / 800 == pytest.approx(5 / 8, abs=0.05)


def test_what_is_drawn_is_what_sounds(fonts: Path) -> None:
    backend = opened(tones_map(*THREE), fonts)
    for seed in range(12):
        samples, sound = backend.render(one_note(), RATE, random.Random(seed))
        spectrum = np.abs(np.fft.rfft(samples[2000:12_000].mean(axis=1), RATE))
        assert spectrum.argmax() == pytest.approx({"Low": 220, "Middle": 440, "High": 880}[sound.preset], abs=5)


def test_what_no_entry_names_the_default_soundfont_plays(fonts: Path) -> None:
    backend = opened(tones_map(*THREE), fonts)
    assert drawn(backend, 1, one_note(73)).source == "TimGM6mb.sf2"
    drums = performance(load_song(midi_bytes(notes([36], channel=9))), 0)
    assert drawn(backend, 1, drums).source == "TimGM6mb.sf2"


def test_drums_can_be_named(fonts: Path) -> None:
    backend = opened(tones_map("{soundfont: tones}", names="Drums"), fonts)
    drums = performance(load_song(midi_bytes([program(8, channel=9), *notes([36], channel=9)])), 0)
    sound = drawn(backend, 1, drums)
    assert (sound.source, sound.bank, sound.program, sound.preset) == ("tones.sf2", 128, 0, "Kit")


def test_a_silent_soundfont_is_left_for_another_and_counted(fonts: Path) -> None:
    text = tones_map("{soundfont: tones, weight: 1000}", "{soundfont: packaged, weight: 0.001}", names="Drums")
    high = performance(load_song(midi_bytes(notes([75, 75], channel=9))), 0)  # above the keys that Kit has samples for
    sound = drawn(opened(text, fonts), 1, high)
    assert sound.source == "TimGM6mb.sf2"
    assert [(one.source, one.reason, one.count) for one in sound.redraws] == [("tones.sf2", "silent", 1)]


def test_keys_that_no_candidate_has_a_sample_for_stay_silent(fonts: Path) -> None:
    high = performance(load_song(midi_bytes(notes([75, 75], channel=9))), 0)
    played = opened(tones_map("{soundfont: tones}", names="Drums"), fonts).render(high, RATE, random.Random(1))
    assert not played.samples.any()
    assert played.sound.source == "tones.sf2"


def test_what_is_absent_is_said_and_its_weight_left_out(fonts: Path, tmp_path: Path) -> None:
    text = (
        tones_map(
            "{vst3: absent.vst3, weight: 1000}",
            "{soundfont: tones}",
            "{soundfont: tones, preset: {bank: 7, program: 7}}",
        )
        + "  - for: [Organ]\n    candidates: [{vst3: gone.vst3}]\n"
    )
    backend = opened(text, fonts, vst3_path=str(tmp_path))
    assert {drawn(backend, seed).source for seed in range(20)} == {"tones.sf2"}
    assert backend.faults() == [
        "instruments[0].candidates[0]: absent.vst3 is in the instrument map but not in the plugin folder",
        "instruments[0].candidates[2]: tones.sf2 has no preset 7:7",
        "instruments[1].candidates[0]: gone.vst3 is in the instrument map but not in the plugin folder",
        "instruments[1]: no candidate is left: the default SoundFont plays",
    ]
    assert drawn(backend, 1, one_note(16)).source == "TimGM6mb.sf2"


def test_a_soundfont_that_is_not_there_is_said(tmp_path: Path) -> None:
    backend = opened(tones_map("{soundfont: tones}"), tmp_path)
    assert [fault.split(":")[0] for fault in backend.faults()] == [
        "soundfonts.tones", "instruments[0].candidates[0]", "instruments[0]",
    ]  # fmt: skip
    without = open_backend(BackendConfig(instrument_map=tones_map("{soundfont: tones}")))
    assert "LUTHIER_SOUNDFONT_PATH, where tones.sf2 should be, is not set" in without.faults()[0]


def test_no_fault_says_where_files_are(tmp_path: Path) -> None:
    (tmp_path / "broken.sf2").mkdir()
    text = tones_map("{soundfont: tones}", "{soundfont: bad}").replace(
        "tones.sf2}", "tones.sf2}, bad: {path: broken.sf2}"
    )
    backend = opened(text, tmp_path)
    assert len(backend.faults()) >= 2
    assert not [fault for fault in backend.faults() if str(tmp_path) in fault]


def test_a_font_plays_only_what_it_has(fonts: Path) -> None:
    backend = opened(tones_map("{soundfont: tones}"), fonts)
    found = {one.program: one.preset for one in backend.playables()}
    assert found == {0: "Low", 1: "Middle", 2: "High"}
    assert drawn(backend, 1, one_note(3)).source == "TimGM6mb.sf2"


def test_licences_are_those_of_the_sounds_that_can_play(fonts: Path) -> None:
    with_licence = tones_map("{soundfont: tones}").replace("path: tones.sf2", "path: tones.sf2, licence: MIT")
    assert opened(with_licence, fonts).licences() == ["MIT", PACKAGED_LICENCE]
    own = {"soundfont": str(fonts / "tones.sf2")}
    assert opened(with_licence, fonts, **own).licences() == ["MIT", "unstated: tones.sf2 SoundFont"]
    stated = opened(with_licence, fonts, **own, soundfont_licence="CC0-1.0")
    assert stated.licences() == ["MIT", "tones.sf2 SoundFont: CC0-1.0"]


def test_another_map_is_another_action(fonts: Path) -> None:
    first, second = (opened(tones_map(*THREE, more=more), fonts).digests() for more in ("", "humanise: {velocity: 3}"))
    assert first != second
    assert first.keys() == second.keys() == {"soundfonts.tones", "soundfont", "instrument map"}


class Instruments:
    """Stands for the plugins of a folder: each draw of a plugin gives what its script says next."""

    def __init__(self, **scripts: list[str]) -> None:
        self.scripts, self.played = scripts, Counter[str]()

    def play(
        self, choice: PluginChoice, values: dict[str, float], performance: Performance, frames: int, _: Any = None
    ) -> PluginSound:
        name = choice.bundle.removesuffix(".vst3")
        reason = self.scripts[name][min(self.played[name], len(self.scripts[name]) - 1)]
        self.played[name] += 1
        if reason:
            raise Unusable(choice.name, reason)
        return PluginSound(np.ones((frames, 2), np.float32), 2.0, "")


def scripted(tmp_path: Path, candidates: list[str], **scripts: list[str]) -> MapBackend:
    for name in scripts:
        (tmp_path / f"{name}.vst3").touch()
    text = tones_map(*candidates)
    backend = open_backend(BackendConfig(soundfont_path="/", vst3_path=str(tmp_path), instrument_map=text))
    backend._plugins = Instruments(**scripts)  # type: ignore[assignment]
    return backend


VARYING = "parameters: {x: {uniform: [0, 1]}}"


def test_an_unusable_draw_is_drawn_again_and_counted_with_plugin_and_reason(tmp_path: Path) -> None:
    backend = scripted(tmp_path, [f"{{vst3: a.vst3, {VARYING}}}"], a=["clipped", "silent", ""])
    sound = drawn(backend, 1)
    assert sound.source == "a.vst3"
    assert {(one.source, one.reason): one.count for one in sound.redraws} == {
        ("a.vst3", "clipped"): 1, ("a.vst3", "silent"): 1,
    }  # fmt: skip


def test_a_candidate_that_fails_three_times_is_left_out(tmp_path: Path) -> None:
    candidates = [f"{{vst3: a.vst3, weight: 1000, {VARYING}}}", "{vst3: b.vst3, weight: 0.001}"]
    backend = scripted(tmp_path, candidates, a=["NaN or infinity"], b=[""])
    sound = drawn(backend, 1)
    assert sound.source == "b.vst3"
    assert [(one.source, one.count) for one in sound.redraws] == [("a.vst3", 3)]


def test_a_candidate_of_which_nothing_is_drawn_is_tried_once(tmp_path: Path) -> None:
    backend = scripted(
        tmp_path, ["{vst3: a.vst3, weight: 1000}", "{vst3: b.vst3, weight: 0.001}"], a=["silent"], b=[""]
    )
    assert [(one.source, one.count) for one in drawn(backend, 1).redraws] == [("a.vst3", 1)]


def test_eight_draws_are_all_and_what_failed_is_named(tmp_path: Path) -> None:
    candidates = [f"{{vst3: {name}.vst3, {VARYING}}}" for name in "abcd"]
    backend = scripted(tmp_path, candidates, a=["silent"], b=["clipped"], c=["silent"], d=["clipped"])
    with pytest.raises(BackendError, match="nothing could play Acoustic Grand Piano: ") as failed:
        drawn(backend, 1)
    assert sum(int(said[-3]) for said in str(failed.value).split(", ")) == 8


def test_effects_do_not_depend_on_how_often_an_instrument_was_drawn(tmp_path: Path) -> None:
    chain = "effects: [{reverb: {room_size: {uniform: [0, 1]}}}]"
    found = []
    for script in ([""], ["silent", "silent", ""]):
        backend = scripted(tmp_path, [f"{{vst3: a.vst3, {VARYING}, {chain}}}"], a=script)
        found.append([*drawn(backend, 5).effects])
    assert found[0] == found[1]
    assert found[0][0].values["damping"] == 0.5  # what the map does not name is recorded, too


# Whole songs


def rendered(
    backend: MapBackend, folder: Path, data: bytes = SONG, *, seed: int = 1, mix_only: bool = False
) -> RenderResult:
    folder.mkdir()
    return render_song(load_song(data), backend, RenderParameters("map", seed, mix_only=mix_only), folder)


def samples(stem: StemResult) -> Samples:
    assert stem.file
    return read_audio(stem.file)[0]


RANGES = (
    "effects: {Piano: [{distortion: {drive_db: {uniform: [3, 12]}}}, {reverb: {room_size: {uniform: [0.1, 0.5]}}}]}"
)


def test_a_stems_draws_do_not_depend_on_other_stems(fonts: Path, tmp_path: Path) -> None:
    backend = opened(tones_map(*THREE, more=RANGES), fonts)
    alone = midi_bytes([program(0), *notes([60, 64, 67, 72])])
    for seed in range(5):
        whole = rendered(backend, tmp_path / f"whole{seed}", seed=seed, mix_only=True).stems[0].sound
        single = rendered(backend, tmp_path / f"alone{seed}", alone, seed=seed, mix_only=True).stems[0].sound
        assert (whole.program, whole.effects[:]) == (single.program, single.effects[:])


def test_effects_work_on_a_stem_of_one_loudness_whatever_its_level_was(fonts: Path, tmp_path: Path) -> None:
    backend = opened(tones_map(THREE[0], more=RANGES), fonts)
    (stem,) = rendered(backend, tmp_path / "a", midi_bytes([program(0), *notes([60] * 4)])).stems
    plain = backend.render(
        performance(load_song(midi_bytes([program(0), *notes([60] * 4)])), 0), 5 * RATE, random.Random(1)
    )
    reached = integrated_loudness_lufs(plain.samples * stem.sound.effects_gain, RATE)
    assert reached == pytest.approx(EFFECTS_LUFS, abs=0.05)
    assert [effect.name for effect in stem.sound.effects] == ["distortion", "reverb"]


ROOM = "room: {reverb: {room_size: {uniform: [0.3, 0.9]}, wet_level: {uniform: [0.05, 0.2]}}}"


def test_stems_in_a_room_sum_to_the_mix(fonts: Path, tmp_path: Path) -> None:
    result = rendered(opened(tones_map(*THREE, more=ROOM), fonts), tmp_path / "a")
    total = np.sum([samples(stem).astype(np.float64) for stem in result.stems], axis=0)
    apart = total - read_audio(result.mix)[0]
    steps = (len(result.stems) + 1) / 2  # each file is rounded to 16 bit
    assert np.abs(apart).max() * 32_768 < steps + 1
    assert 20 * np.log10(np.sqrt(np.mean(apart**2))) < -90
    rooms = [stem.sound.room for stem in result.stems]
    assert rooms[0] == rooms[1] == rooms[2]
    assert 0.05 <= rooms[0].values["wet_level"] <= 0.2


def test_a_room_is_heard_and_is_the_same_without_stems(fonts: Path, tmp_path: Path) -> None:
    backend = opened(tones_map(*THREE, more=ROOM), fonts)
    with_stems, alone = (rendered(backend, tmp_path / str(only), mix_only=only) for only in (False, True))
    first, second = (read_audio(one.mix)[0] for one in (with_stems, alone))
    assert np.abs(first - second).max() <= 2 / 32_768
    dry = rendered(opened(tones_map(*THREE), fonts), tmp_path / "dry")
    assert np.abs(first - read_audio(dry.mix)[0]).max() > 0.01


# From the record


@contextmanager
def serving(tmp_path: Path, config: BackendConfig) -> Iterator[tuple[Rendering, Store]]:
    """A service with one worker."""
    with temp_store(tmp_path / "store") as store, Renderer(config) as renderer:
        workers, limits = renderer.workers, MidiLimits()
        yield Rendering(store, workers, workers, config, limits=limits, scratch=tmp_path, default_backend="map"), store


def plugins_map(candidate: str) -> str:
    return (
        f"instruments:\n  - for: [0]\n    candidates: [{{{candidate}}}]\n"
        + ROOM
        + "\nhumanise: {timing_ms: 8, velocity: 6}"
    )


DRAWN = "parameters: {muffling_filter: {uniform: [0.3, 0.9]}, hardness_offset: {log: [0.1, 0.9]}, stereo_width: 0.5}"
CHAIN = "effects: [{chorus: {rate_hz: {log: [0.2, 2]}}}, {compressor: {}}, {peak: {gain_db: {uniform: [-6, 6]}}}]"


@pytest.mark.parametrize(
    ("candidate", "plays"),
    [("soundfont: packaged, " + CHAIN, "TimGM6mb.sf2"), (f"{PIANO}, {DRAWN}, {CHAIN}", "mda Piano")],
)
def test_a_stem_is_rendered_again_bit_for_bit_from_its_record(candidate: str, plays: str, tmp_path: Path) -> None:
    config = BackendConfig(vst3_path=str(shared("vst3")), instrument_map=plugins_map(candidate))
    with serving(tmp_path, config) as (service, store):
        midi = store.blobs.put_bytes("midi", SONG, "mid")
        for seed in (1, 2, 3):
            song = service.RenderSong(pb.RenderSongRequest(midi=midi, seed=seed), Waiting())
            assert song.stems[0].sound.source == plays
            assert len(song.stems[0].sound.effects) == 3
            for stem in song.stems:
                assert stem.sound.repeatable
                again = service.RenderStem(pb.RenderStemRequest(midi=midi, sound=stem.sound), Waiting())
                assert again.audio.sha256 == stem.audio.sha256


def test_a_record_of_a_mix_makes_the_stem_that_was_never_written(tmp_path: Path) -> None:
    config = BackendConfig(vst3_path=str(shared("vst3")), instrument_map=plugins_map(f"{PIANO}, {DRAWN}"))
    with serving(tmp_path, config) as (service, store):
        midi = store.blobs.put_bytes("midi", SONG, "mid")
        mix = service.RenderSong(pb.RenderSongRequest(midi=midi, mix_only=True), Waiting())
        assert (len(mix.stems), len(mix.sounds)) == (0, 3)
        assert {sound.humanise_timing_ms for sound in mix.sounds} == {8.0}
        again = service.RenderStem(pb.RenderStemRequest(midi=midi, sound=mix.sounds[0]), Waiting())
        whole = service.RenderSong(pb.RenderSongRequest(midi=midi), Waiting())
        first, second = (read_audio(store.blobs.fetch(ref, tmp_path))[0] for ref in (again.audio, whole.stems[0].audio))
        assert np.abs(first - second).max() <= 2 / 32_768


def test_a_plugin_that_does_not_repeat_itself_is_recorded_so(tmp_path: Path) -> None:
    config = BackendConfig(vst3_path=str(shared("vst3")), instrument_map=plugins_map("vst3: Kars.vst3"))
    with serving(tmp_path, config) as (service, store):
        midi = store.blobs.put_bytes("midi", midi_bytes([program(0), *notes([60, 64])]), "mid")
        (stem,) = service.RenderSong(pb.RenderSongRequest(midi=midi), Waiting()).stems
        assert not stem.sound.repeatable
        assert stem.sound.not_repeatable.startswith("Kars.vst3 played one phrase twice and differed by up to")
        again = service.RenderStem(pb.RenderStemRequest(midi=midi, sound=stem.sound), Waiting())
        assert again.audio.sha256 != stem.audio.sha256


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"part": 3}, "sound.part"),
        ({"part": -1}, "sound.part"),
        ({"backend": "kazoo"}, "sound.backend"),
        ({"bank": 129}, "sound.bank"),
        ({"parameters": {"x": 1.1}}, "sound.parameters[x]"),
        ({"stem_gain": float("inf")}, "sound.stem_gain"),
        ({"mix_gain": -1.0}, "sound.mix_gain"),
        ({"humanise_timing_ms": 21.0}, "sound.humanise_timing_ms"),
        ({"effects": [{"name": "fuzz"}]}, "sound.effects[0]"),
        ({"room": {"name": "reverb"}}, "sound.room"),
    ],
)
def test_a_record_that_cannot_be_one_is_refused_by_field(tmp_path: Path, wrong: dict[str, Any], field: str) -> None:
    config = BackendConfig()
    with serving(tmp_path, config) as (service, store):
        midi = store.blobs.put_bytes("midi", SONG, "mid")
        usual: dict[str, Any] = {"backend": "soundfont", "stem_gain": 0.1, "mix_gain": 0.1}
        sound = pb.Sound(**(usual | wrong))
        with pytest.raises(InvalidRequest) as refused:
            service.RenderStem(pb.RenderStemRequest(midi=midi, sound=sound), Waiting())
        assert [violation[0] for violation in refused.value.violations] == [field]


def test_a_record_beyond_what_samples_can_hold_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path, BackendConfig()) as (service, store):
        midi = store.blobs.put_bytes("midi", SONG, "mid")
        sound = service.RenderSong(pb.RenderSongRequest(midi=midi, backend="soundfont"), Waiting()).stems[0].sound
        loud = pb.Effect(name="peak", values={"cutoff_frequency_hz": 440, "gain_db": 24, "q": 0.5})
        sound.effects.extend([loud] * 20)
        sound.effects_gain = sound.stem_gain = sound.mix_gain = 1e12
        with pytest.raises(InvalidRequest) as refused:
            service.RenderStem(pb.RenderStemRequest(midi=midi, sound=sound), Waiting())
        assert {violation[0].split(".")[0].split("[")[0] for violation in refused.value.violations} == {"sound"}


def test_an_instrument_that_is_not_here_is_named(tmp_path: Path) -> None:
    with serving(tmp_path, BackendConfig()) as (service, store):
        midi = store.blobs.put_bytes("midi", SONG, "mid")
        sound = pb.Sound(backend="vst3", source="mda Piano", digest="0" * 64, stem_gain=0.1, mix_gain=0.1)
        with pytest.raises(FailedPrecondition, match=f"mda Piano with the SHA-256 {'0' * 64} is not here") as refused:
            service.RenderStem(pb.RenderStemRequest(midi=midi, sound=sound), Waiting())
        assert refused.value.reason == "INSTRUMENT_UNKNOWN"


def test_a_request_has_the_last_word_on_humanising(tmp_path: Path, fonts: Path) -> None:
    text = tones_map(*THREE, more="humanise: {timing_ms: 8, velocity: 6}")
    with serving(tmp_path, BackendConfig(soundfont_path=str(fonts), instrument_map=text)) as (service, store):
        midi = store.blobs.put_bytes("midi", SONG, "mid")
        usual = service.RenderSong(pb.RenderSongRequest(midi=midi), Waiting())
        plain = service.RenderSong(
            pb.RenderSongRequest(midi=midi, humanise_timing_ms=0, humanise_velocity=0), Waiting()
        )
        other = service.RenderSong(pb.RenderSongRequest(midi=midi, backend="soundfont"), Waiting())
        assert [(one.humanise_timing_ms, one.humanise_velocity) for one in (usual, plain, other)] == [
            (8, 6),
            (0, 0),
            (0, 0),
        ]
        assert usual.mix.sha256 != plain.mix.sha256
        assert usual.timeline == plain.timeline == other.timeline


# Plugins


def default_of(plugin: str, parameter: str) -> float:
    """What a plugin starts with."""
    from pedalboard import VST3Plugin

    loaded: Any = VST3Plugin(str(shared("vst3") / "mda-vst3.vst3"), plugin_name=plugin)
    return float(loaded.parameters[parameter].raw_value)


@pytest.mark.parametrize(("plugin", "parameter"), [("mda Piano", "muffling_filter"), ("mda DX10", "mod_init")])
def test_a_plugin_sounds_by_its_parameters_not_by_what_was_drawn_before(plugin: str, parameter: str) -> None:
    """Also where a parameter comes back to the plugin's default, which pedalboard does not pass on by itself."""
    song, first = performance(load_song(midi_bytes([program(4), *notes([60, 64])])), 0), dict[float, Samples]()
    choice, plugins, usual = (
        PluginChoice("mda-vst3.vst3", plugin),
        Plugins(shared("vst3")),
        default_of(plugin, parameter),
    )
    for value in (0.9, usual, 0.2, 0.9, usual, 0.2):
        played = plugins.play(choice, {parameter: value}, song, 2 * RATE, 2.0).samples
        fresh = Plugins(shared("vst3")).play(choice, {parameter: value}, song, 2 * RATE, 2.0).samples
        assert np.array_equal(played, fresh)
        assert np.array_equal(played, first.setdefault(value, played))
    assert len({one.tobytes() for one in first.values()}) == 3


def test_a_preset_is_heard_and_its_parameters_can_be_drawn(tmp_path: Path) -> None:
    from pedalboard import VST3Plugin

    bundle = shared("vst3") / "mda-vst3.vst3"
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / bundle.name).symlink_to(bundle)
    maker: Any = VST3Plugin(str(bundle), plugin_name="mda Piano")
    maker.parameters["muffling_filter"].raw_value = 0.1
    maker([], duration=0.2, sample_rate=RATE, num_channels=2, reset=False)
    (plugins / "dull.vstpreset").write_bytes(maker.preset_data)

    song = performance(load_song(midi_bytes([program(0), *notes([60, 64])])), 0)

    def play(preset: str, **values: float) -> bytes:
        choice = PluginChoice(bundle.name, "mda Piano", preset)
        return Plugins(plugins).play(choice, values, song, 2 * RATE, 2.0).samples.tobytes()

    usual = default_of("mda Piano", "muffling_filter")
    assert play("dull.vstpreset") == play("", muffling_filter=0.1) != play("")
    assert play("dull.vstpreset", muffling_filter=usual) == play("", muffling_filter=usual) == play("")


@pytest.mark.parametrize("data", [b"", b"garbage", b"VST3" + bytes(100)])
def test_a_preset_that_is_none_is_refused_by_name(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "mda-vst3.vst3").symlink_to(shared("vst3") / "mda-vst3.vst3")
    (tmp_path / "bad.vstpreset").write_bytes(data)
    song = performance(load_song(midi_bytes([program(0), *notes([60])])), 0)
    choice = PluginChoice("mda-vst3.vst3", "mda Piano", "bad.vstpreset")
    with pytest.raises(BackendError, match=r"mda Piano did not take the preset bad\.vstpreset"):
        Plugins(tmp_path).play(choice, {}, song, RATE, 2.0)


def test_a_silent_draw_of_a_real_plugin_is_drawn_again(tmp_path: Path) -> None:
    text = plugins_map("vst3: Nekobi.vst3, parameters: {volume: {choice: [0, 0.75, 0.75]}}")
    config = BackendConfig(vst3_path=str(shared("vst3")), instrument_map=text)
    with serving(tmp_path, config) as (service, store):
        midi = store.blobs.put_bytes("midi", midi_bytes([program(0), *notes([40, 43])]), "mid")
        sounds = [
            service.RenderSong(pb.RenderSongRequest(midi=midi, seed=seed, mix_only=True), Waiting()).sounds[0]
            for seed in range(8)
        ]
    assert {sound.parameters["volume"] for sound in sounds} == {0.75}
    again = [one for sound in sounds for one in sound.redraws]
    assert again
    assert {(one.source, one.reason) for one in again} == {("Nekobi.vst3", "silent")}


# At start


def settings(tmp_path: Path, text: str, **more: Any) -> RenderingSettings:
    (tmp_path / "map.yaml").write_text(text)
    return RenderingSettings(
        address="127.0.0.1:0", slots=1, store_folder=tmp_path / "store", scratch=tmp_path,
        instrument_map=str(tmp_path / "map.yaml"), backend="map", **more,
    )  # fmt: skip


def test_a_soundfont_of_the_store_is_fetched_at_start(tmp_path: Path) -> None:
    with temp_store(tmp_path / "store") as store:
        ref = store.blobs.put_bytes("soundfonts", soundfont_bytes(TONES), "sf2")
    text = tones_map("{soundfont: tones}").replace("path: tones.sf2", f"artifact: {ref.key}")
    own = settings(tmp_path, text)
    build(own)
    backend = open_backend(own.backends)
    assert backend.faults() == []
    assert drawn(backend, 1).digest == ref.sha256


def test_a_soundfont_that_the_store_does_not_have_stops_the_service(tmp_path: Path) -> None:
    text = tones_map("{soundfont: tones}").replace("path: tones.sf2", f"artifact: soundfonts/{'0' * 64}.sf2")
    with pytest.raises(SettingsError, match=f"soundfonts/{'0' * 64}.sf2"):
        build(settings(tmp_path, text))


def test_a_map_with_faults_stops_the_service_and_all_are_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"(?s)line 1: instruments\[0\]: candidates is missing.*line 1: .*for\[0\]"):
        build(settings(tmp_path, "instruments: [{for: [Kazoo]}]"))


def test_what_was_measured_of_a_choice_does_not_depend_on_what_was_played_before() -> None:
    soft, hard = (
        PluginChoice("mda-vst3.vst3", "mda Piano", "", {"velocity_sensitivity": Range("uniform", values)})
        for values in ((0.0, 0.2), (0.8, 1.0))
    )
    found = []
    for order in ((soft, hard), (hard, soft)):
        plugins = Plugins(shared("vst3"))
        heard = {one: plugins.play(order[one], {"velocity_sensitivity": 0.5}, one_note(), RATE) for one in (0, 1)}
        exponents = [heard[order.index(choice)].velocity_exponent for choice in (soft, hard)]
        found.append(exponents)
    assert found[0] == found[1]
    assert found[0][0] < found[0][1]
