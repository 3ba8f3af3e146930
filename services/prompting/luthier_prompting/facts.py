"""What may be said of a clip: its facts and its song's tags, understood."""

from dataclasses import dataclass, replace

from luthier_music.instruments import DRUMS, PROGRAM_NAMES, program_of

DRUM_PROGRAM = -1  # stands for the drums, which are no General MIDI program
MAX_REQUIRED_INSTRUMENTS = 5  # more than a sentence can name
MIN_REQUIRED_SHARE = 0.1  # an instrument heard for less of the clip may stay unsaid

# Programs that need no electricity, and programs that are synthesizers; the rest are electric.
ACOUSTIC = frozenset({0, 1, 3, 6, *range(8, 16), *range(19, 26), 32, *range(40, 50), *range(56, 62), *range(64, 80),
                      *range(104, 118)})  # fmt: skip
SYNTHETIC = frozenset({38, 39, 50, 51, 54, 62, 63, *range(80, 104), 118})

VOICES = frozenset({52, 53, 54, 85, 91})  # programs that imitate voices

LOW_ENERGY_HZ, HIGH_ENERGY_HZ = 2.5, 5.5  # onsets per second


@dataclass(frozen=True)
class Heard:
    """An instrument that sounds: General MIDI name or "Drums", and its share of the clip, 0 to 1."""

    name: str
    share: float = 1.0

    @property
    def program(self) -> int | None:
        """0 to 127, DRUM_PROGRAM for drums, None for a name that is no General MIDI name."""
        if self.name.casefold() == DRUMS.casefold():
            return DRUM_PROGRAM
        try:
            return program_of(self.name)
        except KeyError:
            return None


@dataclass(frozen=True)
class Facts:
    """Facts of one clip. None or empty = unknown: then it must not be said.

    tempo_bpm 20 to 400 (the time-weighted mean where it changes); tonic e.g. "F#", mode "major" or "minor";
    instruments by share, highest first; genres, moods and eras are canonical words of luthier_music.vocabulary.
    """

    duration_s: float | None = None
    tempo_bpm: float | None = None
    tempo_changes: bool = False
    tonic: str | None = None
    mode: str | None = None
    instruments: tuple[Heard, ...] = ()
    meter: tuple[int, int] | None = None
    loudness_lufs: float | None = None
    onset_rate_hz: float | None = None
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
        return replace(self, duration_s=None, loudness_lufs=None, onset_rate_hz=None) == Facts()


def name_of(program: int) -> str:
    """The General MIDI name, or "Drums"."""
    return DRUMS if program == DRUM_PROGRAM else PROGRAM_NAMES[program]
