"""Instruments drawn from the instrument map: SoundFonts and VST3 plugins, within the ranges that the map gives.

What comes out silent, clipped or not finite is drawn again, at most MAX_DRAWS times; a candidate that fails
MAX_FAILURES times, or once where nothing of it is drawn, is left out of the next draws. What failed is counted in the
record. A fault of the map itself (a parameter that a plugin does not have) is no matter of luck: it fails the song.
"""

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from luthier.rendering.v1 import rendering_pb2 as pb
from luthier_music.audio import Samples, peak
from luthier_music.instruments import Instrument, instrument
from luthier_rendering.backends.base import (
    NOT_FINITE,
    SILENT,
    BackendConfig,
    BackendError,
    Drawn,
    Playable,
    UnknownSound,
    Unusable,
)
from luthier_rendering.backends.instrument_map import (
    DEFAULT,
    DEFAULT_MAP,
    PACKAGED,
    Candidate,
    EffectChoice,
    FontChoice,
    InstrumentMap,
    PluginChoice,
    read_map,
)
from luthier_rendering.backends.soundfont import PACKAGED_LICENCE, SOUNDFONT, SoundFontFile, font_licences, open_font
from luthier_rendering.backends.soundfont_file import Preset
from luthier_rendering.backends.vst3 import VST3, Plugins, bundle_digest
from luthier_rendering.humanise import Humanise
from luthier_rendering.performance import Performance

MAP: Final = "map"
MAX_DRAWS, MAX_FAILURES = 8, 3


class MapBackend:
    """Plays each performance with a candidate of the map, drawn by weight; the default SoundFont plays the rest."""

    def __init__(self, chosen: InstrumentMap, digest: str, files: "MapFiles") -> None:
        """`digest` is the map's SHA-256."""
        self._map, self._digest, self._files = chosen, digest, files
        self._plugins = Plugins(files.plugin_folder)
        self._here = [[one for one in entry.candidates if not files.why_not(one)] for entry in chosen.entries]

    def render(self, performance: Performance, frames: int, draw: random.Random) -> Drawn:
        own_draw = random.Random(draw.getrandbits(64))  # effects do not depend on how often an instrument was drawn
        left = self._candidates(performance.instrument)
        failures: Counter[str] = Counter()  # by where candidates stand
        redraws: Counter[tuple[str, str]] = Counter()
        played, candidate = None, None
        if not left:
            played = self._play_font(self._files.fonts[DEFAULT], None, performance, frames)
        while left and played is None and redraws.total() < MAX_DRAWS:
            (candidate,) = draw.choices(left, [one.weight for one in left])
            try:
                played = self._played(candidate, performance, frames, draw)
            except Unusable as error:
                redraws[error.source, error.reason] += 1
                failures[candidate.where] += 1
                if failures[candidate.where] >= MAX_FAILURES or not _varies(candidate):
                    left = [one for one in left if one is not candidate]
        if played is None:
            tried = [one for one in self._candidates(performance.instrument) if failures[one.where]]
            played, candidate = self._silence(tried, performance, frames)
        if played is None:
            said = ", ".join(f"{source} was {reason} ({count}x)" for (source, reason), count in redraws.items())
            raise BackendError(f"nothing could play {performance.instrument.name}: {said}")
        sound = played.sound
        for effect in _drawn(self._map.effects_of(performance.instrument, candidate), own_draw):
            sound.effects.append(effect)
        for (source, reason), count in redraws.items():
            sound.redraws.add(source=source, reason=reason, count=count)
        return played

    def _candidates(self, who: Instrument) -> list[Candidate]:
        """The candidates that can play an instrument: of SoundFonts those that have its preset."""
        number = self._map.entry(who)
        return [one for one in self._here[number] if self._has(one, who)] if number is not None else []

    def _has(self, candidate: Candidate, who: Instrument) -> bool:
        choice = candidate.instrument
        return not isinstance(choice, FontChoice) or bool(choice.preset) or self._files.fonts[choice.font].has(who)

    def _played(self, candidate: Candidate, performance: Performance, frames: int, draw: random.Random) -> Drawn:
        """One draw of a candidate. Unusable for what it played."""
        choice = candidate.instrument
        if isinstance(choice, FontChoice):
            played = self._play_font(self._files.fonts[choice.font], choice.preset, performance, frames)
            if not played.samples.any():
                raise Unusable(played.sound.source, SILENT)
            return played
        # by name, so that the order of the file does not matter
        values = {name: choice.parameters[name].draw(draw) for name in sorted(choice.parameters)}
        sounded = self._plugins.play(choice, values, performance, frames)
        sound = pb.Sound(
            backend=VST3,
            source=choice.name,
            digest=self._files.bundles[choice.bundle],
            preset=choice.preset,
            preset_digest=self._files.presets.get(choice.preset, ""),
            parameters=values,
            velocity_exponent=sounded.velocity_exponent,
            repeatable=not sounded.not_repeatable,
            not_repeatable=sounded.not_repeatable,
        )
        return Drawn(sounded.samples, sound)

    def _play_font(self, font: SoundFontFile, preset: Preset | None, performance: Performance, frames: int) -> Drawn:
        preset = preset or font.preset(performance)
        samples = font.play(performance, frames, preset)
        if not np.isfinite(peak(samples)):
            raise Unusable(font.name, NOT_FINITE)
        return Drawn(samples, font.record(preset))

    def _silence(
        self, tried: Sequence[Candidate], performance: Performance, frames: int
    ) -> tuple[Drawn | None, Candidate | None]:
        """The silence of a SoundFont that was tried: it has no sample for these keys, which is the song's affair."""
        for one in tried:
            if isinstance(one.instrument, FontChoice):
                choice = one.instrument
                return self._play_font(self._files.fonts[choice.font], choice.preset, performance, frames), one
        return None, None

    def render_again(self, performance: Performance, frames: int, sound: pb.Sound) -> Samples:
        for font in self._files.fonts.values():
            if (sound.backend, sound.digest) == (SOUNDFONT, font.digest):
                return font.play(performance, frames, Preset(sound.bank, sound.program))
        plugins = (one.instrument for entry in self._here for one in entry if isinstance(one.instrument, PluginChoice))
        for choice in plugins:
            digests = (self._files.bundles[choice.bundle], self._files.presets.get(choice.preset, ""))
            same = (VST3, choice.name, *digests) == (sound.backend, sound.source, sound.digest, sound.preset_digest)
            if same and sound.parameters.keys() == choice.parameters.keys():
                values, exponent = dict(sound.parameters.items()), sound.velocity_exponent
                return self._plugins.play(choice, values, performance, frames, exponent).samples
        preset = f", preset {sound.preset} ({sound.preset_digest})," if sound.preset_digest else ""
        raise UnknownSound(f"{sound.source} with the SHA-256 {sound.digest}{preset} is not here")

    def room(self, draw: random.Random) -> pb.Effect | None:
        return self._map.room.draw(draw) if self._map.room else None

    @property
    def humanise(self) -> Humanise:
        return self._map.humanise

    def sounds_of(self, who: Instrument) -> frozenset[str]:
        candidates = self._candidates(who)
        if not candidates:
            return self._files.fonts[DEFAULT].sounds_of(who)
        return frozenset().union(*(self._sounds_of(one.instrument, who) for one in candidates))

    def _sounds_of(self, choice: FontChoice | PluginChoice, who: Instrument) -> frozenset[str]:
        """What one candidate may play: a plugin within the same ranges is the same sound for all its programs."""
        if isinstance(choice, PluginChoice):
            return frozenset([repr(choice)])
        font = self._files.fonts[choice.font]
        return frozenset([font.sound_of(choice.preset)]) if choice.preset else font.sounds_of(who)

    def playables(self) -> list[Playable]:
        everything = [*(instrument(program) for program in range(128)), instrument(0, is_drum=True)]
        return [
            Playable(MAP, who.program, who.is_drum, *self._preset_and_digest(candidate, who))
            for who in everything
            for candidate in self._candidates(who)
        ]

    def _preset_and_digest(self, candidate: Candidate, who: Instrument) -> tuple[str, str]:
        choice = candidate.instrument
        if isinstance(choice, PluginChoice):
            preset = f" ({choice.preset})" if choice.preset else ""
            return choice.name + preset, self._files.bundles[choice.bundle]
        font = self._files.fonts[choice.font]
        plays = choice.preset or font.usual(who)
        return font.presets[plays] if plays else "", font.digest

    def digests(self) -> dict[str, str]:
        fonts = {f"soundfonts.{name}": font.digest for name, font in self._files.fonts.items() if name != DEFAULT}
        default = {SOUNDFONT: self._files.fonts[DEFAULT].digest}
        return {**fonts, **default, **self._files.bundles, **self._files.presets, "instrument map": self._digest}

    def licences(self) -> list[str]:
        return sorted({*self._files.licences})

    def faults(self) -> list[str]:
        return self._files.faults


class MapFiles:
    """The files of a map: SoundFonts opened by their names, digests of plugins and presets; what is absent is said."""

    def __init__(self, chosen: InstrumentMap, config: BackendConfig) -> None:
        self.plugin_folder = Path(config.vst3_path or "no plugin folder")
        self.fonts = {DEFAULT: open_font(config.soundfont)}
        self.bundles: dict[str, str] = {}
        self.presets: dict[str, str] = {}
        self.licences = font_licences(config)
        self.faults: list[str] = []
        candidates = [one for entry in chosen.entries for one in entry.candidates]
        named = {one.instrument.font for one in candidates if isinstance(one.instrument, FontChoice)}
        if PACKAGED in named:
            self.fonts[PACKAGED] = open_font("")
            self.licences.append(PACKAGED_LICENCE)
        for name, file in chosen.fonts.items():
            folder, inside = (config.fetched, file.artifact) if file.artifact else (config.soundfont_path, file.path)
            try:
                if not folder:
                    raise BackendError(f"LUTHIER_SOUNDFONT_PATH, where {inside} should be, is not set")
                self.fonts[name] = open_font(str(Path(folder) / Path(inside).name))
            except BackendError as error:
                self.faults.append(f"soundfonts.{name}: {error}")
                continue
            self.licences += [file.licence] if file.licence else []
        self._digest_plugins([one.instrument for one in candidates if isinstance(one.instrument, PluginChoice)])
        said = defaultdict(list)
        for one in candidates:
            if why := self.why_not(one):
                said[why].append(one.where)
        self.faults += [f"{', '.join(where)}: {why}" for why, where in said.items()]
        for entry in chosen.entries:
            if all(self.why_not(one) for one in entry.candidates):
                self.faults.append(f"{entry.where}: no candidate is left: the default SoundFont plays")

    def _digest_plugins(self, choices: Sequence[PluginChoice]) -> None:
        for choice in choices:
            bundle, preset = self.plugin_folder / choice.bundle, self.plugin_folder / choice.preset
            if choice.bundle not in self.bundles and bundle.exists():
                self.bundles[choice.bundle] = bundle_digest(bundle)
            if choice.preset and choice.preset not in self.presets and preset.is_file():
                self.presets[choice.preset] = hashlib.sha256(preset.read_bytes()).hexdigest()

    def why_not(self, candidate: Candidate) -> str:
        """Why a candidate cannot be used, empty when it can."""
        choice = candidate.instrument
        if isinstance(choice, PluginChoice):
            if choice.bundle not in self.bundles:
                return f"{choice.bundle} is in the instrument map but not in the plugin folder"
            if choice.preset and choice.preset not in self.presets:
                return f"{choice.preset} is in the instrument map but not in the plugin folder"
            return ""
        font = self.fonts.get(choice.font)
        if font is None:
            return f"the SoundFont {choice.font} cannot be used"
        if choice.preset and choice.preset not in font.presets:
            return f"{font.name} has no preset {choice.preset.bank}:{choice.preset.program}"
        return ""


def _varies(candidate: Candidate) -> bool:
    return isinstance(candidate.instrument, PluginChoice) and candidate.instrument.varies


def _drawn(choices: Sequence[EffectChoice], draw: random.Random) -> list[pb.Effect]:
    return [effect for effect in (one.draw(draw) for one in choices) if effect is not None]


@cache
def open_backend(config: BackendConfig) -> MapBackend:
    """The back end of the configured map, or of the packaged one with the configured plugins. BackendError when there
    is neither, or the map is wrong."""
    if not config.maps:
        raise BackendError("neither an instrument map nor a plugin folder is set")
    if config.vst3_path and not Path(config.vst3_path).is_dir():
        raise BackendError("the plugin folder (LUTHIER_VST3_PATH) does not exist")
    text = config.instrument_map or DEFAULT_MAP.read_text()
    chosen = read_map(text)
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
    return MapBackend(chosen, digest, MapFiles(chosen, config))
