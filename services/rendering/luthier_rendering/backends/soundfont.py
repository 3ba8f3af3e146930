"""SoundFont 2 synthesis by TinySoundFont: every General MIDI program, drums from bank 128.

Without a configured file it plays TimGM6mb.sf2 (GPL-2), which comes inside the pretty_midi package: no download.
"""

import hashlib
import importlib.util
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from tinysoundfont._tinysoundfont import OutputMode, SoundFont

from luthier_music.audio import SAMPLE_RATE_HZ, Samples
from luthier_rendering.backends.base import BackendConfig, BackendError, Playable
from luthier_rendering.backends.strip import apply_gains
from luthier_rendering.controllers import LSB, PAN, SOUND_OFF
from luthier_rendering.performance import Message, Performance
from luthier_rendering.smf import BEND, CONTROL, NOTE_OFF, NOTE_ON

_STEP_FRAMES: Final = 64  # the synthesiser's own control period: 1.45 ms, events are placed on it
_MAX_VOICES: Final = 256
_DRUM_BANK: Final = 128
_HEARD: Final = frozenset([PAN, PAN + LSB, SOUND_OFF])  # of the controllers that performances hold


class SoundFontBackend:
    """Plays a performance with one SoundFont."""

    def __init__(self, path: Path) -> None:
        """Load the file (once: performances clone it). BackendError when it is no SoundFont."""
        try:
            data = path.read_bytes()
            self._font = SoundFont(data)
        except (OSError, RuntimeError) as error:
            raise BackendError(f"the SoundFont {path.name} cannot be loaded: {error}") from error
        self._name, self._digest = path.name, hashlib.sha256(data).hexdigest()

    def render(self, performance: Performance, frames: int) -> tuple[Samples, str]:
        who = performance.instrument
        synth = SoundFont(self._font)
        synth.set_output(OutputMode.StereoInterleaved, SAMPLE_RATE_HZ, 0.0)
        synth.set_max_voices(_MAX_VOICES)
        synth.channel_set_bank(0, _DRUM_BANK if who.is_drum else 0)
        try:
            synth.channel_set_preset_number(0, who.program, who.is_drum)
        except RuntimeError as error:
            raise BackendError(f"{self._name} has no preset for {who.name} ({who.program})") from error
        steady = len(performance.gains) == 1 and performance.gains[0].left == performance.gains[0].right
        loudest = performance.gains[0].left if steady else 1.0
        out = np.zeros((frames, 2), dtype=np.float32)
        done = 0
        for message in performance.messages:
            if message.kind == CONTROL and message.first not in _HEARD:
                continue
            at = min(int(message.seconds * SAMPLE_RATE_HZ / _STEP_FRAMES + 0.5) * _STEP_FRAMES, frames)
            if at > done:
                synth.render(out[done:at])
                done = at
            _send(synth, message, loudest)
        if done < frames:
            synth.render(out[done:])
        return out if steady else apply_gains(out, performance.gains), "soundfont"

    def playables(self) -> list[Playable]:
        return [
            Playable("soundfont", program, is_drum, self._font.get_preset_name(bank, program), self._digest)
            for bank, is_drum in ((0, False), (_DRUM_BANK, True))
            for program in range(128)
            if self._font.get_preset_index(bank, program) >= 0
        ]

    def digests(self) -> dict[str, str]:
        return {"soundfont": self._digest}

    def faults(self) -> list[str]:
        return []


def _send(synth: SoundFont, message: Message, loudest: float) -> None:
    """Send a message; velocity 127 sounds at the amplitude `loudest`, less at 40 log10(velocity / 127) dB below."""
    _, kind, first, second, value = message
    if kind == NOTE_ON:
        synth.set_volume(loudest * second / 127.0)  # of notes that start from now on: 20 log10, as velocity by itself
        synth.channel_note_on(0, first, second / 127.0)
    elif kind == NOTE_OFF:
        synth.channel_note_off(0, first)
    elif kind == BEND:
        synth.channel_set_tuning(0, value)
    elif kind == CONTROL:
        synth.channel_midi_control(0, first, second)


@cache
def open_backend(config: BackendConfig) -> SoundFontBackend:
    """The back end of the configured or the packaged SoundFont."""
    return SoundFontBackend(Path(config.soundfont) if config.soundfont else packaged_soundfont())


def packaged_soundfont() -> Path:
    """TimGM6mb.sf2 inside pretty_midi, found without importing it. BackendError when it is not installed."""
    spec = importlib.util.find_spec("pretty_midi")
    if spec is None or spec.origin is None:
        raise BackendError("pretty_midi, whose package holds the default SoundFont, is not installed")
    return Path(spec.origin).parent / "TimGM6mb.sf2"
