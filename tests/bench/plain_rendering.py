"""A plain script that renders MIDI files to a mix track by track: what `authors_scripts.py` compares the service with.

    python plain_rendering.py fluidsynth|tinysoundfont|pedalboard SOUNDFONT|BUNDLE < SONGS

A line of input is a MIDI file and a folder, with a tab between them; the answer is CPU seconds, seconds of audio and
peak memory in KiB.

Each track's notes go to one instrument for the whole song: controllers, bends and later program changes are lost, and
drums are played as a piano, by program 0. A track is brought to a loudness drawn for it (pyloudnorm), all are held in
memory until they are summed, the sum is brought to its own loudness and written as one WAV file. No stems are kept.
`fluidsynth` writes a MIDI file per track and has the command of that name render it, as midi2audio does;
`tinysoundfont` plays the notes by the library that the service uses; `pedalboard` loads a plugin for each track and
draws some of its parameters.
"""

import os
import random
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pretty_midi
import pyloudnorm
import soundfile
from numpy.typing import NDArray

RATE_HZ = 44100
TAIL_S = 3.0
STEM_LUFS, JITTER_DB, MIX_LUFS = -24.0, 3.0, -16.0
PLUGINS = (  # a plugin of the mda bundle, what of it is drawn from 0.2 to 0.8, and the programs that it plays
    ("mda Piano", ("muffling_filter", "stereo_width"), range(8)),
    ("mda DX10", ("mod_init", "mod_dec"), range(8, 40)),
    ("mda JX10", ("vcf_reso", "vcf_env"), range(40, 128)),
)
Track: TypeAlias = pretty_midi.Instrument
Samples: TypeAlias = NDArray[np.float32]


def program(track: Track) -> int:
    """Drums say program 0."""
    return 0 if track.is_drum else int(track.program)


def fluidsynth(track: Track, length_s: float, font: str, folder: Path) -> Samples:
    """Samples [frames, 2] by the command."""
    alone = pretty_midi.PrettyMIDI()
    alone.instruments.append(pretty_midi.Instrument(program(track), name=track.name))
    alone.instruments[0].notes = track.notes
    alone.write(str(folder / "track.mid"))
    command = [
        "fluidsynth",
        "-ni",
        "-F",
        str(folder / "track.wav"),
        "-r",
        str(RATE_HZ),
        font,
        str(folder / "track.mid"),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    samples: Samples = soundfile.read(folder / "track.wav", dtype="float32")[0]
    return samples


def tinysoundfont(track: Track, length_s: float, font: str, folder: Path) -> Samples:
    """Samples [frames, 2] by TinySoundFont."""
    from tinysoundfont import Synth

    synth = Synth(samplerate=RATE_HZ)
    synth.program_select(0, synth.sfload(font), 0, program(track))
    events = [(note.start, note.pitch, note.velocity) for note in track.notes]
    events += [(note.end, note.pitch, 0) for note in track.notes]
    pieces, done = [], 0
    for moment, pitch, velocity in [*sorted(events), (length_s, 0, 0)]:
        if (frames := round(moment * RATE_HZ) - done) > 0:
            pieces.append(np.frombuffer(synth.generate(frames), np.float32).reshape(-1, 2))
            done += frames
        if velocity:
            synth.noteon(0, pitch, velocity)
        else:
            synth.noteoff(0, pitch)
    return np.concatenate(pieces)


def pedalboard(track: Track, length_s: float, bundle: str, folder: Path) -> Samples:
    """Samples [frames, 2] by a plugin."""
    from mido import Message
    from pedalboard import VST3Plugin

    name, drawn = next((name, drawn) for name, drawn, programs in PLUGINS if program(track) in programs)
    plugin: Any = VST3Plugin(bundle, plugin_name=name)
    for parameter in drawn:
        plugin.parameters[parameter].raw_value = random.uniform(0.2, 0.8)
    messages = []
    for note in track.notes:
        messages.append(Message("note_on", note=note.pitch, velocity=note.velocity, time=note.start))
        messages.append(Message("note_off", note=note.pitch, time=note.end))
    messages.sort(key=lambda message: message.time)
    samples: Samples = plugin(messages, duration=length_s, sample_rate=RATE_HZ).T
    return samples


PLAYERS: dict[str, Callable[[Track, float, str, Path], Samples]] = {
    "fluidsynth": fluidsynth,
    "tinysoundfont": tinysoundfont,
    "pedalboard": pedalboard,
}


def render(midi: Path, out: Path, player: str, sounds: str) -> float:
    """Write the mix of a MIDI file as mix.wav in `out`; its seconds."""
    song, meter = pretty_midi.PrettyMIDI(str(midi)), pyloudnorm.Meter(RATE_HZ)
    length_s = max(note.end for track in song.instruments for note in track.notes) + TAIL_S
    tracks = []
    for track in song.instruments:
        samples = PLAYERS[player](track, length_s, sounds, out)
        target = STEM_LUFS + random.uniform(-JITTER_DB, JITTER_DB)
        tracks.append(pyloudnorm.normalize.loudness(samples, meter.integrated_loudness(samples), target))
    mix = np.zeros((max(map(len, tracks)), 2), np.float32)
    for samples in tracks:
        mix[: len(samples)] += samples
    mix = pyloudnorm.normalize.loudness(mix, meter.integrated_loudness(mix), MIX_LUFS)
    soundfile.write(out / "mix.wav", mix, RATE_HZ)
    return len(mix) / RATE_HZ


def spent_s() -> float:
    """CPU seconds of this process and of its children that have ended."""
    times = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in times)


def main() -> None:
    player, sounds = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")  # plugins print
    os.dup2(2, 1)
    for line in sys.stdin:
        midi, out = map(Path, line.rstrip("\n").split("\t"))
        before_s = spent_s()
        audio_s = render(midi, out, player, sounds)
        status = dict(one.split(":", 1) for one in Path("/proc/self/status").read_text().splitlines())
        print(spent_s() - before_s, audio_s, status["VmHWM"].split()[0], file=answers, flush=True)


if __name__ == "__main__":
    main()
