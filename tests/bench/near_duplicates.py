"""How many near-duplicates of real songs are found, which songs are wrongly taken for one, and what it costs.

    services/rendering/.venv/bin/python tests/bench/near_duplicates.py FOLDER [FOLDER ...] [--songs 10000]

Of every song below the folders (MIDI files that are different songs) mido makes variants, as real collections hold
them. One kind at a time, the songs and their variants are one corpus: a variant is found when it pairs with its song,
and every other pair is false. Then as many songs as --songs says are drawn from the real ones' own phrases: each voice
follows the intervals that follow the last two in some real song, so that they share what songs of a style share. Any
pair is false.
"""

import argparse
import io
import os
import platform
import random
import struct
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final

import mido

sys.path.append(str(Path(__file__).parents[2] / "services" / "pipeline"))  # of which only this module is needed

from luthier.rendering.v1.rendering_pb2 import NoteSignature
from luthier_pipeline.near_duplicates import SAME, Pair, Sketch, candidates, near_duplicates, similarity
from luthier_rendering.midi import load_song
from luthier_rendering.signature import signature

DRUMS: Final = 9  # the channel, counted from 0
HANDFUL: Final = 24  # hashes: with fewer, another rule holds
Event = tuple[int, mido.Message | mido.MetaMessage]
"""Ticks from the start, and the message."""


@dataclass
class Score:
    """Tracks of events of a MIDI file."""

    tracks: list[list[Event]]
    ticks_per_beat: int

    @classmethod
    def read(cls, data: bytes) -> "Score":
        file = mido.MidiFile(file=io.BytesIO(data), clip=True)
        tracks = []
        for messages in file.tracks:
            at, events = 0, list[Event]()
            for message in messages:
                at += message.time
                events.append((at, message))
            tracks.append(events)
        return cls(tracks, file.ticks_per_beat)

    def written(self) -> bytes:
        file = mido.MidiFile(type=min(1, len(self.tracks) - 1), ticks_per_beat=self.ticks_per_beat)
        for events in self.tracks:
            track, last = mido.MidiTrack(), 0
            for at, message in sorted(events, key=lambda event: event[0]):
                track.append(message.copy(time=at - last))
                last = at
            file.tracks.append(track)
        out = io.BytesIO()
        file.save(file=out)
        return out.getvalue()

    def mapped(self, change: Callable[[Event], Event | None]) -> "Score":
        """Every event changed, or left out."""
        changed = ([new for event in track if (new := change(event))] for track in self.tracks)
        return Score(list(changed), self.ticks_per_beat)


def is_note(message: mido.Message) -> bool:
    return message.type in ("note_on", "note_off")


def is_struck(message: mido.Message) -> bool:
    return bool(message.type == "note_on" and message.velocity)


Variant = Callable[[Score, random.Random], Score | None]
"""None where the song has no such variant."""


def note_removed(score: Score, chance: random.Random) -> Score:
    struck = [(track, at) for track in score.tracks for at, event in enumerate(track) if is_struck(event[1])]
    track, at = chance.choice(struck)
    on = track[at][1]
    gone = [at]
    for place in range(at + 1, len(track)):
        off = track[place][1]
        if is_note(off) and not is_struck(off) and (off.channel, off.note) == (on.channel, on.note):
            gone.append(place)
            break
    tracks = [[e for place, e in enumerate(t) if place not in gone] if t is track else t for t in score.tracks]
    return Score(tracks, score.ticks_per_beat)


def track_dropped(score: Score, _: random.Random, which: Callable[..., tuple[int, int]] = min) -> Score | None:
    """The smallest track, or channel where all is in one track; the largest with `max`."""
    counts: dict[tuple[int, int], int] = defaultdict(int)
    tracks = {number for number, track in enumerate(score.tracks) if any(is_struck(m) for _, m in track)}
    for number, track in enumerate(score.tracks):
        for _, message in track:
            if is_struck(message):
                counts[number, message.channel if len(tracks) == 1 else -1] += 1
    if len(counts) < 2:
        return None
    number, channel = which(counts, key=lambda key: counts[key])

    def stays(message: mido.Message | mido.MetaMessage) -> bool:
        return bool(message.is_meta) or (channel >= 0 and getattr(message, "channel", channel) != channel)

    tracks_left = [[e for e in t if n != number or stays(e[1])] for n, t in enumerate(score.tracks)]
    return Score(tracks_left, score.ticks_per_beat)


def transposed(score: Score, _: random.Random, by: int) -> Score:
    def change(event: Event) -> Event:
        at, message = event
        if is_note(message) and message.channel != DRUMS:
            return at, message.copy(note=min(127, max(0, message.note + by)))
        return event

    return score.mapped(change)


def program_changed(score: Score, chance: random.Random) -> Score:
    """One of the programs, or a first one where none is stated."""
    stated = [(t, at) for t in score.tracks for at, (_, m) in enumerate(t) if m.type == "program_change"]
    stated = [(track, at) for track, at in stated if track[at][1].channel != DRUMS]
    if stated:
        track, at = chance.choice(stated)
        tick, message = track[at]
        other = [(tick, message.copy(program=(message.program + 40) % 128)), *track[at + 1 :]]
        return Score([[*t[:at], *other] if t is track else t for t in score.tracks], score.ticks_per_beat)
    number, channel = next((n, m.channel) for n, t in enumerate(score.tracks) for _, m in t if is_struck(m))
    first = (0, mido.Message("program_change", channel=channel, program=40))
    tracks = [[first, *track] if n == number else track for n, track in enumerate(score.tracks)]
    return Score(tracks, score.ticks_per_beat)


def faster(score: Score, _: random.Random, by: float) -> Score:
    """By the tempo map; notes stay where they are written."""
    stated = False

    def change(event: Event) -> Event:
        nonlocal stated
        if event[1].type == "set_tempo":
            stated = True
            return event[0], event[1].copy(tempo=round(event[1].tempo / by))
        return event

    changed = score.mapped(change)
    if not stated:
        changed.tracks[0].insert(0, (0, mido.MetaMessage("set_tempo", tempo=round(500_000 / by))))
    return changed


def stretched(score: Score, _: random.Random, by: float, ticks_per_beat: int = 0) -> Score:
    """Every tick multiplied, as where a song was recorded against another tempo; or another resolution."""
    changed = score.mapped(lambda event: (round(event[0] * by), event[1]))
    return Score(changed.tracks, ticks_per_beat or score.ticks_per_beat)


def resolution(score: Score, chance: random.Random, ticks_per_beat: int) -> Score:
    return stretched(score, chance, ticks_per_beat / score.ticks_per_beat, ticks_per_beat)


def drums_dropped(score: Score, _: random.Random) -> Score | None:
    left = score.mapped(lambda event: None if getattr(event[1], "channel", None) == DRUMS else event)
    return left if any(is_struck(message) for track in left.tracks for _, message in track) else None


def start_cut(score: Score, _: random.Random, seconds: float) -> Score | None:
    """Without what is struck in the first seconds; the rest begins at once."""
    tempi = sorted((at, m.tempo) for t in score.tracks for at, m in t if m.type == "set_tempo")
    at, at_s, us_per_beat, cut = 0, 0.0, 500_000, 0
    for tick, tempo in [*tempi, (1 << 40, 500_000)]:
        ends_s = at_s + (tick - at) * us_per_beat / 1e6 / score.ticks_per_beat
        if ends_s >= seconds:
            cut = at + round((seconds - at_s) * 1e6 * score.ticks_per_beat / us_per_beat)
            break
        at, at_s, us_per_beat = tick, ends_s, tempo
    held: set[tuple[int, int, int]] = set()
    tracks = []
    for number, track in enumerate(score.tracks):
        kept = []
        for tick, message in track:
            if is_note(message):
                key = (number, message.channel, message.note)
                if is_struck(message) and tick >= cut:
                    held.add(key)
                elif is_struck(message) or key not in held:
                    continue
            kept.append((max(0, tick - cut), message))
        tracks.append(kept)
    return Score(tracks, score.ticks_per_beat) if held else None


def one_track(score: Score, _: random.Random) -> Score:
    every = [event for track in score.tracks for event in track if event[1].type != "end_of_track"]
    return Score([sorted(every, key=lambda event: event[0])], score.ticks_per_beat)


def humanised(score: Score, chance: random.Random, ms: float) -> Score:
    """Every note moved at random, at 120 BPM by up to so many milliseconds."""
    most = max(1, round(ms / 500 * score.ticks_per_beat))
    return score.mapped(
        lambda event: (max(0, event[0] + chance.randint(-most, most)), event[1]) if is_note(event[1]) else event
    )


def all_of(*variants: Variant) -> Variant:
    def variant(score: Score, chance: random.Random) -> Score | None:
        changed: Score | None = score
        for one in variants:
            if changed is not None:
                changed = one(changed, chance) or changed
        return changed

    return variant


TARGETS: Final[dict[str, Variant]] = {
    "one note removed": note_removed,
    "smallest track dropped": track_dropped,
    "transposed by 1": partial(transposed, by=1),
    "one program changed": program_changed,
}
MORE: Final[dict[str, Variant]] = {
    "all four at once": all_of(*TARGETS.values()),
    "transposed by 5": partial(transposed, by=5),
    "tempo x 1.1": partial(faster, by=1.1),
    "written x 1.1 slower": partial(stretched, by=1.1),
    "resolution 96": partial(resolution, ticks_per_beat=96),
    "drums dropped": drums_dropped,
    "first 20 s cut": partial(start_cut, seconds=20),
    "largest track dropped": partial(track_dropped, which=max),
    "format 0, in one track": one_track,
    "humanised by 10 ms": partial(humanised, ms=10),
    "track dropped, humanised, 96": all_of(
        track_dropped, partial(humanised, ms=10), partial(resolution, ticks_per_beat=96)
    ),
}  # fmt: skip


def signed(data: bytes) -> bytes:
    return signature(load_song(data)).SerializeToString()


def signatures(path: Path) -> dict[str, bytes]:
    """Of a song (`""`) and of its variants; mido takes most of the time."""
    data = path.read_bytes()
    score, found = Score.read(data), {"": signed(data)}
    for name, variant in {**TARGETS, **MORE}.items():
        if (changed := variant(score, random.Random(path.name))) is not None:
            found[name] = signed(changed.written())
    return found


def sketch(message: bytes) -> Sketch:
    return Sketch.of(NoteSignature.FromString(message))


def drawn_songs(real: Sequence[Path], count: int) -> Iterator[bytes]:
    """Signatures of songs whose voices continue as some voice of a real song does after the same two intervals."""
    chance = random.Random(1)
    voices = [pitches for path in real for pitches in melodies(Score.read(path.read_bytes())) if len(pitches) > 24]
    after: dict[tuple[int, int], list[int]] = defaultdict(list)
    for pitches in voices:
        steps = [b - a for a, b in pairwise(pitches)]
        for first, second, third in zip(steps, steps[1:], steps[2:], strict=False):
            after[first, second].append(third)
    starts = list(after)
    for _ in range(count):
        tracks = []
        for channel in range(chance.randint(2, 6)):
            (first, second), key, events = chance.choice(starts), 60, bytearray()
            for _ in range(chance.randint(60, 300)):
                events += bytes([0, 0x90 | channel, key, 90, 96, 0x80 | channel, key, 0])  # 96 ticks each
                third = chance.choice(after[first, second]) if (first, second) in after else -second
                key += third if 24 <= key + third <= 100 else -third if 24 <= key - third <= 100 else 0
                first, second = second, third
            events += b"\x00\xff\x2f\x00"
            tracks.append(b"MTrk" + struct.pack(">I", len(events)) + events)
        yield signed(b"MThd" + struct.pack(">IHHH", 6, 1, len(tracks), 96) + b"".join(tracks))


def melodies(score: Score) -> Iterator[list[int]]:
    """The pitches of each track and channel, in the order in which they are struck."""
    for track in score.tracks:
        by_channel: dict[int, list[int]] = defaultdict(list)
        for _, message in track:
            if is_struck(message) and message.channel != DRUMS:
                by_channel[message.channel].append(message.note)
        yield from by_channel.values()


def pairs_among(songs: Sequence[Sketch]) -> list[Pair]:
    """The near-duplicates among songs."""
    return near_duplicates([song.outline for song in songs], songs.__getitem__)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--songs", type=int, default=0, help="so many more, drawn from the phrases of the real ones")
    options = parser.parse_args()
    paths = sorted(path for folder in options.folders for path in folder.rglob("*.mid"))
    with ProcessPoolExecutor() as pool:
        found = list(pool.map(signatures, paths))
    songs = [sketch(of[""]) for of in found]
    print(f"{len(songs)} songs; {os.cpu_count()} cores, {platform.machine()}; {cost_ms(paths):.1f} ms CPU a signature")
    false = pairs_among(songs)
    most = max(holding(one, other) for at, one in enumerate(songs) for other in songs[:at])
    print(f"false pairs among the songs: {len(false)}; the most that one has of another: {most:.2f} (bound {SAME})")
    for pair in false:
        print(f"  {pair.similarity:.2f} {paths[pair.first]} ~ {paths[pair.second]}")
    print(f"{'variant':30}{'found':>12}{'false':>7}  lowest similarity")
    hits = of_all = 0
    for name in [*TARGETS, *MORE]:
        owners = [number for number, of in enumerate(found) if name in of]
        variants = [sketch(found[owner][name]) for owner in owners]
        pairs = {(pair.first, pair.second) for pair in pairs_among([*songs, *variants])}
        right = {(owner, len(songs) + place) for place, owner in enumerate(owners)}
        lowest = min(similarity(songs[owner], variant) for owner, variant in zip(owners, variants, strict=True))
        share = f"{len(pairs & right)} of {len(right)}"
        print(f"{name:30}{share:>12}{len(pairs - right):>7}  {lowest:.2f}", flush=True)
        if name in TARGETS:
            hits, of_all = hits + len(pairs & right), of_all + len(right)
    print(f"the first {len(TARGETS)}: {hits} of {of_all}, {hits / of_all:.1%}")
    if options.songs:
        scale(paths, options.songs)


def holding(one: Sketch, other: Sketch) -> float:
    """The share of the smaller song's long hashes that the other has, whatever the voices; 0 for a handful of them."""
    smaller = min(one.long.size, other.long.size)
    return len(set(one.long.tolist()) & set(other.long.tolist())) / smaller if smaller >= HANDFUL else 0.0


def cost_ms(paths: Sequence[Path]) -> float:
    songs = [load_song(path.read_bytes()) for path in paths[:20]]
    began = time.process_time()
    for song in songs:
        signature(song)
    return 1000 * (time.process_time() - began) / len(songs)


def scale(paths: Sequence[Path], count: int) -> None:
    """What grouping of that many songs costs, and the false pairs among them."""
    songs = [sketch(message) for message in drawn_songs(paths, count)]
    for part in (count // 10, count):
        began = time.process_time()
        tried = len(candidates([song.outline for song in songs[:part]]))
        false = len(pairs_among(songs[:part]))
        spent_s = time.process_time() - began
        print(f"{part} drawn songs: {false} false pairs; {tried} candidates; {spent_s:.1f} s CPU", flush=True)


if __name__ == "__main__":
    main()
