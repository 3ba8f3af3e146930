"""A whole song: levels, sums, silence, and the same again for the same seed."""

import hashlib
from pathlib import Path

import mido
import numpy as np
import pytest

from luthier_kit.rpc import InvalidRequest, QuotaExceeded
from luthier_music.audio import audio_info, peak, read_audio
from luthier_music.loudness import Measured, integrated_loudness_lufs
from luthier_rendering.backends.base import BackendConfig
from luthier_rendering.backends.soundfont import SoundFontBackend
from luthier_rendering.midi import load_song
from luthier_rendering.render import (
    Levels,
    RenderParameters,
    RenderResult,
    StemResult,
    gain_to,
    level,
    linear_to_db,
    render_file,
    render_song,
    stem_targets_lufs,
)
from luthier_rendering.smf import MidiLimits
from luthier_rendering.timeline import TAIL_S

from .midi_making import BEAT_S, control, midi_bytes, notes, program

SONG = [
    [program(48), *notes([60, 64, 67, 72] * 2)],
    [program(33, channel=1), *notes([36, 40, 43, 48] * 2, channel=1)],
    notes([36, 42, 38, 42] * 2, channel=9),
]


def rendered(
    scratch: Path,
    soundfont: SoundFontBackend,
    tracks: list[list[mido.Message]],
    *,
    seed: int = 1,
    mix_only: bool = False,
    **levels: float,
) -> RenderResult:
    data = midi_bytes(*tracks)
    parameters = RenderParameters("soundfont", seed, Levels(**levels), mix_only)
    return render_song(load_song(data), soundfont, parameters, scratch)


def samples(stem: StemResult) -> np.ndarray:
    assert stem.file
    return read_audio(stem.file)[0]


def loudness(path: Path) -> float:
    return integrated_loudness_lufs(*read_audio(path))


def test_mix_and_stems_are_stereo_flac_of_the_musics_length_and_its_tail(
    scratch: Path, soundfont: SoundFontBackend
) -> None:
    result = rendered(scratch, soundfont, SONG)
    files = [result.mix, *(stem.file for stem in result.stems if stem.file)]
    assert len(files) == 4
    for file in files:
        info = audio_info(file)
        assert (info.format, info.channels, info.sample_rate_hz, info.subtype) == ("FLAC", 2, 44_100, "PCM_16")
        assert info.duration_s == pytest.approx(8 * BEAT_S + TAIL_S, abs=1e-4)


def test_stems_sum_to_the_mix(scratch: Path, soundfont: SoundFontBackend) -> None:
    result = rendered(scratch, soundfont, SONG)
    total = np.sum([samples(stem) for stem in result.stems], axis=0)
    mix, _ = read_audio(result.mix)
    assert peak(total - mix) < (len(result.stems) + 1) / 32768


def test_the_mix_reaches_the_loudness_that_was_asked_for(scratch: Path, soundfont: SoundFontBackend) -> None:
    result = rendered(scratch, soundfont, SONG, mix_loudness_lufs=-23.0)
    assert result.mix_loudness_lufs == pytest.approx(-23.0, abs=0.05)
    assert loudness(result.mix) == pytest.approx(-23.0, abs=0.2)


def test_stems_differ_in_loudness_as_drawn(scratch: Path, soundfont: SoundFontBackend) -> None:
    result = rendered(scratch, soundfont, SONG, stem_loudness_lufs=-30.0, stem_jitter_db=6.0, mix_loudness_lufs=-25.0)
    targets = stem_targets_lufs(Levels(stem_loudness_lufs=-30.0, stem_jitter_db=6.0), 3, seed=1)
    apart = [(stem.loudness_lufs or 0.0) - targets[stem.part] for stem in result.stems]
    assert apart == pytest.approx([apart[0]] * 3, abs=0.05)
    for stem in result.stems:
        assert integrated_loudness_lufs(samples(stem), 44_100) == pytest.approx(stem.loudness_lufs, abs=0.3)


def test_peaks_stay_below_the_ceiling_and_the_result_says_what_was_reached(
    scratch: Path, soundfont: SoundFontBackend
) -> None:
    result = rendered(scratch, soundfont, [SONG[2]], mix_loudness_lufs=-6.0)
    mix, _ = read_audio(result.mix)
    assert linear_to_db(peak(mix)) == pytest.approx(-1.0, abs=0.01)
    assert result.mix_peak_dbfs == pytest.approx(-1.0, abs=1e-6)
    assert result.mix_loudness_lufs < -6.0
    assert loudness(result.mix) == pytest.approx(result.mix_loudness_lufs, abs=0.3)


def test_a_part_at_volume_0_has_no_stem(scratch: Path, soundfont: SoundFontBackend) -> None:
    mute = [control(7, 0, channel=2), *notes([60, 62], channel=2)]
    result = rendered(scratch, soundfont, [*SONG, mute])
    assert [stem.part for stem in result.stems] == [0, 1, 2]


def test_what_has_no_sample_is_not_named(tmp_path: Path) -> None:
    """Key 10 of a drum kit is silent in the packaged SoundFont."""
    midi, out = tmp_path / "song.mid", tmp_path / "out"
    out.mkdir()
    midi.write_bytes(midi_bytes(notes([60, 62]), notes([10, 10], channel=9)))
    done = render_file(midi, MidiLimits(), BackendConfig(), RenderParameters("soundfont", seed=1), out)
    assert [stem.loudness_lufs is None for stem in done.result.stems] == [False, True]
    assert [who.instrument for who in done.facts.timeline.instruments] == ["Acoustic Grand Piano"]
    assert [len(activity.spans) for activity in done.activities] == [1, 0]
    assert sum(bar.onsets for bar in done.facts.timeline.bars) == 2


def test_a_full_disk_is_answered_as_one(tmp_path: Path) -> None:
    midi, out = tmp_path / "song.mid", tmp_path / "out"
    out.mkdir()
    midi.write_bytes(midi_bytes(*SONG))
    (out / "mix.flac").symlink_to("/dev/full")
    with pytest.raises(QuotaExceeded) as failure:
        render_file(midi, MidiLimits(), BackendConfig(), RenderParameters("soundfont", seed=1), out)
    assert failure.value.reason == "SCRATCH_FULL"


@pytest.mark.parametrize("volume", [1, 20, 21, 100, 127])
def test_a_low_volume_is_levelled_as_any(scratch: Path, soundfont: SoundFontBackend, volume: int) -> None:
    strings = [control(7, volume), *SONG[0]]
    result = rendered(scratch, soundfont, [strings, SONG[1]], stem_jitter_db=0.0, mix_loudness_lufs=-24.0)
    first, second = (stem.loudness_lufs or -np.inf for stem in result.stems)
    assert first == pytest.approx(second, abs=0.05)
    assert integrated_loudness_lufs(samples(result.stems[0]), 44_100) == pytest.approx(first, abs=0.1)


def test_a_song_without_a_sound_is_refused(scratch: Path, soundfont: SoundFontBackend) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        rendered(scratch, soundfont, [[control(7, 0), *notes([60, 62])]])
    assert refusal.value.reason == "MIDI_SILENT"


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_balance(
    tmp_path: Path, soundfont: SoundFontBackend
) -> None:
    mixes = []
    for number, seed in enumerate((5, 5, 6)):
        folder = tmp_path / str(number)
        folder.mkdir()
        result = rendered(folder, soundfont, SONG, seed=seed)
        mixes.append((folder / result.mix).read_bytes())
    assert mixes[0] == mixes[1] != mixes[2]


def test_a_render_of_which_nothing_is_drawn_is_what_it_was_before_sounds_could_be_drawn(
    scratch: Path, soundfont: SoundFontBackend
) -> None:
    """The samples of the mix as the version before the instrument map wrote them (render 4)."""
    mix, _ = read_audio(rendered(scratch, soundfont, SONG).mix)
    digest = hashlib.sha256((mix * 32_768).astype("<i2").tobytes()).hexdigest()
    assert digest == "ba8692244f502c9c84649891c7f21f3915ba0689d24d6fce6977b59e1cea5d31"


def test_mix_only_leaves_no_stems_behind(scratch: Path, soundfont: SoundFontBackend) -> None:
    result = rendered(scratch, soundfont, SONG, mix_only=True)
    assert [path.name for path in scratch.iterdir()] == ["mix.flac"]
    assert [stem.file for stem in result.stems] == [None, None, None]


def test_stems_come_in_order_of_their_first_note_and_leave_no_scratch(
    scratch: Path, soundfont: SoundFontBackend
) -> None:
    late = [program(0), *[m.copy(time=m.time + 960) for m in notes([60])]]
    result = rendered(scratch, soundfont, [late, *SONG])
    assert [stem.part for stem in result.stems] == [1, 2, 3, 0]
    assert {path.suffix for path in scratch.iterdir()} == {".flac"}


def test_targets_are_drawn_within_the_jitter_around_the_mean() -> None:
    targets = stem_targets_lufs(Levels(stem_loudness_lufs=-20.0, stem_jitter_db=4.0), 500, seed=9)
    assert -24.0 <= min(targets) < -23.0
    assert -17.0 < max(targets) <= -16.0
    assert np.mean(targets) == pytest.approx(-20.0, abs=0.5)


def test_all_64_bits_of_a_seed_count() -> None:
    seeds = [1, 2**32 + 1, 2**53 + 1, 2**63 + 1, 2**64 - 1]
    assert len({tuple(stem_targets_lufs(Levels(), 3, seed)) for seed in seeds}) == len(seeds)


def test_silence_is_never_amplified() -> None:
    assert gain_to(-np.inf, -16.0, 0.0) == 1.0
    assert level(Measured(np.zeros(100), 0.0), -16.0) == (1.0, -np.inf)
