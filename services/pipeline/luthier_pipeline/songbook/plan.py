"""What a song is before it is played: the plan that the rules compose from, and the plans of the twelve songs.

Invented artists; every song differs in genre, tempo, key and instruments.
"""

# ruff: noqa: E501 - a table: one part is one line

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


SONGS = (
    SongPlan(
        "Granite Avenue", "Northbound Line", "rock", ("driving", "energetic"), Key("E", "minor"), 138,
        "i i VI VII i i iv V", "VI VII i i iv iv V V", "rock", "rock ride",
        (
            Part("chords", 29, "Overdriven Guitar", ("x-xx-xx-x-xx-xx-",), ("x-------x-------",), 52, 84, 40, 88),
            Part("bass", 34, "Electric Bass (pick)", ("r-r-r-r-r-r-r-5-",), ("r---r---8---5-a-",), 36, 96),
            Part("melody", 30, "Distortion Guitar", ("x---s-s-x-----s-", "x-s-s---x-------"), ("x-------s---x---",), 71, 92, 80, 92),
            Part("pad", 18, "Rock Organ", ("x---------------",), ("x---------------",), 60, 60, 96, 70, (1, 2, 3)),
        ), tags=("guitar rock", "Male Vocalists", "seen live"),
    ),
    SongPlan(
        "The Blue Lantern Trio", "Late Window", "jazz", ("relaxed", "warm"), Key("F", "major"), 150,
        "Imaj7 vi7 ii7 V7 iii7 vi7 ii7,V7 Imaj7", "IVmaj7 iv7 iii7 VI7 ii7 ii7 V7 V7", "swing", "swing brush",
        (
            Part("chords", 0, "Acoustic Grand Piano", ("x-...o......", "..x-.....o-."), ("x--...o--...",), 62, 74, 50),
            Part("bass", 32, "Acoustic Bass", ("r--3--5--a--", "r--5--8--a--"), ("r-----5--a--",), 40, 92),
            Part("melody", 66, "Tenor Sax", ("..xs-sx-----", "x-ss-sx--..."), ("......x-ss-s",), 67, 90, 76),
            Part("melody", 11, "Vibraphone", (), ("x-----......",), 76, 70, 96, 80, (2,)),
        ), tags=("swing", "late night", "female vocals"),
    ),
    SongPlan(
        "Paper Harbour", "Sunday Postcards", "pop", ("bright", "happy"), Key("C", "major"), 124,
        "I V vi IV I V IV V", "vi IV I V vi IV ii V", "pop", "pop lift",
        (
            Part("chords", 0, "Acoustic Grand Piano", ("x---o---o---o---",), ("x-------o-------",), 62, 80, 54),
            Part("bass", 33, "Electric Bass (finger)", ("r-----r-r---5---",), ("r---r---r---a---",), 36, 92),
            Part("melody", 73, "Flute", ("x---s---x-s-s---", "x-----s-x-------"), ("x-s-s-x---s-----",), 76, 88, 76),
            Part("pad", 48, "String Ensemble 1", ("x---------------",), ("x---------------",), 64, 56, 30, 76, (1, 2, 3)),
            Part("arpeggio", 25, "Acoustic Guitar (steel)", ("0-1-2-3-2-1-2-1-",), ("0-2-1-2-3-2-1-2-",), 55, 66, 96, 84),
        ), tags=("indie pop", "summer", "catchy"),
    ),
    SongPlan(
        "Velvet Circuit", "Neon Orchard", "house", ("hypnotic", "danceable"), Key("A", "minor"), 126,
        "i i VI VI i i iv V", "iv iv i i VI VI V V", "house", "house break",
        (
            Part("pad", 89, "Pad 2 (warm)", ("x---------------",), ("x---------------",), 60, 66, 64, 84),
            Part("chords", 81, "Lead 2 (sawtooth)", ("..x-..x-..x-..x-",), ("x-..x-..x-..x-..",), 64, 62, 44, 72, (1, 2, 3)),
            Part("bass", 38, "Synth Bass 1", ("..r-..r-..r-..8-",), ("r-r-..r-r-r-..5-",), 36, 98),
            Part("melody", 80, "Lead 1 (square)", ("x--s--x-........", "x--s--s-x-------"), ("x-s-x-s-x-s-x---",), 74, 78, 84, 78),
        ), tags=("electronic", "Deep House", "dance"),
    ),
    SongPlan(
        "Dust and Cedar", "Lowland Road", "country", ("warm", "gentle"), Key("D", "major"), 96,
        "I IV I V", "vi IV V V", "train", "train soft",
        (
            Part("arpeggio", 25, "Acoustic Guitar (steel)", ("0-2-1-2-0-3-1-2-",), ("0-1-2-3-2-1-2-1-",), 54, 82, 44),
            Part("bass", 32, "Acoustic Bass", ("r---....5---....",), ("r---....5---a---",), 38, 92),
            Part("melody", 110, "Fiddle", ("x-s-s-x---s-s---", "x---s-s-x-------"), ("x-----s-x-s-s---",), 72, 82, 80, 88),
            Part("chords", 105, "Banjo", ("..x...x...x...x.",), ("..x...x...x...x.",), 64, 66, 92, 80, (1, 3)),
        ), tags=("americana", "folk", "singer-songwriter"),
    ),
    SongPlan(
        "Mirador Sur", "Agua de Noche", "bossa nova", ("romantic", "mellow"), Key("G", "minor"), 116,
        "i7 i7 iv7 V7 i7 V7", "VImaj7 iv7 VII7 IIImaj7 iv7 V7", "bossa", "bossa ride",
        (
            Part("chords", 24, "Acoustic Guitar (nylon)", ("x--x--x---x--x--",), ("x--x----x--x----",), 60, 78, 48),
            Part("bass", 32, "Acoustic Bass", ("r--5--.5r--5--.5",), ("r-----.58-----.5",), 38, 88),
            Part("melody", 73, "Flute", ("..x-s-x---s-x---", "x---s---x-------"), (), 74, 84, 78),
            Part("melody", 11, "Vibraphone", (), ("x-s-x---s-x-----",), 72, 82, 84),
        ), tags=("latin", "brazilian", "chillout"),
    ),
    SongPlan(
        "Winter Palace Players", "Glass Carousel", "classical", ("elegant", "dreamy"), Key("Bb", "major"), 132,
        "I vi IV V7 I vi ii,V7 I", "vi iii IV I ii vi V7 V7", "waltz", "waltz full",
        (
            Part("chords", 48, "String Ensemble 1", ("....x---x---",), ("....x-..x-..",), 62, 66, 40),
            Part("bass", 42, "Cello", ("r-------....", "5-------...."), ("r-------a---",), 43, 84, 72),
            Part("melody", 71, "Clarinet", ("x-------s---", "x---s---s---"), (), 70, 84, 80),
            Part("melody", 68, "Oboe", (), ("x---s---x---", "x-------s-s-"), 74, 82, 84),
            Part("arpeggio", 46, "Orchestral Harp", ("0-1-2-3-4-3-",), ("0-1-2-3-2-1-",), 58, 62, 30, 88, (1, 3)),
        ), beats_per_bar=3, tags=("waltz", "orchestral", "instrumental"),
    ),
    SongPlan(
        "Corner Store Symphony", "Slow Elevator", "hip hop", ("laid-back", "dark"), Key("C", "minor"), 86,
        "i7 VImaj7 iv7 V7", "iv7 VII7 IIImaj7 V7", "boom bap", "boom bap sparse",
        (
            Part("chords", 4, "Electric Piano 1", ("x-----..o-----..",), ("x---------------",), 60, 78, 54),
            Part("bass", 33, "Electric Bass (finger)", ("r--...r-..5-r-..",), ("r-----....r-a---",), 36, 98),
            Part("melody", 11, "Vibraphone", ("x-s-..x-..s-x---", "....x-s-s-x-----"), ("x---s---x-------",), 72, 74, 84),
            Part("pad", 49, "String Ensemble 2", ("x---------------",), ("x---------------",), 63, 50, 36, 76, (1, 3)),
        ), tags=("Hip-Hop", "instrumental hip hop", "rap"),
    ),
    SongPlan(
        "Island Post", "Morning Ferry", "reggae", ("sunny", "relaxed"), Key("G", "major"), 75,
        "I vi IV V", "IV V I vi", "one drop", "steppers",
        (
            Part("chords", 17, "Percussive Organ", ("..x-..xx..x-..xx",), ("..x-..x-..x-..x-",), 64, 74, 46),
            Part("chords", 28, "Electric Guitar (muted)", ("....x.......x...",), ("..x...x...x...x.",), 60, 78, 90, 88),
            Part("bass", 33, "Electric Bass (finger)", ("r-..r-3-5---....", "..r-8-5-3---r-.."), ("r-r-5---8-5-r---",), 36, 102),
            Part("melody", 22, "Harmonica", ("..x-s-s-x-----..", "..x-s-s-s-x-----"), ("x---s-s-x-------",), 72, 80, 78),
        ), tags=("roots reggae", "island", "summer"),
    ),
    SongPlan(
        "The Copper Keys", "Switchyard", "funk", ("groovy", "energetic"), Key("B", "minor"), 108,
        "i7 i7 iv7 i7 VI V7", "iv7 iv7 i7 i7 VI V7", "funk", "funk open",
        (
            Part("chords", 7, "Clavinet", ("x.gx..x.g.x..xg.",), ("x-..x-..x-..x.g.",), 62, 80, 44),
            Part("bass", 36, "Slap Bass 1", ("r-.r..8.r-.5..r.", "r-.r..8.5-.r..a."), ("r-..r-8-..r-5-a-",), 36, 100),
            Part("melody", 61, "Brass Section", ("x.x-....s-x-....", "..x.s-x---......"), ("x-------s---x---",), 68, 88, 76),
            Part("melody", 65, "Alto Sax", (), ("..x-s-s-x-s-x---",), 74, 78, 90, 88),
        ), tags=("groove", "soul", "vocal"),
    ),
    SongPlan(
        "Pale Meridian", "Long Exposure", "ambient", ("calm", "spacious"), Key("Eb", "major"), 78,
        "I vi7 IVmaj7 V", "vi7 IVmaj7 Imaj7 V", "pulse", "pulse wide",
        (
            Part("pad", 89, "Pad 2 (warm)", ("x---------------",), ("x---------------",), 60, 72, 64, 96),
            Part("arpeggio", 5, "Electric Piano 2", ("0---2---1---3---",), ("0-1-2-3-4-3-2-1-",), 60, 66, 84, 92),
            Part("bass", 39, "Synth Bass 2", ("r---------------",), ("r-------5-------",), 36, 82),
            Part("melody", 79, "Ocarina", ("x-------s---x---", "x---------------"), ("x---s---x---s---",), 74, 74, 44, 92, (1, 2, 3)),
        ), last_tempo_bpm=92, tags=("atmospheric", "chillout", "electronic"),
    ),
    SongPlan(
        "Eight Bit Bakery", "Last Lap", "chiptune", ("playful", "lively"), Key("F#", "minor"), 160,
        "i i VI VII i i iv V", "VI VII i i iv iv V V", "chip", "chip half",
        (
            Part("arpeggio", 80, "Lead 1 (square)", ("0121012101210121",), ("0-2-1-2-0-2-1-2-",), 60, 62, 40, 70),
            Part("bass", 38, "Synth Bass 1", ("r-8-r-8-r-8-r-8-",), ("r---r---5---a---",), 36, 96),
            Part("melody", 81, "Lead 2 (sawtooth)", ("x-s-x-s-x---s-s-", "x-s-s-x-x-------"), ("x---s---x-s-s---",), 78, 84, 84, 84),
            Part("chords", 62, "Synth Brass 1", ("x.......x.......",), ("x-------x-------",), 62, 60, 64, 74, (1, 2, 3)),
        ), tags=("8-bit", "video game music", "electronic"),
    ),
)  # fmt: skip


def plans(count: int) -> list[SongPlan]:
    """The first `count` songs; past the twelfth come variations of the twelve in other keys and tempos."""
    rounds = (
        (song.variation(i // len(SONGS)) if i >= len(SONGS) else song)
        for i, song in enumerate(SONGS * (count // len(SONGS) + 1))
    )
    return list(rounds)[:count]
