"""SoundFont synthesis by TinySoundFont (.sf2, and .sf3 whose samples are Vorbis): every General MIDI program, the
variations that a song asks for where the font has them, drums from bank 128.

Without a configured file it plays TimGM6mb.sf2 (GPL-2), which comes inside the pretty_midi package: no download.
"""

import hashlib
import importlib.util
import random
from functools import cache, cached_property
from pathlib import Path
from typing import Final

from tinysoundfont._tinysoundfont import OutputMode, SoundFont

from luthier.rendering.v1 import rendering_pb2 as pb
from luthier_music.audio import SAMPLE_RATE_HZ, Samples
from luthier_music.instruments import DRUMS, Instrument, instrument
from luthier_rendering.backends.base import BackendConfig, BackendError, Drawn, Playable, UnknownSound
from luthier_rendering.backends.memory import Memory
from luthier_rendering.backends.soundfont_file import Preset, read_presets
from luthier_rendering.backends.strip import apply_gains
from luthier_rendering.controllers import LSB, PAN, SOUND_OFF
from luthier_rendering.humanise import Humanise
from luthier_rendering.performance import Message, Performance
from luthier_rendering.smf import BEND, CONTROL, NOTE_OFF, NOTE_ON

SOUNDFONT: Final = "soundfont"
DRUM_BANK: Final = 128
PACKAGED_LICENCE: Final = "TimGM6mb SoundFont: GPL-2.0-only"
KNOWN_LICENCES: Final = {"916aaca6b0eb9f9083eb42399614acb2ff4ec72ce28dffff1814592a9696b479": "MIT"}
"""By the SHA-256 of a file: MuseScore_General_Lite.sf3 0.2.1, whose samples are MIT, CC0 or in the public domain (the
copyright file of Debian's musescore-general-soundfont-small)."""
_STEP_FRAMES: Final = 64  # the synthesiser's own control period: 1.45 ms, events are placed on it
_MAX_VOICES: Final = 256
_EFFECTS_FROM: Final = 120  # programs that are noises: each variation is another one
_OTHERS: Final = frozenset({(8, 14), (9, 14), (8, 24), (16, 25), (8, 107), (8, 115), (8, 116)})
"""Variations of the GS standard, (bank, program), that are another instrument than captions call them: church bell and
carillon, ukulele, mandolin, taisho koto, castanets, concert bass drum."""
_NAMED: Final = 4  # of absent presets
_MEMORY: Final = Memory()
_HEARD: Final = frozenset([PAN, PAN + LSB, SOUND_OFF])  # of the controllers that performances hold


def _why(error: Exception) -> str:
    """What a caller may know of an error: not where the file is."""
    return error.strerror or "it cannot be read" if isinstance(error, OSError) else str(error)


class SoundFontFile:
    """One SoundFont: its presets at once, its samples when the first note is played."""

    def __init__(self, path: Path) -> None:
        """Read its index. BackendError when it is no SoundFont."""
        self._path, self.name = path, path.name
        try:
            self.presets = read_presets(path)
            with path.open("rb") as file:
                self.digest = hashlib.file_digest(file, "sha256").hexdigest()
        except (OSError, ValueError) as error:
            raise BackendError(f"the SoundFont {self.name} cannot be loaded: {_why(error)}") from error

    @cached_property
    def _font(self) -> SoundFont:
        """Decoded once: performances clone it."""
        try:
            return SoundFont(self._path.read_bytes())
        except (OSError, RuntimeError) as error:
            raise BackendError(f"the SoundFont {self.name} cannot be loaded: {_why(error)}") from error

    def preset(self, performance: Performance) -> Preset:
        """What plays a performance: the variation of its instrument that it asks for, or its program; of drum kits the
        standard one where the kit is not there."""
        who = performance.instrument
        variation = Preset(performance.bank, who.program)
        same = not who.is_drum and who.program < _EFFECTS_FROM and (performance.bank, who.program) not in _OTHERS
        found = variation if same and variation in self.presets else self.usual(who)
        if found is None:
            raise BackendError(f"{self.name} has no preset for {who.name} ({who.program})")
        return found

    def usual(self, who: Instrument) -> Preset | None:
        """What plays an instrument when no variation is asked for, None for nothing."""
        wanted = (Preset(DRUM_BANK, who.program), Preset(DRUM_BANK, 0)) if who.is_drum else (Preset(0, who.program),)
        return next((one for one in wanted if one in self.presets), None)

    def has(self, who: Instrument) -> bool:
        """Whether it has a preset for an instrument."""
        return self.usual(who) is not None

    def sounds_of(self, who: Instrument) -> frozenset[str]:
        """The preset that plays an instrument, as Backend.sounds_of has it."""
        preset = self.usual(who)
        return frozenset([self.sound_of(preset)] if preset else [])

    def sound_of(self, preset: Preset) -> str:
        """A name of a preset that no other sound has."""
        return f"{self.digest}/{preset.bank}/{preset.program}"

    def record(self, preset: Preset) -> pb.Sound:
        """What is recorded of a stem that it plays."""
        return pb.Sound(
            backend=SOUNDFONT,
            source=self.name,
            digest=self.digest,
            bank=preset.bank,
            program=preset.program,
            preset=self.presets[preset],
            repeatable=True,
        )

    def play(self, performance: Performance, frames: int, preset: Preset) -> Samples:
        """Samples [frames, 2]. BackendError when the preset is not there."""
        synth = SoundFont(self._font)
        synth.set_output(OutputMode.StereoInterleaved, SAMPLE_RATE_HZ, 0.0)
        synth.set_max_voices(_MAX_VOICES)
        synth.channel_set_bank(0, preset.bank)
        try:
            synth.channel_set_preset_number(0, preset.program, preset.bank == DRUM_BANK)
        except RuntimeError as error:
            raise BackendError(f"{self.name} has no preset {preset.bank}:{preset.program}") from error
        steady = len(performance.gains) == 1 and performance.gains[0].left == performance.gains[0].right
        loudest = performance.gains[0].left if steady else 1.0
        out = _MEMORY.samples(frames)
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
        return out if steady else apply_gains(out, performance.gains)


class SoundFontBackend:
    """Plays everything with one SoundFont, by itself: nothing is drawn."""

    def __init__(self, font: SoundFontFile, licences: list[str]) -> None:
        self.font, self._licences = font, licences

    def render(self, performance: Performance, frames: int, draw: random.Random) -> Drawn:
        preset = self.font.preset(performance)
        return Drawn(self.font.play(performance, frames, preset), self.font.record(preset))

    def render_again(self, performance: Performance, frames: int, sound: pb.Sound) -> Samples:
        if (sound.backend, sound.digest) != (SOUNDFONT, self.font.digest):
            raise UnknownSound(f"{sound.source} with the SHA-256 {sound.digest} is not here")
        return self.font.play(performance, frames, Preset(sound.bank, sound.program))

    def room(self, draw: random.Random) -> pb.Effect | None:
        return None

    @property
    def humanise(self) -> Humanise:
        return Humanise()

    def sounds_of(self, who: Instrument) -> frozenset[str]:
        return self.font.sounds_of(who)

    def playables(self) -> list[Playable]:
        return [
            Playable(SOUNDFONT, preset.program, preset.bank == DRUM_BANK, name, self.font.digest)
            for preset, name in self.font.presets.items()
            if preset.bank in (0, DRUM_BANK)
        ]

    def digests(self) -> dict[str, str]:
        return {SOUNDFONT: self.font.digest}

    def licences(self) -> list[str]:
        return self._licences

    def faults(self) -> list[str]:
        """The programs that it has no preset for, and drums."""
        absent = [instrument(number).name for number in range(128) if Preset(0, number) not in self.font.presets]
        if Preset(DRUM_BANK, 0) not in self.font.presets:
            absent.append(DRUMS)
        more = f" and {len(absent) - _NAMED} more" if len(absent) > _NAMED else ""
        return [f"{self.font.name} has no preset for {', '.join(absent[:_NAMED])}{more}"] if absent else []


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
def open_font(path: str) -> SoundFontFile:
    """The SoundFont of a path, once per process; empty = the packaged one."""
    return SoundFontFile(Path(path) if path else packaged_soundfont())


@cache
def open_backend(config: BackendConfig) -> SoundFontBackend:
    """The back end of the configured or the packaged SoundFont."""
    return SoundFontBackend(open_font(config.soundfont), font_licences(config))


def font_licences(config: BackendConfig) -> list[str]:
    """What binds the sound of the configured or the packaged SoundFont. `unstated…` where nobody says: that counts as
    unknown wherever a use is chosen."""
    if not config.soundfont:
        return [PACKAGED_LICENCE]
    font = open_font(config.soundfont)
    licence = config.soundfont_licence or KNOWN_LICENCES.get(font.digest, "")
    return [f"{font.name} SoundFont: {licence}" if licence else f"unstated: {font.name} SoundFont"]


def packaged_soundfont() -> Path:
    """TimGM6mb.sf2 inside pretty_midi, found without importing it. BackendError when it is not installed."""
    spec = importlib.util.find_spec("pretty_midi")
    if spec is None or spec.origin is None:
        raise BackendError("pretty_midi, whose package holds the default SoundFont, is not installed")
    return Path(spec.origin).parent / "TimGM6mb.sf2"
