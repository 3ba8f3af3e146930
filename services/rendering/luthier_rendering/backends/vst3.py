"""VST3 instruments by pedalboard.

Only ever used on the main thread of a child process: plugins crash, hang, print and exit. Traps that this file avoids
were measured with pedalboard 0.9.26: loading probes every parameter, so those that stand for MIDI controllers are
excluded; state leaks between songs without `reset=True`; the buffer size changes the bits; a silent patch stalls for
the initialisation timeout, as pedalboard tries each with a middle C, which mda DX10 and JX10 then play once more, with
the first note of the song; mda's instruments lose events on every sixteenth frame of a buffer; a preset and a parameter
take effect with the first buffer that is played without `reset`, and what a parameter already reads is not passed on.
"""

import hashlib
import random
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from luthier_music.audio import SAMPLE_RATE_HZ, Samples, peak
from luthier_music.native import highest
from luthier_rendering.backends.base import CLIPPED, NOT_FINITE, SILENT, BackendError, Unusable
from luthier_rendering.backends.instrument_map import PluginChoice
from luthier_rendering.backends.strip import Bend, apply_gains
from luthier_rendering.controllers import LSB, PAN
from luthier_rendering.performance import Gain, Message, Performance
from luthier_rendering.smf import CONTROL, NOTE_OFF, NOTE_ON

VST3: Final = "vst3"
_BUFFER_FRAMES: Final = 512
_INITIALIZATION_TIMEOUT_S: Final = 0.5
_CONTROLLER_PARAMETERS: Final = re.compile(r"MIDI (Ch\. \d+ )?(CC|Pitch|Aftertouch|Program|Channel)", re.IGNORECASE)
_READ_BACK_TOLERANCE: Final = 0.01  # stepped parameters snap
_SAME: Final = 1e-6  # raw values are float32
_TAKING_EFFECT_FRAMES: Final = SAMPLE_RATE_HZ // 10
_LOST_FRAMES: Final = 16  # mda's instruments compute so many at a time, and lose events between two of these
_PROBED_KEYS, _PROBED_VELOCITIES = (45, 51, 57, 63, 69, 75), (32, 48, 64, 80, 96, 112, 127)
_PROBE_HELD_S, _PROBE_S, _PROBE_REST_S = 0.5, 0.75, 1.0  # a note, from one to the next, and more between two keys
MAX_EXPONENT: Final = 10.0  # of the velocity: more is no curve of an instrument
_UNMOVED: Final = 0.5  # what rises by less has steps or noise, no curve
_PHRASE_NOTES, _PHRASE_S = 200, 20.0  # mda EPiano differs from itself in such a phrase, and in shorter ones not
_CLIPPED_RUN: Final = 4  # equal samples at full scale or above that no wave has by itself


@dataclass
class Loaded:
    """A plugin, the values that its parameters were set to, and what was measured with them."""

    plugin: Any  # its parameters are attributes made at run time
    name: str
    values: dict[str, float] = field(default_factory=dict)
    not_repeatable: str | None = None  # why it does not repeat itself, empty when it does; None = not measured


@dataclass(frozen=True)
class PluginSound:
    """What a plugin played [frames, 2], and what was measured of it."""

    samples: Samples
    velocity_exponent: float
    not_repeatable: str


class Plugins:
    """The plugins of a folder. One instance serves all draws of a choice: its parameters are set anew for each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaded: dict[tuple[str, str, str, frozenset[str]], Loaded] = {}
        self._exponents: dict[tuple[str, str, str, tuple[tuple[str, float], ...]], float] = {}
        """Of each choice, in the middle of its ranges: whatever was played before, the same."""

    def play(
        self,
        choice: PluginChoice,
        values: Mapping[str, float],
        performance: Performance,
        frames: int,
        velocity_exponent: float | None = None,
    ) -> PluginSound:
        """Play a performance with these raw values of the choice's parameters; `velocity_exponent` is measured unless
        it is known. BackendError when it cannot be loaded, Unusable for what it played."""
        key = (choice.bundle, choice.plugin, choice.preset, frozenset(values))
        try:
            loaded = self._loaded.get(key)
            if loaded is None:
                loaded = self._loaded[key] = Loaded(_load(self._folder, choice), choice.name)
            exponent = self._exponent(choice, loaded) if velocity_exponent is None else velocity_exponent
            if _set(loaded, values) or loaded.not_repeatable is None:
                loaded.not_repeatable = _not_repeatable(loaded)
            sent = velocities(exponent)
            messages = [
                one._replace(second=sent[one.second]) if one.kind == NOTE_ON else one for one in performance.messages
            ]
            samples = _play(loaded.plugin, loaded.name, messages, frames, checked=True)
        except BackendError:
            self._loaded.pop(key, None)  # the next one gets a new one
            raise
        return PluginSound(apply_gains(samples, pan_gains(performance)), exponent, loaded.not_repeatable)

    def _exponent(self, choice: PluginChoice, loaded: Loaded) -> float:
        middles = {name: one.middle for name, one in sorted(choice.parameters.items())}
        key = (choice.bundle, choice.plugin, choice.preset, tuple(middles.items()))
        if key not in self._exponents:
            _set(loaded, middles)
            measured = measured_exponent(loaded.plugin, loaded.name)
            self._exponents[key] = min(max(measured, 0.0), MAX_EXPONENT)
        return self._exponents[key]


def bundle_digest(bundle: Path) -> str:
    """SHA-256 over the names and bytes of a bundle's files."""
    digest = hashlib.sha256()
    for path in sorted(p for p in bundle.rglob("*") if p.is_file()) if bundle.is_dir() else [bundle]:
        digest.update(f"{path.relative_to(bundle)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _load(folder: Path, choice: PluginChoice) -> Any:
    """Load one plugin with its preset, without pedalboard's trial note where the plugin plays that with the first event
    of a song."""
    plugin = _opened(folder / choice.bundle, choice, _INITIALIZATION_TIMEOUT_S)
    ends_nothing = [Message(0.0, NOTE_OFF, 0, 0)]
    if _play(plugin, choice.name, ends_nothing, SAMPLE_RATE_HZ).any():
        plugin = _opened(folder / choice.bundle, choice, 0.0)
        _play(plugin, choice.name, [], SAMPLE_RATE_HZ, reset=False)  # its state lacks the parameters until it played
    if choice.preset:
        _load_preset(plugin, folder / choice.preset, choice.name)
    return plugin


def _opened(path: Path, choice: PluginChoice, initialization_timeout_s: float) -> Any:
    """Open one plugin."""
    from pedalboard import VST3Plugin, _pedalboard

    _pedalboard.PARAMETER_NAME_REGEXES_TO_IGNORE.add(_CONTROLLER_PARAMETERS)
    try:
        plugin: Any = VST3Plugin(  # its parameters are attributes made at run time
            str(path), plugin_name=choice.plugin or None, initialization_timeout=initialization_timeout_s
        )
    except (ImportError, ValueError, RuntimeError) as error:
        raise BackendError(f"the plugin {choice.name} cannot be loaded: {error}") from error
    if not plugin.is_instrument:
        raise BackendError(f"the plugin {choice.name} is an effect, not an instrument")
    return plugin


def _why(error: Exception) -> str:
    """What a caller may know of an error: not where the file is."""
    return error.strerror or "it cannot be read" if isinstance(error, OSError) else str(error)


def _load_preset(plugin: Any, path: Path, name: str) -> None:
    """Load a preset, and see that the plugin took it: one that did not says nothing."""
    before = _component_state(plugin.preset_data)
    try:
        plugin.load_preset(str(path))
        _play(plugin, name, [], _TAKING_EFFECT_FRAMES, reset=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise BackendError(f"the plugin {name} did not take the preset {path.name}: {_why(error)}") from error
    after = _component_state(plugin.preset_data)
    if after == before and after != _component_state(path.read_bytes()):
        raise BackendError(f"the plugin {name} did not take the preset {path.name}: its state is what it was")


def _component_state(preset: bytes) -> bytes:
    """The chunk `Comp` of a .vstpreset file: a header of 48 bytes that says where the list of chunks is, the chunks,
    the list (VST 3 SDK, PresetFile). Empty where there is none."""
    try:
        (start,) = struct.unpack_from("<q", preset, 40)
        (count,) = struct.unpack_from("<i", preset, start + 4)
        for at in range(start + 8, start + 8 + 20 * min(count, 128), 20):
            kind, first, size = struct.unpack_from("<4sqq", preset, at)
            if kind == b"Comp":
                return preset[first : first + size]
    except struct.error:
        pass
    return b""


def _set(loaded: Loaded, values: Mapping[str, float]) -> bool:
    """Set parameters to raw values, reading each back; whether any was another one before.

    pedalboard passes on what differs from what it last read: a value that it already reads, from before a preset was
    loaded, or the plugin's default, is reached by way of another one.
    """
    if loaded.values == values:
        return False
    parameters, name = loaded.plugin.parameters, loaded.name
    for parameter in values:
        if parameter not in parameters:
            raise BackendError(f"the plugin {name} has no parameter {parameter}")
    held = [one for one, value in values.items() if abs(parameters[one].raw_value - value) < _SAME]
    for one in held:
        parameters[one].raw_value = values[one] + (0.5 if values[one] < 0.5 else -0.5)
    if held:
        _play(loaded.plugin, name, [], _TAKING_EFFECT_FRAMES, reset=False)
    for parameter, value in values.items():
        parameters[parameter].raw_value = value
        if abs(parameters[parameter].raw_value - value) > _READ_BACK_TOLERANCE:
            raise BackendError(f"the plugin {name} did not take {value:g} for {parameter}")
    _play(loaded.plugin, name, [], _TAKING_EFFECT_FRAMES, reset=False)
    loaded.values = dict(values)
    return True


def _not_repeatable(loaded: Loaded) -> str:
    """Why a plugin does not play the same phrase twice, empty when it does: measured."""
    draw, messages = random.Random(1), []
    for _ in range(_PHRASE_NOTES):
        key, start_s = draw.randrange(36, 84), draw.uniform(0, _PHRASE_S - 1)
        messages.append(Message(start_s, NOTE_ON, key, draw.randrange(20, 128)))
        messages.append(Message(start_s + draw.uniform(0.05, 1), NOTE_OFF, key, 0))
    messages.sort(key=lambda message: message.seconds)
    first, second = (_play(loaded.plugin, loaded.name, messages, round(_PHRASE_S * SAMPLE_RATE_HZ)) for _ in range(2))
    if np.array_equal(first, second):
        return ""
    apart = peak(first - second) if np.isfinite(first).all() and np.isfinite(second).all() else np.inf
    return f"{loaded.name} played one phrase twice and differed by up to {apart:.2g}"


def measured_exponent(plugin: Any, name: str) -> float:
    """By which power of the velocity a plugin's amplitude rises, measured: 2 is what General MIDI recommends, many play
    1, some none (0). To one digit, as some plugins start their notes by chance."""
    starts_s = [
        key * (len(_PROBED_VELOCITIES) * _PROBE_S + _PROBE_REST_S) + velocity * _PROBE_S
        for key in range(len(_PROBED_KEYS))
        for velocity in range(len(_PROBED_VELOCITIES))
    ]
    notes = [(key, velocity) for key in _PROBED_KEYS for velocity in _PROBED_VELOCITIES]
    messages = []
    for start_s, (key, velocity) in zip(starts_s, notes, strict=True):
        messages += [Message(start_s, NOTE_ON, key, velocity), Message(start_s + _PROBE_HELD_S, NOTE_OFF, key, 0)]
    samples = _play(plugin, name, messages, round((starts_s[-1] + _PROBE_S) * SAMPLE_RATE_HZ))
    firsts = np.round(np.array(starts_s) * SAMPLE_RATE_HZ).astype(int)
    held = round(_PROBE_HELD_S * SAMPLE_RATE_HZ)
    energies = np.array([np.mean(samples[first : first + held].astype(np.float64) ** 2) for first in firsts])
    if not (np.isfinite(energies).all() and energies.min() > 0):
        return 2.0  # nothing can be said: it is left as it is
    rises = np.log(np.array(_PROBED_VELOCITIES) / 127.0)
    rises -= rises.mean()
    slopes = np.log(energies).reshape(len(_PROBED_KEYS), -1) @ rises / (rises @ rises) / 2  # energies are squares
    return round(float(slopes.mean()), 1)


def velocities(exponent: float) -> list[int]:
    """What to send a plugin of this exponent for each velocity 0..127, so that amplitudes rise with its square."""
    if exponent < _UNMOVED:
        return list(range(128))
    return [max(1, round(127 * (velocity / 127) ** (2 / exponent))) if velocity else 0 for velocity in range(128)]


def _play(
    plugin: Any, name: str, messages: Sequence[Message], frames: int, *, reset: bool = True, checked: bool = False
) -> Samples:
    """Samples [frames, 2]; a mono instrument sounds on both sides. What the channel strip plays is left out. Where
    `checked`, Unusable for silence, NaN, and what is clipped."""
    bend = Bend(messages)
    sent = [message for message in messages if message.kind in (NOTE_ON, NOTE_OFF, CONTROL) and not _is_pan(message)]
    seconds = np.array([message.seconds for message in sent])
    length_s = frames / SAMPLE_RATE_HZ
    if bend.needed:
        seconds, length_s = bend.warped_s(seconds), float(bend.warped_s(np.array(length_s)))
    at = np.floor(seconds * SAMPLE_RATE_HZ + 0.5)
    seconds = (at + (at % _LOST_FRAMES == 0) + 0.5) / SAMPLE_RATE_HZ  # the host rounds down to a frame
    events = [
        (bytes([kind, first, second]), moment)
        for moment, (_, kind, first, second, _) in zip(seconds.tolist(), sent, strict=True)
    ]
    for channels in (2, 1):
        try:
            played = plugin(
                events,
                duration=length_s,
                sample_rate=SAMPLE_RATE_HZ,
                num_channels=channels,
                buffer_size=_BUFFER_FRAMES,
                reset=reset,
            )
        except ValueError as error:
            if channels == 2 and "channel output" in str(error):
                continue
            raise BackendError(f"the plugin {name} refused to play: {error}") from error
        break
    if checked and (reason := unusable(played)):
        raise Unusable(name, reason)
    if bend.needed:
        return bend.read(np.broadcast_to(played.T, (played.shape[1], 2)), frames)
    out = np.zeros((frames, 2), dtype=np.float32)
    length = min(frames, played.shape[1])
    out[:length] = played[:, :length].T
    return out


def unusable(played: Samples) -> str:
    """Why what a plugin played, [channels, frames], is no sound that can be used; empty when it is.

    Clipped is what stays for _CLIPPED_RUN samples on its own highest value, at or above full scale.
    """
    top = highest(played)
    if not np.isfinite(top):
        return NOT_FINITE
    if top == 0.0:
        return SILENT
    if top >= 1.0:
        at_top = np.abs(played) == top
        run = at_top[:, : 1 - _CLIPPED_RUN].copy()
        for later in range(1, _CLIPPED_RUN):
            run &= at_top[:, later : at_top.shape[1] - _CLIPPED_RUN + 1 + later]
        if run.any():
            return CLIPPED
    return ""


def _is_pan(message: Message) -> bool:
    return message.kind == CONTROL and message.first in (PAN, PAN + LSB)


def pan_gains(performance: Performance) -> list[Gain]:
    """The performance's gains with its pan, for instruments that ignore it: constant power, 64 is the middle."""
    sides, level = np.ones(2), Gain(0.0, 1.0, 1.0)
    pan = {PAN: 64, PAN + LSB: 0}
    moves: list[Gain | Message] = [*performance.gains, *filter(_is_pan, performance.messages)]
    found = []
    for move in sorted(moves, key=lambda move: move.seconds):
        if isinstance(move, Gain):
            level = move
        else:
            pan[move.first] = move.second
            angle = np.clip((pan[PAN] + pan[PAN + LSB] / 128 - 1) / 126.0, 0.0, 1.0) * np.pi / 2
            sides = np.sqrt(2.0) * np.array([np.cos(angle), np.sin(angle)])
        found.append(Gain(move.seconds, level.left * float(sides[0]), level.right * float(sides[1])))
    return found
