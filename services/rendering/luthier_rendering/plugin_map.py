"""Which VST3 instrument plays which General MIDI programs: a small JSON file of the operator's.

    {"instruments": [
        {"bundle": "mda-vst3.vst3", "plugin": "mda Piano", "programs": [0, 1, 2, 3],
         "parameters": {"muffling_filter": 0.8}},
        {"bundle": "Kars.vst3", "families": ["Guitar"]}]}

The first entry that names a program or its family plays it; what none names, and all drums, stay with the
SoundFont. `parameters` are raw values 0..1 by pedalboard's parameter names.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luthier_music.instruments import FAMILIES, Instrument
from luthier_rendering.backends.base import BackendError

DEFAULT_MAP = Path(__file__).parent / "vst3_map.json"
_KEYS = {"bundle", "plugin", "programs", "families", "parameters"}


@dataclass(frozen=True)
class PluginChoice:
    """One entry: a bundle's file name, the plugin in it (empty = its only one), and what it plays and how."""

    bundle: str
    plugin: str = ""
    programs: tuple[int, ...] = ()
    families: tuple[str, ...] = ()
    parameters: dict[str, float] = field(default_factory=dict)

    def plays(self, who: Instrument) -> bool:
        return not who.is_drum and (who.program in self.programs or who.family in self.families)


def read_map(text: str) -> list[PluginChoice]:
    """Parse and check a map. BackendError names the entry and what is wrong with it."""
    try:
        entries = json.loads(text)["instruments"]
    except (ValueError, KeyError, TypeError) as error:
        raise BackendError(f'the plugin map is not JSON with a list "instruments": {error}') from error
    return [_choice(number, entry) for number, entry in enumerate(entries)]


def _choice(number: int, entry: Any) -> PluginChoice:
    def check(ok: bool, must: str) -> None:
        if not ok:
            raise BackendError(f"the plugin map's entry {number} {must}")

    check(isinstance(entry, dict) and not set(entry) - _KEYS, f"must be an object of {', '.join(sorted(_KEYS))}")
    bundle, programs = entry.get("bundle"), tuple(entry.get("programs", ()))
    families, parameters = tuple(entry.get("families", ())), dict(entry.get("parameters", {}))
    named = isinstance(bundle, str) and bundle == Path(bundle).name and bundle.endswith(".vst3")
    check(named, "must name a bundle, e.g. Piano.vst3, inside the plugin folder")
    check(all(isinstance(p, int) and 0 <= p <= 127 for p in programs), "must have programs from 0 to 127")
    check(set(families) <= set(FAMILIES), f"must have families of: {', '.join(FAMILIES)}")
    values = parameters.values()
    check(all(isinstance(v, int | float) and 0 <= v <= 1 for v in values), "must have parameters from 0 to 1")
    return PluginChoice(str(bundle), str(entry.get("plugin", "")), programs, families, parameters)
