"""VST3 instruments by pedalboard, where a plugin map names one; everything else, and drums, by the SoundFont.

Which instrument plays which General MIDI programs is a small JSON file of the operator's:

    {"instruments": [
        {"bundle": "mda-vst3.vst3", "plugin": "mda Piano", "programs": [0, 1, 2, 3],
         "parameters": {"muffling_filter": 0.8}},
        {"bundle": "Kars.vst3", "families": ["Guitar"]}]}

The first entry that names a program or its family plays it; what none names, and all drums, stay with the SoundFont.
`parameters` are raw values 0..1 by pedalboard's parameter names.

Only ever used on the main thread of a child process: plugins crash, hang, print and exit. Traps that this file avoids
were measured with pedalboard 0.9.26: loading probes every parameter, so those that stand for MIDI controllers are
excluded; state leaks between songs without `reset=True`; the buffer size changes the bits; a silent patch stalls for
the initialisation timeout, as pedalboard tries each with a middle C, which mda DX10 and JX10 then play once more, with
the first note of the song; mda's instruments lose events on every sixteenth frame of a buffer.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from luthier_kit.bounded_json import read_json
from luthier_music.audio import SAMPLE_RATE_HZ, Samples, peak
from luthier_music.instruments import FAMILIES, Instrument, instrument
from luthier_rendering.backends import soundfont
from luthier_rendering.backends.base import MAX_MAP_BYTES, BackendConfig, BackendError, Playable
from luthier_rendering.backends.strip import Bend, apply_gains
from luthier_rendering.controllers import LSB, PAN
from luthier_rendering.performance import Gain, Message, Performance
from luthier_rendering.smf import CONTROL, NOTE_OFF, NOTE_ON

DEFAULT_MAP: Final = Path(__file__).parents[1] / "vst3_map.json"
_ENTRY_KEYS: Final = {"bundle", "plugin", "programs", "families", "parameters"}
_MAP_DEPTH, _MAP_VALUES = 4, 100_000  # how deep a map nests, and what it may hold
_NAME_LENGTH: Final = 255
_BUFFER_FRAMES: Final = 512
_INITIALIZATION_TIMEOUT_S: Final = 0.5
_CONTROLLER_PARAMETERS: Final = re.compile(r"MIDI (Ch\. \d+ )?(CC|Pitch|Aftertouch|Program|Channel)", re.IGNORECASE)
_READ_BACK_TOLERANCE: Final = 0.01  # stepped parameters snap
_LOST_FRAMES: Final = 16  # mda's instruments compute so many at a time, and lose events between two of these
_PROBED_KEYS, _PROBED_VELOCITIES = (45, 51, 57, 63, 69, 75), (32, 48, 64, 80, 96, 112, 127)
_PROBE_HELD_S, _PROBE_S, _PROBE_REST_S = 0.5, 0.75, 1.0  # a note, from one to the next, and more between two keys
_UNMOVED: Final = 0.5  # what rises by less has steps or noise, no curve


class Loaded(NamedTuple):
    """A plugin and, for each velocity 0..127, the one that it is sent, so that its amplitude follows the square."""

    plugin: Any  # its parameters are attributes made at run time
    velocities: list[int]


@dataclass(frozen=True)
class PluginChoice:
    """One entry of the map: a bundle's file name, the plugin in it (empty = its only one), what it plays and how."""

    bundle: str
    plugin: str = ""
    programs: tuple[int, ...] = ()
    families: tuple[str, ...] = ()
    parameters: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.plugin or self.bundle

    def plays(self, who: Instrument) -> bool:
        return not who.is_drum and (who.program in self.programs or who.family in self.families)


def read_map(text: str) -> list[PluginChoice]:
    """Parse and check a map. BackendError names the entry and what is wrong with it, or the bound that it breaks."""
    try:
        read = read_json(text.encode(), max_bytes=MAX_MAP_BYTES, max_depth=_MAP_DEPTH, max_values=_MAP_VALUES)
    except ValueError as error:
        raise BackendError(f"the plugin map: {error}") from error
    entries = read.get("instruments") if isinstance(read, dict) else None
    if not isinstance(entries, list):
        raise BackendError('the plugin map must be an object with a list "instruments"')
    return [_choice(f"the plugin map's instruments[{number}]", entry) for number, entry in enumerate(entries)]


def _choice(where: str, entry: Any) -> PluginChoice:
    def check(ok: bool, field: str, must: str) -> None:
        if not ok:
            raise BackendError(f"{where}{field} must {must}")

    keys = ", ".join(sorted(_ENTRY_KEYS))
    check(isinstance(entry, dict) and set(entry) <= _ENTRY_KEYS, "", f"be an object of {keys}")
    bundle, plugin = entry.get("bundle"), entry.get("plugin", "")
    named = isinstance(bundle, str) and len(bundle) <= _NAME_LENGTH and bundle.endswith(".vst3")
    check(named and bundle == Path(bundle).name, ".bundle", "name a bundle inside the plugin folder, e.g. Piano.vst3")
    check(
        isinstance(plugin, str) and len(plugin) <= _NAME_LENGTH,
        ".plugin",
        f"be a name of at most {_NAME_LENGTH} characters",
    )
    programs, families = entry.get("programs", []), entry.get("families", [])
    numbers = isinstance(programs, list) and all(type(one) is int and 0 <= one <= 127 for one in programs)
    check(numbers, ".programs", "be a list of programs from 0 to 127")
    known = isinstance(families, list) and all(isinstance(one, str) and one in FAMILIES for one in families)
    check(known, ".families", f"be a list of: {', '.join(FAMILIES)}")
    parameters = entry.get("parameters", {})
    values: list[Any] = [*parameters.values()] if isinstance(parameters, dict) else [None]
    check(all(type(one) in (int, float) and 0 <= one <= 1 for one in values), ".parameters", "be numbers from 0 to 1")
    return PluginChoice(bundle, plugin, tuple(programs), tuple(families), parameters)


@cache
def open_backend(config: BackendConfig) -> "Vst3Backend":
    """The back end of the configured plugin folder. BackendError when there is none or the map is wrong."""
    folder = Path(config.vst3_path)
    if not config.vst3_path or not folder.is_dir():
        raise BackendError(f"the plugin folder {config.vst3_path or '(none set)'} does not exist")
    choices = read_map(config.vst3_map or DEFAULT_MAP.read_text())
    return Vst3Backend(folder, choices, soundfont.open_backend(config))


class Vst3Backend:
    """Plays a performance with the plugin that the map names for its program."""

    def __init__(self, folder: Path, choices: list[PluginChoice], fallback: soundfont.SoundFontBackend) -> None:
        self._folder, self._fallback = folder, fallback
        self._choices = [choice for choice in choices if (folder / choice.bundle).exists()]
        absent = sorted({choice.bundle for choice in choices} - {choice.bundle for choice in self._choices})
        self._faults = [f"{bundle} is in the plugin map but not in the plugin folder" for bundle in absent]
        self._plugins: dict[int, Loaded] = {}  # by index: the same plugin with other parameters is another instrument
        self._digests = {choice.bundle: bundle_digest(folder / choice.bundle) for choice in self._choices}

    def render(self, performance: Performance, frames: int) -> tuple[Samples, str]:
        index = self._index(performance.instrument)
        if index is None:
            return self._fallback.render(performance, frames)
        choice = self._choices[index]
        try:
            if index not in self._plugins:
                plugin = _load(self._folder / choice.bundle, choice)
                self._plugins[index] = Loaded(plugin, velocities(velocity_exponent(plugin, choice.name)))
            plugin, sent = self._plugins[index]
            messages = [
                one._replace(second=sent[one.second]) if one.kind == NOTE_ON else one for one in performance.messages
            ]
            samples = _play(plugin, choice.name, messages, frames)
            if not np.isfinite(peak(samples)):
                raise BackendError(f"the plugin {choice.name} played NaN or infinity")
            if not samples.any():
                raise BackendError(f"the plugin {choice.name} played silence for {performance.instrument.name}")
        except BackendError:
            self._plugins.pop(index, None)  # the next song gets a new one
            raise
        return apply_gains(samples, pan_gains(performance)), choice.name

    def _index(self, who: Instrument) -> int | None:
        return next((index for index, choice in enumerate(self._choices) if choice.plays(who)), None)

    def playables(self) -> list[Playable]:
        played = ((program, self._index(instrument(program))) for program in range(128))
        found = ((program, self._choices[index]) for program, index in played if index is not None)
        return [Playable("vst3", program, False, one.name, self._digests[one.bundle]) for program, one in found]

    def digests(self) -> dict[str, str]:
        return {**self._fallback.digests(), **self._digests}

    def faults(self) -> list[str]:
        return self._faults


def bundle_digest(bundle: Path) -> str:
    """SHA-256 over the names and bytes of a bundle's files."""
    digest = hashlib.sha256()
    for path in sorted(p for p in bundle.rglob("*") if p.is_file()) or [bundle]:
        digest.update(f"{path.relative_to(bundle)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _load(path: Path, choice: PluginChoice) -> Any:
    """Load one plugin, without pedalboard's trial note where the plugin plays that with the first event of a song."""
    plugin = _opened(path, choice, _INITIALIZATION_TIMEOUT_S)
    ends_nothing = [Message(0.0, NOTE_OFF, 0, 0)]
    if _play(plugin, choice.name, ends_nothing, SAMPLE_RATE_HZ).any():
        plugin = _opened(path, choice, 0.0)
        _play(plugin, choice.name, [], SAMPLE_RATE_HZ, reset=False)  # its state lacks the parameters until it played
    return plugin


def _opened(path: Path, choice: PluginChoice, initialization_timeout_s: float) -> Any:
    """Open one plugin and set its parameters, reading each back."""
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
    for name, value in choice.parameters.items():
        if name not in plugin.parameters:
            raise BackendError(f"the plugin {plugin.name} has no parameter {name}")
        plugin.parameters[name].raw_value = value
        if abs(plugin.parameters[name].raw_value - value) > _READ_BACK_TOLERANCE:
            raise BackendError(f"the plugin {plugin.name} did not take {value} for {name}")
    return plugin


def velocity_exponent(plugin: Any, name: str) -> float:
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


def _play(plugin: Any, name: str, messages: Sequence[Message], frames: int, *, reset: bool = True) -> Samples:
    """Samples [frames, 2]; a mono instrument sounds on both sides. What the channel strip plays is left out."""
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
    if bend.needed:
        return bend.read(np.broadcast_to(played.T, (played.shape[1], 2)), frames)
    out = np.zeros((frames, 2), dtype=np.float32)
    length = min(frames, played.shape[1])
    out[:length] = played[:, :length].T
    return out


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
