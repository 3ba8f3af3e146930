"""What may be said of a clip: its facts and its song's tags, from messages of luthier.common.v1.

Prompting writes captions of it and holds captions against it; training draws metadata from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from luthier.common.v1 import common_pb2
from luthier_music.instruments import DRUM_PROGRAM, DRUMS, program_of
from luthier_music.vocabulary import is_noise, is_vocal, understand

MAX_REQUIRED_INSTRUMENTS = 5  # more than a sentence can name
MIN_REQUIRED_SHARE = 0.1  # an instrument heard for less of the clip may stay unsaid
_MODES = {common_pb2.MODE_MAJOR: "major", common_pb2.MODE_MINOR: "minor"}

# Programs that need no electricity, and programs that are synthesizers; the rest are electric.
ACOUSTIC = frozenset({0, 1, 3, 6, *range(8, 16), *range(19, 26), 32, *range(40, 50), *range(56, 62), *range(64, 80),
                      *range(104, 118)})  # fmt: skip
SYNTHETIC = frozenset({38, 39, 50, 51, 54, 62, 63, *range(80, 104), 118})

LOW_ENERGY_HZ, HIGH_ENERGY_HZ = 2.5, 5.5  # onsets per second


@dataclass(frozen=True)
class Heard:
    """An instrument that sounds: General MIDI name or "Drums", and its share of the clip, 0 to 1.

    `called`: the word for it in place of the one that captions have; empty = that one.
    """

    name: str
    share: float = 1.0
    called: str = field(default="", repr=False)

    @property
    def program(self) -> int | None:
        """0 to 127, DRUM_PROGRAM for drums, None for a name that is no General MIDI name."""
        if self.name.casefold() == DRUMS.casefold():
            return DRUM_PROGRAM
        try:
            return program_of(self.name)
        except KeyError:
            return None


class Voice(Enum):
    """Whether somebody sings or speaks. What is rendered from notes has no voice; of a recording it may be unknown."""

    NONE = "instrumental"
    HEARD = "a voice is heard"
    UNKNOWN = ""


@dataclass(frozen=True)
class Facts:
    """Facts of one clip. None or empty = unknown: then it must not be said.

    tempo_bpm 20 to 400 (the time-weighted mean where it changes) counts beats of `beat_quarters` quarter notes, None =
    of a note value that nobody knows. Where the meter does not tell its beat (`notated`) it counts quarter notes as
    written, and beat_quarters is 1. `solo`: one part plays, and nothing else sounds.
    tonic e.g. "F#", mode "major" or "minor"; instruments by share, highest first;
    meter is that of most of the clip; genres, moods and eras are canonical words of luthier_music.vocabulary.
    """

    duration_s: float | None = None
    tempo_bpm: float | None = None
    tempo_changes: bool = False
    tonic: str | None = None
    mode: str | None = None
    instruments: tuple[Heard, ...] = ()
    meter: tuple[int, int] | None = None
    meter_changes: bool = field(default=False, repr=False)  # what is not in the repr draws no other wording
    beat_quarters: float | None = field(default=None, repr=False)
    notated: bool = field(default=False, repr=False)
    solo: bool = field(default=False, repr=False)
    loudness_lufs: float | None = None
    onset_rate_hz: float | None = None
    voice: Voice = field(default=Voice.NONE, repr=False)
    genres: tuple[str, ...] = ()
    moods: tuple[str, ...] = ()
    eras: tuple[str, ...] = ()

    def programs(self) -> frozenset[int]:
        """The programs that sound."""
        return frozenset(p for heard in self.instruments if (p := heard.program) is not None)

    def required_instruments(self) -> tuple[Heard, ...]:
        """The instruments that a full caption must name."""
        known = [heard for heard in self.instruments if heard.program is not None]
        audible = [heard for heard in known if heard.share >= MIN_REQUIRED_SHARE]
        return tuple(audible[:MAX_REQUIRED_INSTRUMENTS])

    def pitched(self) -> frozenset[int]:
        return self.programs() - {DRUM_PROGRAM}

    def tempo_unit(self) -> str:
        """What tempo_bpm counts: beats, or the note value where notated tempo is meant."""
        return "quarter notes per minute" if self.notated else "BPM"

    def acousticness(self) -> str:
        """ "acoustic" or "electronic" when every pitched instrument is; else empty."""
        if not self.pitched():
            return ""
        if self.pitched() <= ACOUSTIC:
            return "acoustic"
        return "electronic" if self.pitched() <= SYNTHETIC else ""

    def energy(self) -> str:
        """ "low", "moderate" or "high" by the onset rate; empty = unknown."""
        if self.onset_rate_hz is None:
            return ""
        if self.onset_rate_hz < LOW_ENERGY_HZ:
            return "low"
        return "high" if self.onset_rate_hz >= HIGH_ENERGY_HZ else "moderate"

    def is_empty(self) -> bool:
        """Nothing is known but the length and the level."""
        bare = replace(self, duration_s=None, loudness_lufs=None, onset_rate_hz=None, voice=Voice.NONE)
        return bare == Facts()


def facts_of(facts: common_pb2.ClipFacts, tags: Sequence[common_pb2.Tag]) -> Facts:
    """What may be said. A fact without a source is unknown.

    Tags count as far as the vocabulary knows them: other people's text never reaches a prompt or a language model.
    """
    trusted_tempo = facts.tempo.source != common_pb2.FACT_SOURCE_UNSPECIFIED
    trusted_key = facts.key.source != common_pb2.FACT_SOURCE_UNSPECIFIED
    heaviest = sorted(tags, key=lambda t: -t.weight)
    words = [
        word
        for tag in heaviest
        if not is_noise(tag.text) and not is_vocal(tag.text)
        for word in understand(tag.text, tag.kind)
    ]
    onsets = [d.value for d in facts.descriptors if d.name == "onset_rate_hz"]
    return Facts(
        duration_s=facts.duration_s or None,
        tempo_bpm=(facts.tempo.tempo_bpm or None) if trusted_tempo else None,
        tempo_changes=facts.tempo.changes and trusted_tempo,
        tonic=(facts.key.tonic or None) if trusted_key else None,
        mode=_MODES.get(facts.key.mode) if trusted_key else None,
        instruments=tuple(Heard(i.instrument, i.share) for i in sorted(facts.instruments, key=lambda i: -i.share)),
        meter=(facts.meter.numerator, facts.meter.denominator) if facts.meter.numerator else None,
        meter_changes=facts.meter_changes,
        beat_quarters=_beat_quarters(facts.tempo) if trusted_tempo and facts.tempo.tempo_bpm else None,
        solo=facts.solo and len(facts.instruments) == 1,  # a person may have heard two
        notated=bool(facts.tempo.notated and trusted_tempo and facts.tempo.tempo_bpm),
        loudness_lufs=facts.loudness_lufs if facts.HasField("loudness_lufs") else None,
        onset_rate_hz=onsets[0] if onsets else None,
        voice=_voice(facts),
        genres=tuple(dict.fromkeys(word.text for word in words if word.kind == "genre")),
        moods=tuple(dict.fromkeys(word.text for word in words if word.kind == "mood")),
        eras=tuple(dict.fromkeys(word.text for word in words if word.kind == "era")),
    )


def _voice(facts: common_pb2.ClipFacts) -> Voice:
    if not facts.HasField("voice"):
        return Voice.NONE
    known = {common_pb2.VOICE_PRESENCE_NONE: Voice.NONE, common_pb2.VOICE_PRESENCE_HEARD: Voice.HEARD}
    trusted = facts.voice.source != common_pb2.FACT_SOURCE_UNSPECIFIED
    return known.get(facts.voice.presence, Voice.UNKNOWN) if trusted else Voice.UNKNOWN


def _beat_quarters(tempo: common_pb2.TempoFact) -> float | None:
    """Length in quarter notes of what tempo_bpm counts; None = unknown, as of a tempo that was estimated from audio."""
    if tempo.notated:
        return 1.0
    written = tempo.source in (common_pb2.FACT_SOURCE_NOTES, common_pb2.FACT_SOURCE_TEMPO_MAP)
    return tempo.beat_quarters or (1.0 if written else None)
