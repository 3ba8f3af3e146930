"""VST3 instruments in the real plugin host: played by the map, isolated, reproducible, and replaced when they fail."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from luthier.rendering.v1 import rendering_pb2 as pb
from luthier_kit.rpc import DeadlineExceeded, FailedPrecondition, QuotaExceeded
from luthier_kit.store import Store
from luthier_music.audio import read_audio
from luthier_rendering.backends import strip
from luthier_rendering.backends.base import BackendConfig, BackendError
from luthier_rendering.backends.mapped import open_backend
from luthier_rendering.backends.strip import Bend, apply_gains
from luthier_rendering.backends.vst3 import pan_gains, unusable, velocities
from luthier_rendering.midi import load_song
from luthier_rendering.performance import Message, performance
from luthier_rendering.render import RenderResult, StemResult
from luthier_rendering.service import Rendering
from luthier_rendering.smf import BEND, MidiLimits
from tests.support.services import require_tool, shared, temp_store

from .in_workers import Renderer, Waiting
from .midi_making import bend, control, midi_bytes, note, notes, program

SONG = midi_bytes([program(0), *notes([60, 64, 67])], notes([36, 38, 36], channel=9), [program(73), *notes([72] * 3)])
CRASHER = """
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
int ModuleEntry(void *handle) { (void)handle; %s; return 1; }
int ModuleExit(void) { return 1; }
void *GetPluginFactory(void) { %s; return 0; }
"""


@pytest.fixture(scope="module")
def real() -> Iterator[Renderer]:
    """One worker with the real plugins and the packaged map."""
    with Renderer(BackendConfig(vst3_path=str(shared("vst3")))) as renderer:
        yield renderer


def render(renderer: Renderer, folder: Path, data: bytes, call: Waiting | None = None) -> RenderResult:
    return renderer.render(folder, data, backend="map", call=call)


def samples(stem: StemResult) -> np.ndarray:
    assert stem.file
    return read_audio(stem.file)[0]


def test_the_map_decides_who_plays_and_drums_stay_with_the_soundfont(real: Renderer, tmp_path: Path) -> None:
    result = render(real, tmp_path / "a", SONG)
    assert {stem.part: stem.source for stem in result.stems} == {0: "mda Piano", 1: "soundfont", 2: "soundfont"}
    for stem in result.stems:
        assert np.abs(samples(stem)[: 44_100 // 2]).max() > 0.01


def test_nothing_leaks_from_one_song_to_the_next(real: Renderer, tmp_path: Path) -> None:
    loud = midi_bytes([program(0), control(1, 127), *notes([30, 31, 90, 91] * 4)])
    render(real, tmp_path / "a", SONG)
    render(real, tmp_path / "b", loud)
    render(real, tmp_path / "c", SONG)
    assert (tmp_path / "a/mix.flac").read_bytes() == (tmp_path / "c/mix.flac").read_bytes()


def test_a_plugin_with_two_thousand_controller_parameters_loads_in_seconds(real: Renderer, tmp_path: Path) -> None:
    result = render(real, tmp_path / "bass", midi_bytes([program(38), *notes([36, 40])]), Waiting(left_s=20))
    assert result.stems[0].source == "Nekobi.vst3"


def test_a_mono_instrument_sounds_on_both_sides(real: Renderer, tmp_path: Path) -> None:
    result = render(real, tmp_path / "guitar", midi_bytes([program(24), *notes([60, 64])]))
    guitar = samples(result.stems[0])
    assert result.stems[0].source == "Kars.vst3"
    assert np.array_equal(guitar[:, 0], guitar[:, 1])


def test_parameters_of_the_map_are_heard(tmp_path: Path) -> None:
    entries = [entry(n, plugin="mda Piano", parameters={"envelope_decay": float(n)}) for n in (0, 1)]
    mixes = []
    with _renderer(shared("vst3"), entries) as renderer:
        for number in (0, 1, 0):
            result = render(renderer, tmp_path / "a", midi_bytes([program(number), *notes([60, 64])]))
            mixes.append(result.mix.read_bytes())
    assert mixes[0] == mixes[2] != mixes[1]


def test_a_real_plugin_that_plays_nan_is_drawn_again(tmp_path: Path) -> None:
    """mda JX10 does for a loud chord, its second oscillator two octaves up. Of the instruments here it is the only one
    that did in 120 draws of all its parameters, and none clipped: they go beyond full scale instead.
    """
    parameters: dict[str, Any] = {"osc_tune": 1.0, "gld_bend": 1.0, "vcf_vel": 1.0, "octave": {"choice": [0.5, 1.0]}}
    jx10 = {"vst3": "mda-vst3.vst3", "plugin": "mda JX10", "parameters": parameters}
    chord = [message for pitch in (72, 76, 79, 84) for message in note(pitch, velocity=127)]
    parts = [[program(number), *(message.copy(channel=number) for message in chord)] for number in range(4)]
    for number, part in enumerate(parts):
        part[0] = part[0].copy(channel=number)
    with _renderer(
        shared("vst3"), [{"for": [0, 1, 2, 3], "candidates": [jx10, {"soundfont": "default", "weight": 0.01}]}]
    ) as renderer:
        stems = render(renderer, tmp_path / "a", midi_bytes(*parts)).stems
    redraws = [(one.source, one.reason) for stem in stems for one in stem.sound.redraws]
    assert set(redraws) == {("mda JX10", "NaN or infinity")}
    assert all(stem.sound.parameters["octave"] == 0.5 for stem in stems if stem.source == "mda JX10")
    assert {stem.source for stem in stems} >= {"mda JX10"}
    assert all(np.isfinite(samples(stem)).all() and np.abs(samples(stem)).max() > 0.01 for stem in stems)


@pytest.mark.parametrize(
    ("candidate", "message"),
    [
        ({"plugin": "mda Leslie"}, "an effect, not an instrument"),
        ({"plugin": "no such"}, "no such cannot be loaded"),
        ({"plugin": "mda Piano", "parameters": {"nope": 0.5}}, "no parameter nope"),
    ],
)
def test_a_plugin_that_cannot_play_is_named(candidate: dict[str, Any], message: str, tmp_path: Path) -> None:
    with (
        _renderer(shared("vst3"), [entry(0, **candidate)]) as renderer,
        pytest.raises(FailedPrecondition, match=message) as failure,
    ):
        render(renderer, tmp_path / "a", SONG)
    assert failure.value.reason == "INSTRUMENT_FAILED"


@pytest.mark.parametrize(
    ("code", "how"),
    [("*(volatile int *)0 = 1", "signal SIGSEGV"), ("_exit(3)", "exit code 3"), ("_exit(0)", "exit code 0")],
)
def test_a_plugin_that_crashes_fails_its_song_and_is_named(code: str, how: str, tmp_path: Path) -> None:
    with (
        _renderer(_bundle(tmp_path, code), [EVIL]) as renderer,
        pytest.raises(FailedPrecondition, match=f"{how} while playing Acoustic Grand Piano") as failure,
    ):
        render(renderer, tmp_path / "a", SONG)
    assert failure.value.reason == "RENDERER_CRASHED"


Misbehaving = Callable[[str], tuple[Rendering, Store, pb.RenderSongRequest]]


@pytest.fixture
def misbehaving(tmp_path: Path) -> Iterator[Misbehaving]:
    """A service whose one plugin runs the given code, its store, and a request for a song that it plays."""
    with temp_store(tmp_path / "store") as store, ExitStack() as opened:

        def make(code: str) -> tuple[Rendering, Store, pb.RenderSongRequest]:
            renderer = opened.enter_context(_renderer(_bundle(tmp_path, code), [EVIL]))
            service = Rendering(
                store,
                renderer.workers,
                renderer.workers,
                renderer.config,
                limits=MidiLimits(),
                scratch=tmp_path,
                default_backend="map",
            )
            midi = store.blobs.put_bytes("midi", SONG, "mid")
            return service, store, pb.RenderSongRequest(midi=midi, mix_only=True)

        yield make


def test_a_song_that_kills_one_worker_after_another_is_refused_for_good(misbehaving: Misbehaving) -> None:
    service, _, request = misbehaving("_exit(3)")
    with pytest.raises(FailedPrecondition, match=r"3 worker processes in a row .* exit code 3") as refused:
        service.RenderSong(request, Waiting())
    assert refused.value.reason == "RENDERER_CRASHED"
    service._workers.close()  # by the record: no worker can be asked any more
    with pytest.raises(FailedPrecondition) as remembered:
        service.RenderSong(request, Waiting())
    assert str(remembered.value) == str(refused.value)


def test_a_song_whose_workers_are_killed_may_be_asked_for_again(misbehaving: Misbehaving) -> None:
    service, store, request = misbehaving("kill(getpid(), 9)")
    with pytest.raises(QuotaExceeded, match=r"3 worker processes in a row .* signal SIGKILL") as killed:
        service.RenderSong(request, Waiting())
    assert killed.value.reason == "RENDERER_KILLED"
    assert not list(store.objects.keys("actions/"))


def test_a_worker_that_died_once_costs_a_second_try_and_no_verdict(misbehaving: Misbehaving, tmp_path: Path) -> None:
    died = tmp_path / "died"
    service, _, request = misbehaving(f'if (access("{died}", 0)) {{ close(creat("{died}", 0600)); abort(); }}')
    with pytest.raises(FailedPrecondition) as failure:  # a bundle without a factory: what is played is not the claim
        service.RenderSong(request, Waiting())
    assert died.exists()
    assert failure.value.reason == "INSTRUMENT_FAILED"


def test_a_plugin_that_hangs_and_floods_costs_one_song_and_the_next_plays(tmp_path: Path) -> None:
    flood = r'for (;;) { (void)!write(1, "noise\n", 6); (void)!write(2, "noise\n", 6); }'
    with _renderer(_bundle(tmp_path, flood), [EVIL]) as renderer:
        with pytest.raises(DeadlineExceeded, match="while playing Acoustic Grand Piano") as failure:
            render(renderer, tmp_path / "a", SONG, Waiting(left_s=3.0))
        assert failure.value.reason == "RENDER_TOO_SLOW"
        flute = render(renderer, tmp_path / "b", midi_bytes([program(73), *notes([72])]))
        assert flute.mix.exists()


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="does not exist"):
        open_backend(BackendConfig(vst3_path=str(tmp_path / "absent")))


@pytest.mark.parametrize(
    ("played", "reason"),
    [
        ([[0.0, 0.0, 0.0, 0.0, 0.0]], "silent"),
        ([[0.1, np.nan, 0.1, 0.0, 0.0]], "NaN or infinity"),
        ([[0.1, -np.inf, 0.1, 0.0, 0.0]], "NaN or infinity"),
        ([[0.2, 1.0, 1.0, 1.0, 1.0]], "clipped"),
        ([[0.0, 0.0, 0.0, 0.0, 0.0], [-1.5, -1.5, -1.5, -1.5, 0.3]], "clipped"),
        ([[0.2, 1.0, 1.0, 1.0, 0.9]], ""),
        ([[0.9, 0.9, 0.9, 0.9, 0.9]], ""),
        ([[1.4, 0.2, 1.4, 1.4, 1.4]], ""),
    ],
)
def test_silence_nan_and_what_is_cut_off_at_the_top_are_no_sound(played: list[list[float]], reason: str) -> None:
    assert unusable(np.array(played, np.float32)) == reason


def test_the_channel_strip_plays_volume_expression_and_pan() -> None:
    moves = [control(7, 50, 0.5), control(10, 127, 1), control(11, 0, 1.5)]
    played = performance(load_song(midi_bytes([*moves, *notes([60] * 2)])), 0)
    gains = apply_gains(np.ones((44_100, 2), np.float32), pan_gains(played))
    assert gains[5000] == pytest.approx([(100 / 127) ** 2] * 2, abs=0.01)
    assert gains[20_000] == pytest.approx([(50 / 127) ** 2] * 2, abs=0.01)
    assert gains[30_000] == pytest.approx([0, (50 / 127) ** 2 * 2**0.5], abs=0.01)
    assert gains[40_000] == pytest.approx([0, 0], abs=1e-6)
    assert np.abs(np.diff(gains[300:], axis=0)).max() < 0.02


@pytest.mark.parametrize("number", [0, 4, 11, 24, 38, 88])
def test_a_bend_is_heard_on_every_plugin(real: Renderer, tmp_path: Path, number: int) -> None:
    spectra = []
    for folder, moves in (("straight", []), ("bent", [bend(8191)])):
        (stem,) = render(real, tmp_path / folder, midi_bytes([program(number), *moves, *notes([60], beats=4)])).stems
        assert stem.source != "soundfont"
        spectra.append(_spectrum_by_cents(samples(stem)[8_820:61_740].mean(axis=1)))
    shifts = np.arange(-400, 401, 5)
    likeness = [np.dot(spectra[0], np.roll(spectra[1], -shift)) for shift in shifts]
    assert shifts[int(np.argmax(likeness))] == pytest.approx(200, abs=5)


@pytest.mark.parametrize("number", [0, 4, 11, 24, 38])
def test_no_note_and_no_note_off_is_lost_wherever_it_lies_in_a_buffer(
    real: Renderer, tmp_path: Path, number: int
) -> None:
    """Notes on every frame of a buffer, some 46 ms long and a quarter of a second apart."""
    every = 12_113  # frames, one more than a multiple of 16
    ticks = 44_100 // 2  # a tick is a frame
    strikes = [event for i in range(48) for event in note(60, i * every / ticks, 2048 / ticks, ticks=ticks)]
    data = midi_bytes([program(number), *strikes], ticks_per_beat=ticks)
    (stem,) = render(real, tmp_path / "a", data).stems
    sound = samples(stem).astype(float)
    heard = [float(np.mean(sound[i * every : i * every + 2048] ** 2)) for i in range(48)]
    assert min(heard) > np.median(heard) / 30
    rests = [float(np.mean(sound[i * every + 10_000 : i * every + 12_000] ** 2)) for i in range(48)]
    assert max(rests) < 30 * np.median(rests) + 1e-9


@pytest.mark.parametrize("number", [0, 4, 11, 24, 38, 88])
def test_a_song_begins_with_its_own_first_note_alone(real: Renderer, tmp_path: Path, number: int) -> None:
    """The same soft note at 0.5 s and at 10 s, on a key that is no middle C."""
    strikes = [*note(67, 1, 1, velocity=50), *note(67, 20, 1, velocity=50)]
    (stem,) = render(real, tmp_path / "a", midi_bytes([program(number), *strikes])).stems
    sound = samples(stem).astype(float)
    assert not sound[: 22_050 - 512].any()
    first, second = (10 * np.log10(np.mean(sound[start : start + 22_050] ** 2)) for start in (22_050, 441_000))
    bound_db = {24: 20, 88: 2}.get(number, 0.5)  # Kars plucks by chance, with 3.6 dB of deviation; JX10 drifts
    assert first == pytest.approx(second, abs=bound_db)


@pytest.mark.parametrize(("number", "within_db"), [(0, 2), (4, 2), (11, 4), (88, 4)])
def test_velocity_follows_40_log10_on_plugins_that_heed_it(
    real: Renderer, tmp_path: Path, number: int, within_db: float
) -> None:
    played = [program(number)]
    for place, velocity in enumerate((40, 64, 100)):
        played += [event for pitch in (55, 62) for event in note(pitch, place * 8, velocity=velocity)]
    (stem,) = render(real, tmp_path / "a", midi_bytes(played)).stems
    sound = samples(stem).astype(float)
    levels = [10 * np.log10(np.mean(sound[start : start + 22_050] ** 2)) for start in range(0, 3 * 176_400, 176_400)]
    falls = [level - levels[-1] for level in levels]
    assert falls == pytest.approx([40 * np.log10(velocity / 100) for velocity in (40, 64, 100)], abs=within_db)


def test_a_bend_is_read_in_pieces_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    played = np.random.default_rng(3).normal(size=(400_000, 2)).astype(np.float32)
    bent = Bend([Message(0.5, BEND, 0, 0, 7.0), Message(1.5, BEND, 0, 0, -12.0), Message(2.0, BEND, 0, 0, 24.0)])
    whole = bent.read(played, 150_000)
    monkeypatch.setattr(strip, "_PIECE_FRAMES", 10_007)
    assert np.abs(bent.read(played, 150_000) - whole).max() < 1e-4


def test_no_bend_asks_a_plugin_for_more_than_four_times_the_music() -> None:
    widest = [control(101, 0), control(100, 0), control(6, 127), bend(8191, 1), *note(60, 1, 4)]
    bent = Bend(performance(load_song(midi_bytes(widest)), 0).messages)
    assert bent.warped_s(np.array([2.5]))[0] == pytest.approx(0.5 + 2 * 4)


@pytest.mark.parametrize(
    ("exponent", "sent"), [(2.0, [1, 64, 127]), (1.0, [1, 32, 127]), (4.0, [11, 90, 127]), (0.1, [1, 64, 127])]
)
def test_velocities_are_bent_to_the_square_where_a_plugin_heeds_them(exponent: float, sent: list[int]) -> None:
    assert [velocities(exponent)[velocity] for velocity in (1, 64, 127)] == sent
    assert velocities(exponent)[0] == 0


def _spectrum_by_cents(sound: np.ndarray) -> np.ndarray:
    """Log magnitudes from 100 Hz on, one for each cent of six octaves, their mean taken off."""
    magnitudes = np.abs(np.fft.rfft(sound * np.hanning(sound.size), 1 << 20))
    cents = 100 * 2 ** (np.arange(7200) / 1200)
    logs: np.ndarray = np.log(np.interp(cents, np.arange(magnitudes.size) * 44_100 / (1 << 20), magnitudes) + 1e-3)
    logs -= logs.mean()
    return logs


def _bundle(folder: Path, code: str) -> Path:
    """A real shared library that misbehaves as soon as the host enters it."""
    compiler = require_tool("cc")
    inside = folder / "plugins" / "Evil.vst3" / "Contents" / "x86_64-linux"
    inside.mkdir(parents=True)
    (folder / "evil.c").write_text(CRASHER % (code, code))
    subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", inside / "Evil.so", folder / "evil.c"], check=True)
    return folder / "plugins"


def entry(program_number: int, *, vst3: str = "mda-vst3.vst3", **candidate: Any) -> dict[str, Any]:
    """An entry of a map with one candidate."""
    return {"for": [program_number], "candidates": [{"vst3": vst3, **candidate}]}


EVIL = entry(0, vst3="Evil.vst3")


def _renderer(plugins: Path, entries: list[dict[str, Any]]) -> Renderer:
    return Renderer(BackendConfig(vst3_path=str(plugins), instrument_map=json.dumps({"instruments": entries})))
