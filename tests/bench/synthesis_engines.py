"""Synthesis engines that Python has, side by side: cost on real songs, and truth on notes whose sound is known.

    cd services/rendering
    uv run --frozen --with pyfluidsynth==1.4.0 --with symusic==0.5.8 \
        python ../../tests/bench/synthesis_engines.py SONG.mid...

An engine that is not there is left out by name: pyfluidsynth finds the system's libfluidsynth (Debian's
`libfluidsynth3`). `rendering` is what the service makes of TinySoundFont: its own reader, one part at a time, steps of
64 frames, velocity and pedals as it sends them. `tinysoundfont`, `fluidsynth` and `symusic` play a file whole, all
channels at once, without reverb and chorus; the first two get each message at the frame that mido says. Reading is not
counted, but for symusic, whose renderer takes a score. The songs are played by the engines in turn, each time in a new
process; the least CPU time and memory of the turns is printed.

The truth is that of the SoundFont Technical Specification 2.04 and of General MIDI, on a font that is written here: a
cosine of 441 Hz, looped. Levels are of velocity by the default modulator (8.4.2: 40 log10(velocity / 127) dB), the
release of 1 s falls by 100 dB in 1 s (8.1.3, releaseVolEnv), sample mode 3 plays on behind its loop once the key is
up, a pitch wheel spans two semitones until a registered parameter says otherwise.
"""

import argparse
import importlib.util
import json
import math
import os
import platform
import random
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import mido
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from luthier_rendering.backends.soundfont import SoundFontFile, packaged_soundfont
from luthier_rendering.midi import load_song
from luthier_rendering.performance import performance

RATE_HZ: Final = 44_100
TAIL_S: Final = 3.0
VOICES: Final = 256
Samples: TypeAlias = NDArray[Any]
Play: TypeAlias = Callable[[Path], tuple[Samples, float]]
"""Samples [frames, 2] of a MIDI file as the engine gives them, and the CPU seconds of making them."""

PERIOD: Final = 100  # frames of the font's cosine at its root key
ROOT_HZ: Final = RATE_HZ / PERIOD
ROOT_KEY: Final = 69
LOOP: Final = (1000, 2000)  # frames
TAIL_PERIOD: Final = 50  # of the cosine behind the loop, an octave above
LOOPED, RELEASED, TAILED = range(3)  # programs of the font: as it is; a release of 1 s; that and sample mode 3
VELOCITIES: Final = (16, 32, 64, 96, 127)
QUIET_DB: Final = -60.0  # beside a note: FluidSynth dithers its 16 bit


# --- engines ---


def length_s(midi: Path) -> float:
    return float(mido.MidiFile(midi).length) + TAIL_S


def timed_messages(midi: Path) -> list[tuple[int, Any]]:
    """Messages of channels, and the frames at which they are due."""
    moment, found = 0.0, []
    for message in mido.MidiFile(midi):
        moment += message.time
        if not message.is_meta and hasattr(message, "channel"):
            found.append((round(moment * RATE_HZ), message))
    return found


def rendering(font: Path) -> Play:
    """The service's own way."""
    loaded = SoundFontFile(font)
    _ = loaded._font  # read now, to be timed

    def play(midi: Path) -> tuple[Samples, float]:
        song, frames = load_song(midi.read_bytes()), round(length_s(midi) * RATE_HZ)
        began = time.process_time()
        mix = np.zeros((frames, 2), np.float32)
        for part in np.unique(song.notes.part).tolist():
            played = performance(song, part)
            mix += loaded.play(played, frames, loaded.preset(played))
        return mix, time.process_time() - began

    return play


def tinysoundfont(font: Path) -> Play:
    """TinySoundFont by itself."""
    from tinysoundfont._tinysoundfont import OutputMode, SoundFont

    loaded = SoundFont(font.read_bytes())

    def play(midi: Path) -> tuple[Samples, float]:
        messages, frames = timed_messages(midi), round(length_s(midi) * RATE_HZ)
        began = time.process_time()
        synth, out, done = SoundFont(loaded), np.zeros((frames, 2), np.float32), 0
        synth.set_output(OutputMode.StereoInterleaved, RATE_HZ, 0.0)
        synth.set_max_voices(VOICES)
        for channel in range(16):
            synth.channel_set_preset_number(channel, 0, channel == 9)
        for at, message in messages:
            if at > done:
                synth.render(out[done:at])
                done = at
            match message.type:
                case "note_on" if message.velocity:
                    synth.channel_note_on(message.channel, message.note, message.velocity / 127)
                case "note_on" | "note_off":
                    synth.channel_note_off(message.channel, message.note)
                case "program_change":
                    synth.channel_set_preset_number(message.channel, message.program, message.channel == 9)
                case "control_change":
                    synth.channel_midi_control(message.channel, message.control, message.value)
                case "pitchwheel":
                    synth.channel_set_pitch_wheel(message.channel, message.pitch + 8192)
        synth.render(out[done:])
        return out, time.process_time() - began

    return play


def fluidsynth(font: Path) -> Play:
    """FluidSynth by its library, 16 bit as pyfluidsynth has it."""
    import fluidsynth as library  # type: ignore[import-not-found]  # of the bench only

    settings = {"synth.polyphony": VOICES, "synth.reverb.active": 0, "synth.chorus.active": 0}
    synth = library.Synth(samplerate=RATE_HZ, channels=16, **settings)
    synth.sfload(str(font), update_midi_preset=1)

    def play(midi: Path) -> tuple[Samples, float]:
        messages, frames = timed_messages(midi), round(length_s(midi) * RATE_HZ)
        began = time.process_time()
        synth.system_reset()
        pieces, done = [], 0
        for at, message in messages:
            if at > done:
                pieces.append(synth.get_samples(at - done))
                done = at
            match message.type:
                case "note_on" if message.velocity:
                    synth.noteon(message.channel, message.note, message.velocity)
                case "note_on" | "note_off":
                    synth.noteoff(message.channel, message.note)
                case "program_change":
                    synth.program_change(message.channel, message.program)
                case "control_change":
                    synth.cc(message.channel, message.control, message.value)
                case "pitchwheel":
                    synth.pitch_bend(message.channel, message.pitch)
        pieces.append(synth.get_samples(frames - done))
        return np.concatenate(pieces).reshape(-1, 2), time.process_time() - began

    return play


def symusic(font: Path) -> Play:
    """symusic's renderer, prestosynth."""
    from symusic import Score, Synthesizer

    synth = Synthesizer(str(font), RATE_HZ, 0)

    def play(midi: Path) -> tuple[Samples, float]:
        began = time.process_time()
        out = np.asarray(synth.render(Score(str(midi)), stereo=True))
        spent_s = time.process_time() - began
        return out.T, spent_s

    return play


ENGINES: Final[dict[str, Callable[[Path], Play]]] = {
    "rendering": rendering,
    "tinysoundfont": tinysoundfont,
    "fluidsynth": fluidsynth,
    "symusic": symusic,
}


# --- a font whose sound is known ---


def chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def collected(kind: bytes, *chunks: bytes) -> bytes:
    return chunk(b"LIST", kind + b"".join(chunks))


def small_font() -> bytes:
    """A SoundFont 2.04 with three presets of one sample: LOOPED, RELEASED, TAILED."""
    loop_and_before = np.cos(2 * np.pi * np.arange(LOOP[1]) / PERIOD)
    tail = np.cos(2 * np.pi * np.arange(RATE_HZ) / TAIL_PERIOD)
    wave = np.round(np.concatenate([loop_and_before, tail]) * 30_000).astype("<i2")
    modes_release: list[list[tuple[int, int]]] = [[(54, 1)], [(54, 1), (38, 0)], [(54, 3), (38, 0)]]  # 38: 0 = 1 s
    phdr = pbag = pgen = inst = ibag = igen = b""
    for number, generators in enumerate(modes_release):
        phdr += struct.pack("<20sHHHIII", b"preset", number, 0, number, 0, 0, 0)
        pbag += struct.pack("<HH", number, 0)
        pgen += struct.pack("<HH", 41, number)  # instrument
        inst += struct.pack("<20sH", b"instrument", number)
        ibag += struct.pack("<HH", len(igen) // 4, 0)
        for generator in [*generators, (53, 0)]:  # 53: sample, the last one
            igen += struct.pack("<HH", *generator)
    ends = len(modes_release)
    phdr += struct.pack("<20sHHHIII", b"EOP", 0, 0, ends, 0, 0, 0)
    pbag += struct.pack("<HH", ends, 0)
    inst += struct.pack("<20sH", b"EOI", ends)
    ibag += struct.pack("<HH", len(igen) // 4, 0)
    nothing = b"\0" * 4
    sample = struct.pack("<20sIIIIIBbHH", b"cosine", 0, len(wave), *LOOP, RATE_HZ, ROOT_KEY, 0, 0, 1)
    sample += struct.pack("<20sIIIIIBbHH", b"EOS", 0, 0, 0, 0, 0, 0, 0, 0, 0)
    info = [chunk(b"ifil", struct.pack("<HH", 2, 4)), chunk(b"isng", b"EMU8000\0"), chunk(b"INAM", b"truth\0")]
    records = {b"phdr": phdr, b"pbag": pbag, b"pmod": b"\0" * 10, b"pgen": pgen + nothing, b"inst": inst}
    records |= {b"ibag": ibag, b"imod": b"\0" * 10, b"igen": igen + nothing, b"shdr": sample}
    return chunk(
        b"RIFF",
        b"sfbk"
        + collected(b"INFO", *info)
        + collected(b"sdta", chunk(b"smpl", wave.tobytes() + b"\0" * 92))  # 46 frames of silence behind each sample
        + collected(b"pdta", *(chunk(name, body) for name, body in records.items())),
    )


# --- what is asked of it ---


Timed: TypeAlias = tuple[float, Any]


def written(folder: Path, program: int, messages: Iterable[Timed]) -> Path:
    """A MIDI file of one channel, 1 ms a tick."""
    track, done = mido.MidiTrack(), 0
    track.append(mido.MetaMessage("set_tempo", tempo=500_000))
    track.append(mido.Message("program_change", program=program))
    for seconds, message in sorted(messages, key=lambda item: item[0]):
        at = round(seconds * 1000)
        track.append(message.copy(time=at - done))
        done = at
    path = folder / "truth.mid"
    mido.MidiFile(tracks=[track], ticks_per_beat=500).save(path)
    return path


def note(start_s: float, end_s: float, key: int = ROOT_KEY, velocity: int = 127) -> list[Timed]:
    on = mido.Message("note_on", note=key, velocity=velocity)
    return [(start_s, on), (end_s, mido.Message("note_off", note=key))]


def control(seconds: float, number: int, value: int) -> Timed:
    return seconds, mido.Message("control_change", control=number, value=value)


def level_db(samples: Samples, from_s: float, to_s: float) -> float:
    """Of a span of the left side, dB below full scale."""
    span = samples[round(from_s * RATE_HZ) : round(to_s * RATE_HZ), 0]
    return 10 * math.log10(float(np.mean(span**2)) + 1e-15) if len(span) else -150.0


def sine_fit(samples: Samples, from_s: float, to_s: float, near_hz: float) -> tuple[float, float]:
    """The frequency of the sine that fits a span best, in cents from `near_hz`, and what does not fit, in dB of it."""
    span = samples[round(from_s * RATE_HZ) : round(to_s * RATE_HZ), 0]
    seconds = np.arange(len(span)) / RATE_HZ

    def left_over(cents: float) -> float:
        angle = 2 * np.pi * near_hz * 2 ** (cents / 1200) * seconds
        waves = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return float(np.sum((span - waves @ np.linalg.lstsq(waves, span, rcond=None)[0]) ** 2))

    rough = min(np.linspace(-1300, 1300, 521), key=left_over)
    best = minimize_scalar(left_over, bounds=(rough - 10, rough + 10), method="bounded", options={"xatol": 1e-6})
    return float(best.x), 10 * math.log10(best.fun / float(np.sum(span**2)) + 1e-15)


def heard(play: Play, midi: Path) -> Samples:
    """Samples [frames, 2] in full scale, silence added where an engine ends before the others."""
    samples, _ = play(midi)
    samples = samples / 32768 if samples.dtype == np.int16 else samples.astype(float)
    return np.pad(samples, ((0, max(round(length_s(midi) * RATE_HZ) - len(samples), 0)), (0, 0)))


def truth(play: Play, folder: Path) -> dict[str, str]:
    """What an engine gets right, as rows of the table."""
    draw, found = random.Random(1), {}
    starts = [round(0.4 * number + draw.uniform(0, 0.2), 3) for number in range(40)]
    samples = heard(play, written(folder, LOOPED, [m for at in starts for m in note(at, at + 0.1)]))
    errors = []
    for at in starts:
        due = round(at * RATE_HZ)
        span = np.abs(samples[max(due - 2000, 0) : due + 4000, 0])
        errors.append(int(np.argmax(span > 0.01 * span.max())) + max(due - 2000, 0) - due)
    found["onset error in samples, mean (earliest to latest)"] = (
        f"{np.mean(errors):.0f} ({min(errors)} to {max(errors)})"
    )

    notes = [m for number, velocity in enumerate(VELOCITIES) for m in note(number, number + 0.5, velocity=velocity)]
    samples = heard(play, written(folder, LOOPED, notes))
    levels = [level_db(samples, number + 0.2, number + 0.4) for number in range(len(VELOCITIES))]
    off = [level - levels[-1] - 40 * math.log10(v / 127) for level, v in zip(levels, VELOCITIES, strict=True)]
    found["level against velocity, largest error in dB"] = f"{max(off, key=abs):+.1f}"

    wheel = (0.05, mido.Message("pitchwheel", pitch=8191))
    samples = heard(play, written(folder, LOOPED, [wheel, *note(0.1, 1.0)]))
    usual, _ = sine_fit(samples, 0.3, 0.4, ROOT_HZ * 2 ** (2 * 8191 / 8192 / 12))
    ranged = [control(0.01, 101, 0), control(0.01, 100, 0), control(0.01, 6, 12)]
    samples = heard(play, written(folder, LOOPED, [*ranged, wheel, *note(0.1, 1.0)]))
    wide, _ = sine_fit(samples, 0.3, 0.4, ROOT_HZ * 2 ** (8191 / 8192))
    found["pitch bend, error in cents: range of 2; of 12 by RPN 0"] = f"{usual:+.1f}; {wide:+.1f}"

    pedal = [control(0.5, 64, 127), control(2.0, 64, 0)]
    samples = heard(play, written(folder, LOOPED, [*pedal, *note(0.0, 1.0)]))
    levels = [level_db(samples, at, at + 0.3) - level_db(samples, 0.2, 0.4) for at in (1.5, 2.5)]
    held, after = ("silent" if level < QUIET_DB else f"{level:+.1f}" for level in levels)
    found["sustain pedal: level while it holds; after it, dB"] = f"{held}; {after}"

    samples = heard(play, written(folder, LOOPED, note(0.0, 9.0, key=ROOT_KEY + 5)))
    near_hz = ROOT_HZ * 2 ** (5 / 12)
    kept = level_db(samples, 8.5, 8.9) - level_db(samples, 0.2, 0.6)
    cents, noise_db = sine_fit(samples, 8.0, 8.1, near_hz)
    found["loop, 5 semitones up, after 8 s: level in dB; error in cents; what is no sine, dB"] = (
        f"{kept:+.1f}; {cents:+.2f}; {noise_db:.0f}"
    )

    samples = heard(play, written(folder, RELEASED, note(0.0, 1.0)))
    slope = (level_db(samples, 1.4, 1.45) - level_db(samples, 1.1, 1.15)) / 0.3
    found["release, dB a second (-100)"] = f"{slope:.0f}" if level_db(samples, 1.1, 1.15) > -100 else "cut off"

    samples = heard(play, written(folder, TAILED, note(0.0, 1.0)))
    span = samples[round(1.05 * RATE_HZ) :][:4400, 0]
    spectrum = np.abs(np.fft.rfft(span * np.hanning(len(span))))
    loop_bin, tail_bin = (round(RATE_HZ / period * len(span) / RATE_HZ) for period in (PERIOD, TAIL_PERIOD))
    found["sample mode 3: plays on behind its loop"] = "yes" if spectrum[tail_bin] > spectrum[loop_bin] else "no"
    return found


def costs(load: Callable[[Path], Play], songs: Sequence[Path]) -> dict[str, float]:
    """What an engine takes for real songs with the packaged font, by row of the table."""
    font, before_kib = packaged_soundfont(), memory_kib("VmRSS")
    began = time.process_time()
    play = load(font)
    loading_s, spent_s, audio_s = time.process_time() - began, 0.0, 0.0
    for song in songs:
        samples, song_s = play(song)
        if not samples.any():
            raise RuntimeError(f"{song} is silent")
        spent_s += song_s
        audio_s += length_s(song)
    return {
        "CPU seconds per audio minute": spent_s / audio_s * 60,
        "CPU seconds to load TimGM6mb (6 MB)": loading_s,
        "peak memory above that before the font is loaded, MiB": (memory_kib("VmHWM") - before_kib) / 1024,
    }


def memory_kib(which: str) -> int:
    """VmRSS or VmHWM of this process."""
    status = dict(one.split(":", 1) for one in Path("/proc/self/status").read_text().splitlines())
    return int(status[which].split()[0])


def one(name: str, songs: Sequence[Path]) -> dict[str, str] | dict[str, float]:
    """The rows of one engine: the process of its own."""
    if songs:
        return costs(ENGINES[name], songs)
    with tempfile.TemporaryDirectory() as folder:
        font = Path(folder, "truth.sf2")
        font.write_bytes(small_font())
        return truth(ENGINES[name](font), Path(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("songs", nargs="*", type=Path, help="MIDI files, for the costs")
    parser.add_argument("--engine", choices=ENGINES, help="rows of this one as JSON")
    parser.add_argument("--turns", type=int, default=3, help="of the songs, the engines in turn; the least is printed")
    options = parser.parse_args()
    if options.engine:
        print(json.dumps(one(options.engine, options.songs)))
        return
    columns: dict[str, dict[str, str]] = {}
    spent: dict[str, dict[str, list[float]]] = {}
    names = [name for name in ENGINES if importlib.util.find_spec("luthier_rendering" if name == "rendering" else name)]
    for name in names:
        columns[name] = asked(name, [])
    for name in names * (options.turns if options.songs else 0):
        for row, figure in asked(name, options.songs).items():
            spent.setdefault(name, {}).setdefault(row, []).append(figure)
    for name, rows in spent.items():
        columns[name] |= {row: f"{min(figures):.3g}" for row, figures in rows.items()}
    print(f"not there: {', '.join(ENGINES.keys() - names) or 'none'}; {os.cpu_count()} cores, {platform.machine()}")
    print("| " + " | ".join(["", *columns]) + " |\n" + "|---" * (len(columns) + 1) + "|")
    for row in dict.fromkeys(row for rows in columns.values() for row in rows):
        print("| " + " | ".join([row, *(rows.get(row, "") for rows in columns.values())]) + " |")


def asked(name: str, songs: Sequence[Path]) -> dict[str, Any]:
    """The rows of one engine, from a process of its own."""
    command = [sys.executable, __file__, "--engine", name, *map(str, songs)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
