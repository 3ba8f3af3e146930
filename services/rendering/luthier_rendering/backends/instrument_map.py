"""The instrument map: which instruments may play a program, within which ranges their sound is drawn.

A YAML file of the operator's; `instrument_map.yaml` beside this file is the packaged one:

    soundfonts:                       # further names: `packaged` is TimGM6mb, `default` what LUTHIER_SOUNDFONT says
      mono: {path: MuseScore_General.sf3, licence: MIT}       # in the folder LUTHIER_SOUNDFONT_PATH
      grand: {artifact: soundfonts/….sf2}                     # in the store, fetched at start
    effects:                          # of families (and Drums), where a candidate names none of its own
      Guitar:
        - {distortion: {drive_db: {uniform: [0, 12]}}, probability: 0.3}
        - {reverb: {room_size: {uniform: [0.1, 0.5]}}}
    room: {reverb: {room_size: {uniform: [0.1, 0.6]}, wet_level: {uniform: [0.02, 0.12]}}}
    humanise: {timing_ms: 8, velocity: 6}
    instruments:
      - for: [Piano, 24, Electric Guitar (clean), Drums]      # families, programs 0..127 or their names, Drums
        candidates:
          - {vst3: mda-vst3.vst3, plugin: mda Piano, preset: warm.vstpreset, weight: 2,
             parameters: {muffling_filter: {uniform: [0.3, 0.9]}, polyphony: {choice: [0, 0.5]}}}
          - {soundfont: packaged, preset: {bank: 0, program: 1}}

A range is a number, `uniform: [low, high]`, `log: [low, high]` (uniform in the logarithm) or `choice: [...]`. Of
several entries the first that names the program plays it, else the first that names its family; what none names, the
default SoundFont plays. Parameters of plugins are raw values 0..1 by pedalboard's names. Effects are applied in the
order of `effects.KINDS`.
"""

import math
import random
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from luthier.rendering.v1 import rendering_pb2 as pb
from luthier_kit.bounded_yaml import Faults, Node, read_yaml
from luthier_kit.rpc import is_blob_key
from luthier_music.instruments import DRUMS, FAMILIES, Instrument, program_of
from luthier_rendering.backends import effects
from luthier_rendering.backends.base import BackendError
from luthier_rendering.backends.soundfont_file import Preset
from luthier_rendering.humanise import MAX_TIMING_MS, MAX_VELOCITY, Humanise

DEFAULT_MAP: Final = Path(__file__).parent / "instrument_map.yaml"
PACKAGED, DEFAULT = "packaged", "default"
"""Names of SoundFonts that need no entry."""

_TOP: Final = ("soundfonts", "effects", "room", "humanise", "instruments")
_RANGES: Final = ("uniform", "log", "choice")
_FONT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_FONT_FILE: Final = re.compile(r"[^/\x00-\x1f]{1,251}\.(sf2|sf3|SF2|SF3)")
_BUNDLE: Final = re.compile(r"[^/\x00-\x1f]{1,250}\.vst3")
_PRESET_FILE: Final = re.compile(r"[^/\x00-\x1f]{1,245}\.vstpreset")
_NAME: Final = re.compile(r"[^\x00-\x1f]{1,255}")
_LICENCE: Final = re.compile(r"[ -~]{1,100}")
_MAX_WEIGHT: Final = 1000.0
_MAX_CHOICES: Final = 1000
MAX_EFFECTS: Final = 64  # of a stem
_NAMED_FONTS: Final = 10  # in a fault


@dataclass(frozen=True)
class Range:
    """What a value is drawn from: one value; two, between which it is uniform, or uniform in the logarithm; or one of
    several."""

    kind: Literal["fixed", "uniform", "log", "choice"]
    values: tuple[float, ...]

    def draw(self, draw: random.Random) -> float:
        if self.kind == "uniform":
            return draw.uniform(*self.values)
        if self.kind == "log":
            low, high = self.values
            return min(high, max(low, math.exp(draw.uniform(math.log(low), math.log(high)))))
        return draw.choice(self.values)

    @property
    def middle(self) -> float:
        """A value in the middle of it, the same each time."""
        ordered = sorted(self.values)
        if self.kind == "uniform":
            return (ordered[0] + ordered[1]) / 2
        return math.sqrt(ordered[0] * ordered[1]) if self.kind == "log" else ordered[len(ordered) // 2]

    @property
    def varies(self) -> bool:
        return len(set(self.values)) > 1


@dataclass(frozen=True)
class EffectChoice:
    """An effect that is applied with a probability, its parameters within ranges."""

    name: str
    values: dict[str, Range]
    probability: float = 1.0

    def draw(self, draw: random.Random) -> pb.Effect | None:
        """All its values, those that the map does not name at their defaults; or None. It takes as many random numbers
        either way."""
        chosen = draw.random() < self.probability
        bounds = effects.KINDS[self.name].parameters
        values = {
            name: self.values[name].draw(draw) if name in self.values else bound.default
            for name, bound in bounds.items()
        }
        return pb.Effect(name=self.name, values=values) if chosen else None


@dataclass(frozen=True)
class FontFile:
    """Where a SoundFont is: a file in the folder of SoundFonts, or the key of an artifact; and its licence."""

    path: str = ""
    artifact: str = ""
    licence: str = ""


@dataclass(frozen=True)
class FontChoice:
    """A SoundFont of the map by its name, playing a preset, or (None) what the song asks for."""

    font: str
    preset: Preset | None = None


@dataclass(frozen=True)
class PluginChoice:
    """A plugin: a bundle's file name, the plugin in it (empty = its only one), a preset's file name (empty = none)."""

    bundle: str
    plugin: str = ""
    preset: str = ""
    parameters: dict[str, Range] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.plugin or self.bundle

    @property
    def varies(self) -> bool:
        """Whether a second draw can be another one."""
        return any(one.varies for one in self.parameters.values())


@dataclass(frozen=True)
class Candidate:
    """One of the instruments of an entry; `effects` None = those of the family; `where` it stands, for messages."""

    instrument: FontChoice | PluginChoice
    weight: float
    effects: tuple[EffectChoice, ...] | None
    where: str


@dataclass(frozen=True)
class Entry:
    """Candidates, and what they play."""

    programs: frozenset[int]
    families: frozenset[str]  # and Drums
    candidates: tuple[Candidate, ...]
    where: str


@dataclass(frozen=True)
class InstrumentMap:
    """A map that makes sense in itself: whether its files are there is another question."""

    fonts: dict[str, FontFile]
    effects: dict[str, tuple[EffectChoice, ...]]  # by family, and Drums
    room: EffectChoice | None
    humanise: Humanise
    entries: tuple[Entry, ...]

    def entry(self, who: Instrument) -> int | None:
        """The number of the entry that plays an instrument: the first that names its program, else its family."""
        by_program = [n for n, one in enumerate(self.entries) if not who.is_drum and who.program in one.programs]
        by_family = [n for n, one in enumerate(self.entries) if who.family in one.families]
        return next(iter([*by_program, *by_family]), None)

    def effects_of(self, who: Instrument, candidate: Candidate | None) -> tuple[EffectChoice, ...]:
        """The effects of an instrument that a candidate plays, or (None) the default SoundFont."""
        if candidate and candidate.effects is not None:
            return candidate.effects
        return self.effects.get(who.family, ())


def read_map(text: str) -> InstrumentMap:
    """Parse and check a map. BackendError names everything that is wrong with it, each with its line."""
    faults = Faults()
    root = read_yaml(text.encode(errors="surrogateescape"), faults)
    found = _map(root, faults) if root else None
    if faults.said or found is None:
        more = faults.count - len(faults.said)
        lines = [*faults.said, *([f"and {more} more"] if more > 0 else [])]
        raise BackendError("the instrument map:\n" + "\n".join(lines))
    return found


def _map(root: Node, faults: Faults) -> InstrumentMap:
    top = faults.members(root, _TOP, needed=["instruments"])
    fonts = _fonts(top["soundfonts"], faults) if "soundfonts" in top else {}
    families = {}
    if "effects" in top:
        chains = faults.members(top["effects"], (*FAMILIES, DRUMS))
        families = {name: _effects(chain, faults) for name, chain in chains.items()}
    room = _effect(top["room"], faults, only="reverb") if "room" in top else None
    humanise = Humanise()
    if "humanise" in top:
        said = faults.members(top["humanise"], ("timing_ms", "velocity"))
        humanise = Humanise(
            faults.within(said["timing_ms"], 0, MAX_TIMING_MS) if "timing_ms" in said else 0.0,
            faults.within(said["velocity"], 0, MAX_VELOCITY) if "velocity" in said else 0.0,
        )
    nodes = faults.list(top["instruments"], "entries") if "instruments" in top else []
    entries = tuple(_entry(node, fonts, faults) for node in nodes)
    return InstrumentMap(fonts, families, room, humanise, entries)


def _fonts(node: Node, faults: Faults) -> dict[str, FontFile]:
    if not node.members:
        faults.add(node, f"must be a mapping of names to files, got {node}")
        return {}
    found = {}
    for name, file in node.members.items():
        if not _FONT_NAME.fullmatch(name) or name in (PACKAGED, DEFAULT):
            faults.add(file, f"a name has letters, digits, _ . - only, at most 64, and is not {PACKAGED} or {DEFAULT}")
        said = faults.members(file, ("path", "artifact", "licence"))
        if len(said.keys() & {"path", "artifact"}) != 1:
            faults.add(file, "must have path or artifact, one of them")
        path = artifact = ""
        if "path" in said:
            path = faults.string(said["path"], _FONT_FILE, "name an .sf2 or .sf3 file inside LUTHIER_SOUNDFONT_PATH")
        if (key := said.get("artifact")) is not None:
            artifact = faults.string(key, _NAME, "be the key of an artifact")
            if artifact and not (is_blob_key(artifact) and artifact.endswith((".sf2", ".sf3"))):
                faults.add(key, f"must be a key such as soundfonts/<sha256>.sf2, got {key}")
        licence = faults.string(said["licence"], _LICENCE, "be a short text") if "licence" in said else ""
        found[name] = FontFile(path, artifact, licence)
    return found


def _entry(node: Node, fonts: dict[str, FontFile], faults: Faults) -> Entry:
    if node.members and "bundle" in node.members:
        faults.add(
            node,
            "is the form of before: instead of {bundle: X.vst3, plugin: P, programs: [0], families: [Organ]} "
            "it is now {for: [0, Organ], candidates: [{vst3: X.vst3, plugin: P}]}",
        )
        return Entry(frozenset(), frozenset(), (), node.path)
    said = faults.members(node, ("for", "candidates"), needed=["for", "candidates"])
    programs, families = set(), set()
    if "for" in said:
        named = said["for"]
        for one in [named] if named.text is not None else faults.list(named, "families, programs, names or Drums"):
            program, family = _instrument(one)
            if program is not None:
                programs.add(program)
            elif family:
                families.add(family)
            else:
                known = f"a program 0..127, its General MIDI name, a family ({', '.join(FAMILIES)}) or {DRUMS}"
                faults.add(one, f"must be {known}, got {one}")
    nodes = faults.list(said["candidates"], "candidates") if "candidates" in said else []
    candidates = tuple(_candidate(one, fonts, faults) for one in nodes)
    return Entry(frozenset(programs), frozenset(families), candidates, node.path)


def _instrument(node: Node) -> tuple[int | None, str]:
    """The program or the family that an item names; neither for none."""
    number = node.number
    if number is not None:
        return (int(number), "") if number == int(number) and 0 <= number <= 127 else (None, "")
    if node.text in (*FAMILIES, DRUMS):
        return None, node.text
    try:
        return program_of(node.text or ""), ""
    except KeyError:
        return None, ""


def _candidate(node: Node, fonts: dict[str, FontFile], faults: Faults) -> Candidate:
    said = faults.members(node, ("vst3", "plugin", "soundfont", "preset", "parameters", "effects", "weight"))
    chain = _effects(said["effects"], faults, may_be_empty=True) if "effects" in said else None
    weight = 1.0
    if "weight" in said:
        weight = faults.within(said["weight"], 0, _MAX_WEIGHT)
        if weight == 0 and said["weight"].number == 0:
            faults.add(said["weight"], "must be more than 0")
    if len(said.keys() & {"vst3", "soundfont"}) != 1:
        faults.add(node, "must have vst3 or soundfont, one of them")
        return Candidate(FontChoice(PACKAGED), weight, chain, node.path)
    instrument = _plugin(said, faults) if "vst3" in said else _font(said, fonts, faults)
    return Candidate(instrument, weight, chain, node.path)


def _plugin(said: dict[str, Node], faults: Faults) -> PluginChoice:
    bundle = faults.string(said["vst3"], _BUNDLE, "name a bundle inside LUTHIER_VST3_PATH, such as Piano.vst3")
    plugin = faults.string(said["plugin"], _NAME, "be the name of a plugin in the bundle") if "plugin" in said else ""
    preset = ""
    if "preset" in said:
        preset = faults.string(said["preset"], _PRESET_FILE, "name a .vstpreset file inside LUTHIER_VST3_PATH")
    parameters: dict[str, Range] = {}
    if "parameters" in said:
        node = said["parameters"]
        if node.members is None:
            faults.add(node, f"must be a mapping of parameters, got {node}")
        for name, value in (node.members or {}).items():
            if not _NAME.fullmatch(name):
                faults.add(value, "a parameter's name has 1 to 255 characters")
            parameters[name] = _range(value, 0.0, 1.0, faults)
    return PluginChoice(bundle, plugin, preset, parameters)


def _font(said: dict[str, Node], fonts: dict[str, FontFile], faults: Faults) -> FontChoice:
    names = (PACKAGED, DEFAULT, *fonts)
    name = said["soundfont"].text
    if name not in names:
        more = ", …" if len(names) > _NAMED_FONTS else ""
        known = ", ".join(names[:_NAMED_FONTS]) + more
        faults.add(said["soundfont"], f"must be one of {known}, got {said['soundfont']}")
        name = PACKAGED
    for only_plugins in ("plugin", "parameters"):
        if only_plugins in said:
            faults.add(said[only_plugins], "is for plugins: a SoundFont has none")
    preset = None
    if "preset" in said:
        which = faults.members(said["preset"], ("bank", "program"), needed=["bank", "program"])
        if len(which) == 2:
            preset = Preset(faults.whole(which["bank"], 0, 128), faults.whole(which["program"], 0, 127))
    return FontChoice(name, preset)


def _effects(node: Node, faults: Faults, *, may_be_empty: bool = False) -> tuple[EffectChoice, ...]:
    """A chain, in the order in which effects are applied."""
    if may_be_empty and node.items == []:
        return ()
    chain = faults.list(node, "effects")
    if len(chain) > MAX_EFFECTS:
        faults.add(node, f"must have at most {MAX_EFFECTS} effects, got {len(chain)}")
        return ()
    found = [_effect(one, faults) for one in chain]
    return tuple(sorted((one for one in found if one), key=lambda one: effects.ORDER[one.name]))


def _effect(node: Node, faults: Faults, *, only: str = "") -> EffectChoice | None:
    known = (only,) if only else (*effects.KINDS, "probability")
    said = faults.members(node, known)
    names = [name for name in said if name != "probability"]
    if len(names) != 1:
        if len(said) == len(node.members or ()):  # else what is not known was the fault
            faults.add(node, f"must be one effect: {', '.join(name for name in known if name != 'probability')}")
        return None
    (name,) = names
    bounds = effects.KINDS[name].parameters
    values = {
        value: _range(member, bounds[value].low, bounds[value].high, faults)
        for value, member in faults.members(said[name], tuple(bounds)).items()
    }
    return EffectChoice(name, values, faults.within(said["probability"], 0, 1) if "probability" in said else 1.0)


def _range(node: Node, low: float, high: float, faults: Faults) -> Range:
    """A range whose every value lies between `low` and `high`."""
    if node.members is None:
        return Range("fixed", (faults.within(node, low, high),))
    said = faults.members(node, _RANGES)
    if len(node.members) != 1:
        faults.add(node, "must be a number, or one of uniform, log and choice")
    if len(said) != 1:
        return Range("fixed", (low,))
    ((kind, of),) = said.items()
    values = tuple(faults.within(one, low, high) for one in faults.list(of, "numbers"))
    if kind == "choice":
        if len(values) > _MAX_CHOICES:
            faults.add(of, f"must have at most {_MAX_CHOICES} values")
        return Range("choice", values or (low,))
    if len(values) != 2 or values[0] > values[1]:
        faults.add(of, "must be two numbers, the lower one first")
        return Range("fixed", (low,))
    if kind == "log" and values[0] <= 0:
        faults.add(of, "must be above 0: a logarithm has no other")
        return Range("fixed", (low,))
    return Range("log" if kind == "log" else "uniform", values)
