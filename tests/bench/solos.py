"""Solo clips of a collection against their MIDI files, by a reader of its own on top of mido.

    services/pipeline/.venv/bin/python tests/bench/solos.py FOLDER COLLECTION [--listen 12]

FOLDER holds the MIDI files that `luthier run FOLDER --subsets monophonic` took. Of each clip: does some player of the
stated instrument (a track, channel and program, or a track's drums) play for the stated span as the rules of solo clips
want it, is the stated tempo the tempo map's, the stated meter the file's, and the stated key the one that its notes fit
best? With `--listen`, that many clips are rendered once more, by the same service, from a MIDI file with the notes of
that player only: sample by sample, how much of the clip is not in that rendering?
"""

import argparse
import hashlib
import io
import os
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import mido
import numpy as np
import soundfile
from numpy.typing import NDArray

from luthier.common.v1.common_pb2 import MODE_MAJOR, ClipFacts
from luthier.curation.v1.curation_pb2 import ClipFilter, CuratedClip, ListClipsRequest
from luthier.rendering.v1.rendering_pb2 import RenderSongRequest
from luthier_music.instruments import DRUMS, PROGRAM_NAMES
from luthier_pipeline.clients import Clients

V = TypeVar("V")
ARTICULATION_S, MAX_REST_S, MIN_SHARE, ONSET_EVERY_S, STROKE_S = 0.5, 2.0, 0.7, 4.0, 0.25  # as the README states them
ROUNDING_S = 0.01
RING_S = 0.1  # at the edges: fades, and what rings on from before
MAJOR, MINOR = (  # Krumhansl and Kessler 1982, Temperley 2007, Albrecht and Shanahan 2013
    [
        [6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88],
        [0.748, 0.060, 0.488, 0.082, 0.670, 0.460, 0.096, 0.715, 0.104, 0.366, 0.057, 0.400],
        [0.238, 0.006, 0.111, 0.006, 0.137, 0.094, 0.016, 0.214, 0.009, 0.080, 0.008, 0.081],
    ],
    [
        [6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17],
        [0.712, 0.084, 0.474, 0.618, 0.049, 0.460, 0.105, 0.747, 0.404, 0.067, 0.133, 0.330],
        [0.220, 0.006, 0.104, 0.123, 0.019, 0.103, 0.012, 0.214, 0.062, 0.022, 0.061, 0.052],
    ],
)
TONICS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")


@dataclass
class Player:
    """Who plays: name as General MIDI has it, notes as (start_s, end_s, pitch, velocity), and its note events in the
    file as (track, index)."""

    instrument: str
    notes: list[tuple[float, float, int, int]] = field(default_factory=list)
    events: set[tuple[int, int]] = field(default_factory=set)


@dataclass(frozen=True)
class Song:
    """A file as mido reads it. `tempos`: (start_s, quarters per minute); `meters`: (start_s, (beats, unit))."""

    file: mido.MidiFile
    players: list[Player]
    tempos: list[tuple[float, float]]
    meters: list[tuple[float, tuple[int, int]]]


def read(path: Path) -> Song:
    file = mido.MidiFile(path, clip=True)
    events = []  # (tick, track, index, message)
    for number, track in enumerate(file.tracks):
        tick = 0
        for index, message in enumerate(track):
            tick += message.time
            events.append((tick, number, index, message))
    events.sort(key=lambda event: event[0])  # stable: in a track as they stand
    clock, players = _Clock(file.ticks_per_beat), dict[tuple[int, int, str], Player]()
    own: dict[tuple[int, int], int] = {}  # programs by track and channel
    channels: dict[int, int] = defaultdict(int)  # and by channel
    sounding: dict[tuple[int, int, int], list[tuple[float, int, Player]]] = defaultdict(list)
    held: dict[int, list[tuple[float, int, int, Player]]] = defaultdict(list)
    pedal: dict[int, bool] = defaultdict(bool)
    tempos, meters = [(0.0, 120.0)], [(0.0, (4, 4))]
    for tick, track, index, message in events:
        now = clock.seconds(tick)
        if message.type == "set_tempo":
            clock.change(tick, message.tempo)
            tempos.append((now, mido.tempo2bpm(message.tempo)))
        elif message.type == "time_signature":
            meters.append((now, (message.numerator, message.denominator)))
        elif message.type == "program_change":
            own[track, message.channel] = channels[message.channel] = message.program
        elif message.type == "control_change" and message.control == 64:
            pedal[message.channel] = message.value >= 64
            if not pedal[message.channel]:
                for start, pitch, velocity, player in held.pop(message.channel, []):
                    player.notes.append((start, now, pitch, velocity))
        elif message.type == "note_on" and message.velocity:
            program = own.get((track, message.channel), channels[message.channel])
            name = DRUMS if message.channel == 9 else PROGRAM_NAMES[program]
            player = players.setdefault((track, message.channel, name), Player(name))
            player.events.add((track, index))
            sounding[track, message.channel, message.note].append((now, message.velocity, player))
        elif message.type in ("note_off", "note_on"):
            if begun := sounding[track, message.channel, message.note]:
                start, velocity, player = begun.pop(0)
                player.events.add((track, index))
                if pedal[message.channel] and message.channel != 9:
                    held[message.channel].append((start, message.note, velocity, player))
                else:
                    player.notes.append((start, now, message.note, velocity))
    return Song(file, list(players.values()), tempos, meters)


class _Clock:
    """Seconds of ticks, asked for in order."""

    def __init__(self, ticks_per_beat: int) -> None:
        self.ticks_per_beat, self.us_per_beat, self.tick, self.at_s = ticks_per_beat, 500_000, 0, 0.0

    def seconds(self, tick: int) -> float:
        return self.at_s + (tick - self.tick) * self.us_per_beat / 1e6 / self.ticks_per_beat

    def change(self, tick: int, us_per_beat: int) -> None:
        self.at_s, self.tick, self.us_per_beat = self.seconds(tick), tick, us_per_beat


@dataclass(frozen=True)
class Playing:
    """How a player plays in a span: shares with and without rests of articulation, longest rest, onsets, key."""

    share: float
    covered: float
    longest_rest_s: float
    onsets: int
    key: str

    def faults(self, length_s: float) -> list[str]:
        rules = {
            "plays too little": self.share >= MIN_SHARE - ROUNDING_S / length_s,
            "rests too long": self.longest_rest_s <= MAX_REST_S + ROUNDING_S,
            "too few onsets": self.onsets >= length_s / ONSET_EVERY_S - 1,
        }
        return [name for name, kept in rules.items() if not kept]


def playing(player: Player, start_s: float, end_s: float) -> Playing:
    drums = player.instrument == DRUMS
    spans = sorted((a, max(b, a + STROKE_S) if drums else b) for a, b, _, _ in player.notes)
    edges, reached, covered = [], start_s, 0.0
    for a, b in ((max(a, start_s), min(b, end_s)) for a, b in spans):
        if b <= a:
            continue
        edges.append(max(0.0, a - reached))
        covered += max(0.0, b - max(a, reached))
        reached = max(reached, b)
    edges.append(max(0.0, end_s - reached))
    rests = [rest for rest in edges if rest > ARTICULATION_S]
    weights = np.zeros(12)
    for a, b, pitch, velocity in player.notes:
        weights[pitch % 12] += max(0.0, min(b, end_s) - max(a, start_s)) * velocity / 127
    length_s = end_s - start_s
    return Playing(
        share=1 - sum(rests) / length_s,
        covered=covered / length_s,
        longest_rest_s=max(edges),
        onsets=sum(start_s - ROUNDING_S <= a < end_s - ROUNDING_S for a, *_ in player.notes),
        key="" if drums else best_key(weights),
    )


def best_key(weights: NDArray[np.float64]) -> str:
    if np.count_nonzero(weights) < 3:
        return ""
    scores = {
        f"{TONICS[tonic]} {mode}": np.mean([np.corrcoef(np.roll(row, tonic), weights)[0, 1] for row in profiles])
        for mode, profiles in (("major", MAJOR), ("minor", MINOR))
        for tonic in range(12)
    }
    return max(scores, key=lambda key: scores[key])


def in_span(steps: list[tuple[float, V]], start_s: float, end_s: float) -> dict[V, float]:
    """What is in force in a span, and for how many seconds."""
    found: dict[V, float] = defaultdict(float)
    for (begins, value), ends in zip(steps, [*(at for at, _ in steps[1:]), np.inf], strict=True):
        found[value] += max(0.0, min(ends, end_s) - max(begins, start_s))
    return {value: length for value, length in found.items() if length > 1e-6}


def tempo_holds(song: Song, facts: ClipFacts, start_s: float, end_s: float) -> bool:
    """Whether the stated tempo is the map's, to 1 %: of beats of the stated length, the mean where it changes."""
    tempos = in_span(song.tempos, start_s, end_s)
    values, seconds = list(tempos), list(tempos.values())
    quarters = facts.tempo.tempo_bpm * (facts.tempo.beat_quarters or 1.0)
    if facts.tempo.changes:
        return bool(abs(quarters / np.average(values, weights=seconds) - 1) < 0.01)
    return any(abs(quarters / bpm - 1) < 0.01 and length > 0.45 * sum(seconds) for bpm, length in tempos.items())


def meter_holds(song: Song, facts: ClipFacts, start_s: float, end_s: float) -> bool:
    meters = in_span(song.meters, start_s, end_s)
    return max(meters, key=lambda meter: meters[meter]) == (facts.meter.numerator, facts.meter.denominator)


def not_in_rendering(clients: Clients, song: Song, player: Player, clip: CuratedClip) -> float:
    """Share of the clip's power that a rendering of this player's notes alone does not explain, 0..1."""
    alone = mido.MidiFile(type=song.file.type, ticks_per_beat=song.file.ticks_per_beat)
    for number, track in enumerate(song.file.tracks):
        kept, waited = mido.MidiTrack(), 0
        for index, message in enumerate(track):
            waited += message.time
            if message.type in ("note_on", "note_off") and (number, index) not in player.events:
                continue
            kept.append(message.copy(time=waited))
            waited = 0
        alone.tracks.append(kept)
    buffer = io.BytesIO()
    alone.save(file=buffer)
    midi = clients.store.blobs.put_bytes("midi", buffer.getvalue(), "mid", "audio/midi")
    rendered = clients.rendering.RenderSong(RenderSongRequest(midi=midi, mix_only=True), timeout=600)
    mix, rate = soundfile.read(io.BytesIO(clients.store.blobs.read(rendered.mix)), always_2d=True)
    heard, _ = soundfile.read(io.BytesIO(clients.store.blobs.read(clip.audio)), always_2d=True)
    first, ring = round(clip.source.span.start_s * rate), round(RING_S * rate)
    expected = mix[first : first + len(heard)][ring:-ring]
    heard = heard[: len(expected) + 2 * ring][ring:-ring]
    gain = float((expected * heard).sum() / (expected * expected).sum())
    return float(np.square(heard - gain * expected).sum() / np.square(heard).sum())


def clips_of(clients: Clients, collection: str) -> Iterator[CuratedClip]:
    token = ""
    while True:
        which = ClipFilter(collection=collection, subset="monophonic")
        page = clients.curation.ListClips(ListClipsRequest(filter=which, page_token=token), timeout=60)
        yield from page.clips
        if not (token := page.next_page_token):
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("collection")
    parser.add_argument("--listen", type=int, default=0, metavar="N")
    options = parser.parse_args()
    paths = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in options.folder.rglob("*.mid")}
    clients, songs = Clients(os.environ), dict[str, Song]()
    stated, false, minutes = Counter[str](), list[str](), defaultdict[str, float](float)
    found: list[tuple[Song, Player, CuratedClip, str, Playing, bool]] = []
    for clip in clips_of(clients, options.collection):
        digest, span, facts = clip.source.midi_sha256, clip.source.span, clip.facts
        song = songs.setdefault(digest, read(paths[digest]))
        name, length_s = facts.instruments[0].instrument, span.end_s - span.start_s
        where = f"{paths[digest].name} {span.start_s:.1f}-{span.end_s:.1f} {name}"
        stated["instrument"] += 1
        if len(facts.instruments) != 1:
            false.append(f"{where}: names {len(facts.instruments)} instruments")
        key = f"{facts.key.tonic} {'major' if facts.key.mode == MODE_MAJOR else 'minor'}" if facts.key.tonic else ""
        fitting = {
            number: how
            for number, player in enumerate(song.players)
            if player.instrument == name and not (how := playing(player, span.start_s, span.end_s)).faults(length_s)
        }
        best = {number: how for number, how in fitting.items() if key in ("", how.key)} or fitting
        if not fitting:
            false.append(f"{where}: nobody plays it there")
            continue
        number, how = max(best.items(), key=lambda item: item[1].covered)
        found.append((song, song.players[number], clip, where, how, len(best) == 1))
        minutes[name] += length_s / 60
        if key:
            stated["key"] += 1
            false += [f"{where}: {key}, the notes say {how.key}"] if how.key != key else []
        if facts.tempo.tempo_bpm:
            stated["tempo"] += 1
            holds = tempo_holds(song, facts, span.start_s, span.end_s)
            false += [] if holds else [f"{where}: {facts.tempo.tempo_bpm:.1f} BPM is not the map's"]
        if facts.meter.numerator and not facts.meter_changes:
            stated["meter"] += 1
            holds = meter_holds(song, facts, span.start_s, span.end_s)
            false += [] if holds else [f"{where}: {facts.meter.numerator}/{facts.meter.denominator} is not the file's"]
        for prompt in clip.prompts:
            stated["prompt"] += 1
            false += [] if prompt.check.passed else [f"{where}: {prompt.text}"]
    print(f"{stated['instrument']} solo clips of {len(songs)} songs, {sum(minutes.values()):.1f} min")
    most = sorted(minutes.items(), key=lambda item: -item[1])
    print("minutes: " + ", ".join(f"{name} {length:.1f}" for name, length in most))
    print("stated: " + ", ".join(f"{name} {count}" for name, count in stated.items()) + f"; false: {len(false)}")
    for name, values in (
        ("share of time playing", [how.share for *_, how, _ in found]),
        ("covered by notes", [how.covered for *_, how, _ in found]),
        ("longest rest, s", [how.longest_rest_s for *_, how, _ in found]),
    ):
        print(f"{name}: {min(values):.2f} to {max(values):.2f}, median {statistics.median(values):.2f}")
    alone = [one for one in found if one[5]]  # where it is plain who plays
    for song, player, clip, where, *_ in alone[:: max(1, len(alone) // max(1, options.listen))][: options.listen]:
        rest = not_in_rendering(clients, song, player, clip)
        print(f"{where}: {rest:.2e} of its power is not in a rendering of that player's notes alone")
    print("\n".join(false), file=sys.stderr)


if __name__ == "__main__":
    main()
