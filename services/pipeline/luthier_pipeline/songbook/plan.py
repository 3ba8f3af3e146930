"""What a song is before it is played: the plan that the rules compose from."""

from dataclasses import dataclass, replace

from luthier_pipeline.songbook.theory import Key

FORM = ("A", "A", "B", "A")
EVERY = (0, 1, 2, 3)


@dataclass(frozen=True)
class Part:
    """One track. `role` names the rule; a pattern per bar of A and of B (cycled; empty = silent there);
    `where` lists the sections of FORM in which it plays; `centre` is the pitch its notes lie around."""

    role: str
    program: int
    name: str
    a: tuple[str, ...]
    b: tuple[str, ...]
    centre: int
    velocity: int = 88
    pan: int = 64
    volume: int = 100
    where: tuple[int, ...] = EVERY

    def patterns(self, letter: str) -> tuple[str, ...]:
        return self.a if letter == "A" else self.b


@dataclass(frozen=True)
class SongPlan:
    """A song: who, what, how fast, in which key, over which chords (one bar per blank) and with whom."""

    artist: str
    title: str
    genre: str
    moods: tuple[str, ...]
    key: Key
    tempo_bpm: int
    a: str
    b: str
    drums_a: str
    drums_b: str
    parts: tuple[Part, ...]
    beats_per_bar: int = 4
    last_tempo_bpm: int = 0
    tags: tuple[str, ...] = ()

    def section_tempo_bpm(self, section: int) -> int:
        """The tempo of a section of FORM; it may change once, at the last."""
        return self.last_tempo_bpm if self.last_tempo_bpm and section == len(FORM) - 1 else self.tempo_bpm

    def variation(self, number: int) -> "SongPlan":
        """A further song after this plan, in another key and tempo. number: 1, 2, ..."""
        tempo = 75 + (self.tempo_bpm - 75 + 11 * number) % 86
        return replace(
            self,
            title=f"{self.title} No. {number + 1}",
            key=self.key.transposed(5 * number),
            tempo_bpm=tempo,
            last_tempo_bpm=tempo + 14 if self.last_tempo_bpm else 0,
        )
