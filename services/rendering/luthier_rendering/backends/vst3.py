"""VST3 instruments by pedalboard, where a plugin map names one; everything else, and drums, by the SoundFont.

Only ever used on the main thread of a child process (see worker.py): plugins crash, hang, print and exit. Traps
that this file avoids were measured with pedalboard 0.9.26: loading probes every parameter, so those that stand for
MIDI controllers are excluded; state leaks between songs without `reset=True`; the buffer size changes the bits;
a silent patch stalls for the initialisation timeout.
"""

import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from luthier_music.audio import SAMPLE_RATE_HZ, Samples, peak
from luthier_music.instruments import instrument
from luthier_rendering import smf
from luthier_rendering.backends import soundfont
from luthier_rendering.backends.base import BackendConfig, BackendError, Playable
from luthier_rendering.channel_strip import STRIP_CONTROLS, channel_strip
from luthier_rendering.performance import Message, Performance
from luthier_rendering.plugin_map import DEFAULT_MAP, PluginChoice, read_map

_BUFFER_FRAMES: Final = 512
_INITIALIZATION_TIMEOUT_S: Final = 0.5
_CONTROLLER_PARAMETERS: Final = re.compile(r"MIDI (Ch\. \d+ )?(CC|Pitch|Aftertouch|Program|Channel)", re.IGNORECASE)
_READ_BACK_TOLERANCE: Final = 0.01  # stepped parameters snap


class Vst3Backend:
    """Plays a performance with the plugin that the map names for its program."""

    def __init__(self, folder: Path, choices: list[PluginChoice], fallback: soundfont.SoundFontBackend) -> None:
        self._folder, self._fallback = folder, fallback
        self._choices = [choice for choice in choices if (folder / choice.bundle).exists()]
        absent = sorted({choice.bundle for choice in choices} - {choice.bundle for choice in self._choices})
        self._faults = [f"{bundle} is in the plugin map but not in the plugin folder" for bundle in absent]
        self._plugins: dict[int, Any] = {}
        self._digests = {choice.bundle: bundle_digest(folder / choice.bundle) for choice in self._choices}

    def render(self, performance: Performance, frames: int) -> tuple[Samples, str]:
        choice = next((c for c in self._choices if c.plays(performance.instrument)), None)
        if choice is None:
            return self._fallback.render(performance, frames)
        name = choice.plugin or choice.bundle
        messages = [m for m in performance.messages if not (m[1] == smf.CONTROL and m[2] in STRIP_CONTROLS)]
        samples = _play(self._plugin(choice), name, messages, frames)
        if not np.isfinite(peak(samples)):
            raise BackendError(f"the plugin {name} played NaN or infinity")
        if not samples.any():
            raise BackendError(f"the plugin {name} played silence for {performance.instrument.name}")
        return channel_strip(samples, performance.messages), name

    def _plugin(self, choice: PluginChoice) -> Any:
        key = self._choices.index(choice)  # the same plugin with other parameters is another instrument
        if key not in self._plugins:
            self._plugins[key] = _load(self._folder / choice.bundle, choice)
        return self._plugins[key]

    def playables(self) -> list[Playable]:
        played = [
            (program, next((c for c in self._choices if c.plays(instrument(program))), None)) for program in range(128)
        ]
        return [
            Playable("vst3", program, False, choice.plugin or choice.bundle, self._digests[choice.bundle])
            for program, choice in played
            if choice
        ]

    def digests(self) -> dict[str, str]:
        return {**self._fallback.digests(), **self._digests}

    def faults(self) -> list[str]:
        return self._faults


def _load(path: Path, choice: PluginChoice) -> Any:
    """Load one plugin and set its parameters, reading each back."""
    from pedalboard import VST3Plugin, _pedalboard

    _pedalboard.PARAMETER_NAME_REGEXES_TO_IGNORE.add(_CONTROLLER_PARAMETERS)
    try:
        plugin: Any = VST3Plugin(  # its parameters are attributes made at run time
            str(path), plugin_name=choice.plugin or None, initialization_timeout=_INITIALIZATION_TIMEOUT_S
        )
    except (ImportError, ValueError, RuntimeError) as error:
        raise BackendError(f"the plugin {choice.plugin or path.name} cannot be loaded: {error}") from error
    if not plugin.is_instrument:
        raise BackendError(f"the plugin {choice.plugin or path.name} is an effect, not an instrument")
    for name, value in choice.parameters.items():
        if name not in plugin.parameters:
            raise BackendError(f"the plugin {plugin.name} has no parameter {name}")
        plugin.parameters[name].raw_value = value
        if abs(plugin.parameters[name].raw_value - value) > _READ_BACK_TOLERANCE:
            raise BackendError(f"the plugin {plugin.name} did not take {value} for {name}")
    return plugin


def _play(plugin: Any, name: str, messages: list[Message], frames: int) -> Samples:
    """Samples [frames, 2]; a mono instrument sounds on both sides."""
    events = [(_bytes(kind, first, second), seconds) for seconds, kind, first, second in messages]
    for channels in (2, 1):
        try:
            played = plugin(
                events,
                duration=frames / SAMPLE_RATE_HZ,
                sample_rate=SAMPLE_RATE_HZ,
                num_channels=channels,
                buffer_size=_BUFFER_FRAMES,
                reset=True,
            )
        except ValueError as error:
            if channels == 2 and "channel output" in str(error):
                continue
            raise BackendError(f"the plugin {name} refused to play: {error}") from error
        break
    out = np.zeros((frames, 2), dtype=np.float32)
    length = min(frames, played.shape[1])
    out[:length] = played[:, :length].T
    return out


def _bytes(kind: int, first: int, second: int) -> bytes:
    return bytes([kind, first, second])


def bundle_digest(bundle: Path) -> str:
    """SHA-256 over the names and bytes of a bundle's files."""
    digest = hashlib.sha256()
    for path in sorted(p for p in bundle.rglob("*") if p.is_file()) or [bundle]:
        digest.update(f"{path.relative_to(bundle)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def open_backend(config: BackendConfig) -> Vst3Backend:
    """The back end of the configured plugin folder. BackendError when there is none or the map is wrong."""
    folder = Path(config.vst3_path)
    if not config.vst3_path or not folder.is_dir():
        raise BackendError(f"the plugin folder {config.vst3_path or '(none set)'} does not exist")
    choices = read_map(config.vst3_map or DEFAULT_MAP.read_text())
    return Vst3Backend(folder, choices, soundfont.open_backend(config))
