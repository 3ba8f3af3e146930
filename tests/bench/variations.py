"""Every fact and every number that clips state, held against their MIDI files as mido reads them.

    luthier run FOLDER --collection NAME --variations 24 --mix-only --json > run.json
    tests/.venv/bin/python tests/bench/variations.py FOLDER --collection NAME --curation 127.0.0.1:7105 --run run.json

Nothing of the services is imported but their messages. The file of a clip is varied here by what the clip's source
records: notes off the drums are moved, programs replaced, tempos scaled. Then its notes, pedals, levels, tempo map,
meters and instruments are worked out for the clip's own span, and compared:

- tempo: the time-weighted median of the map, or its mean where it changes, within 0.5 %, and the beat it counts;
- key: the best of 24 by the mean correlation with three published pairs of profiles (Krumhansl and Kessler 1982,
  Temperley 2007, Albrecht and Shanahan 2013);
- meter: the one of most of the span;
- instruments: each that is stated sounds, for the stated share of the span within 0.05;
- prompts: every tempo, key, meter, instrument and word of pace; a number that is none of these is named.

A tempo or key that an estimator heard is no claim about notes: counted apart. Then come costs, from the run's summary.
The exit code is 1 where a statement is false.
`--as-written` holds variations against the files as they are, to see that the check finds what is false.
"""

import argparse
import hashlib
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import grpc
import mido
import numpy as np

from luthier.common.v1 import common_pb2 as common
from luthier.curation.v1.curation_pb2 import ClipFilter, CuratedClip, ListClipsRequest
from luthier.curation.v1.curation_pb2_grpc import CurationServiceStub

TEMPO_TOLERANCE, SHARE_TOLERANCE = 0.005, 0.05
EQUAL_S = 0.001
GAP_S, STROKE_S = 1.0, 0.25  # rests that do not end an instrument's playing; how long a drum stroke is heard at least
DRUMS = -1
TONICS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
PROFILES = {
    "major": (
        (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
        (0.748, 0.060, 0.488, 0.082, 0.670, 0.460, 0.096, 0.715, 0.104, 0.366, 0.057, 0.400),
        (0.238, 0.006, 0.111, 0.006, 0.137, 0.094, 0.016, 0.214, 0.009, 0.080, 0.008, 0.081),
    ),
    "minor": (
        (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
        (0.712, 0.084, 0.474, 0.618, 0.049, 0.460, 0.105, 0.747, 0.404, 0.067, 0.133, 0.330),
        (0.220, 0.006, 0.104, 0.123, 0.019, 0.103, 0.012, 0.214, 0.062, 0.022, 0.061, 0.052),
    ),
}
GM = [
    name.strip()
    for name in """
acoustic grand piano, bright acoustic piano, electric grand piano, honky-tonk piano, electric piano 1, electric
piano 2, harpsichord, clavinet, celesta, glockenspiel, music box, vibraphone, marimba, xylophone, tubular bells,
dulcimer, drawbar organ, percussive organ, rock organ, church organ, reed organ, accordion, harmonica, tango
accordion, acoustic guitar (nylon), acoustic guitar (steel), electric guitar (jazz), electric guitar (clean),
electric guitar (muted), overdriven guitar, distortion guitar, guitar harmonics, acoustic bass, electric bass
(finger), electric bass (pick), fretless bass, slap bass 1, slap bass 2, synth bass 1, synth bass 2, violin, viola,
cello, contrabass, tremolo strings, pizzicato strings, orchestral harp, timpani, string ensemble 1, string ensemble
2, synth strings 1, synth strings 2, choir aahs, voice oohs, synth voice, orchestra hit, trumpet, trombone, tuba,
muted trumpet, french horn, brass section, synth brass 1, synth brass 2, soprano sax, alto sax, tenor sax, baritone
sax, oboe, english horn, bassoon, clarinet, piccolo, flute, recorder, pan flute, blown bottle, shakuhachi, whistle,
ocarina, lead 1 (square), lead 2 (sawtooth), lead 3 (calliope), lead 4 (chiff), lead 5 (charang), lead 6 (voice),
lead 7 (fifths), lead 8 (bass + lead), pad 1 (new age), pad 2 (warm), pad 3 (polysynth), pad 4 (choir), pad 5
(bowed), pad 6 (metallic), pad 7 (halo), pad 8 (sweep), fx 1 (rain), fx 2 (soundtrack), fx 3 (crystal), fx 4
(atmosphere), fx 5 (brightness), fx 6 (goblins), fx 7 (echoes), fx 8 (sci-fi), sitar, banjo, shamisen, koto,
kalimba, bagpipe, fiddle, shanai, tinkle bell, agogo, steel drums, woodblock, taiko drum, melodic tom, synth drum,
reverse cymbal, guitar fret noise, breath noise, seashore, bird tweet, telephone ring, helicopter, applause, gunshot
""".replace("\n", " ").split(",")
]  # the General MIDI sound set, RP-003
SAID = {  # what captions call programs, longest first where one holds another; the rest by its General MIDI name
    "bright acoustic piano": {1}, "electric grand piano": {2}, "honky-tonk piano": {3}, "fm electric piano": {5},
    "electric piano": {4}, "piano": {0}, "drawbar organ": {16}, "bandoneon": {23}, "nylon-string guitar": {24},
    "steel-string acoustic guitar": {25}, "jazz guitar": {26}, "clean electric guitar": {27},
    "muted electric guitar": {28}, "overdriven guitar": {29}, "distorted guitar": {30}, "guitar harmonics": {31},
    "upright bass": {32}, "electric bass": {33}, "picked bass": {34}, "fretless bass": {35}, "slap bass": {36, 37},
    "synth bass": {38, 39}, "double bass": {43}, "harp": {46}, "string ensemble": {48}, "string section": {49},
    "synth strings": {50, 51}, "synth brass": {62, 63}, "soprano saxophone": {64}, "alto saxophone": {65},
    "tenor saxophone": {66}, "baritone saxophone": {67}, "square-wave synth lead": {80}, "sawtooth synth lead": {81},
    "calliope synth lead": {82}, "chiff synth lead": {83}, "charang synth lead": {84}, "fifths synth lead": {86},
    "synth lead": {85, 87}, "new age synth pad": {88}, "warm synth pad": {89}, "polysynth pad": {90}, "choir pad": {91},
    "bowed synth pad": {92}, "metallic synth pad": {93}, "halo synth pad": {94}, "sweep synth pad": {95},
    "rain synth effect": {96}, "soundtrack synth effect": {97}, "crystal synth effect": {98},
    "atmosphere synth effect": {99}, "brightness synth effect": {100}, "goblin synth effect": {101},
    "echo synth effect": {102}, "sci-fi synth effect": {103}, "bagpipes": {109}, "taiko drums": {116},
    "drums": {DRUMS},
}  # fmt: skip
PHRASES = {**{name: {program} for program, name in enumerate(GM)}, **SAID}
PHRASE = re.compile("|".join(rf"(?<!\w){re.escape(p)}(?!\w)" for p in sorted(PHRASES, key=len, reverse=True)))
TEMPO = re.compile(r"(\d+(?:\.\d+)?) (?:bpm|beats per minute|quarter notes per minute)")
KEY = re.compile(r"(?<!\w)([a-g])(#|b| sharp|-sharp| flat|-flat)? (major|minor)")
METER = re.compile(r"(\d+)/(\d+)")
PACE = {"slow": (0, 90), "moderate": (90, 125), "fast": (120, 1000)}  # BPM


# --- a file as mido reads it, varied


@dataclass
class Note:
    """In seconds; `program` DRUMS for drums; `spans` in which it is heard."""

    program: int
    pitch: int
    velocity: int
    spans: list[tuple[float, float]]


@dataclass
class Music:
    """Notes, and what holds from when on: quarter notes per minute, and meters."""

    notes: list[Note]
    tempos: list[tuple[float, float]]
    meters: list[tuple[float, tuple[int, int]]]


@dataclass
class Channel:
    """What is in force on a channel of a port as its messages go by."""

    drums: bool
    is_default: bool = True  # what makes drums: nothing but the channel's number
    bank: int = 0
    program: int = 0
    by_track: dict[int, tuple[int, int]] = field(default_factory=dict)  # program and bank that a track chose itself
    volume: int = 100
    expression: int = 127
    pedal: bool = False
    bend: int = 0
    bend_range: float = 2.0
    coarse: int = 0
    rpn: list[int] = field(default_factory=lambda: [127, 127])
    loud: list[tuple[int, bool]] = field(default_factory=lambda: [(0, True)])
    open: dict[tuple[int, int], list["Held"]] = field(default_factory=lambda: defaultdict(list))
    held: list["Held"] = field(default_factory=list)  # let go, and held by the pedal
    bends: list[tuple[int, float]] = field(default_factory=lambda: [(0, 0.0)])


@dataclass
class Held:
    """A note in ticks while it is read; `up` is when its key went up."""

    channel: Channel
    program: int
    pitch: int
    velocity: int
    start: int
    up: int = -1
    end: int = -1


def merged(file: mido.MidiFile) -> Iterator[tuple[int, int, int, mido.Message]]:
    """Tick, track, port and message of all messages by time; in a tick as the tracks come."""
    rows = []
    for number, track in enumerate(file.tracks):
        tick, port = 0, next((message.port for message in track if message.type == "midi_port"), 0)
        for message in track:
            tick += message.time
            rows.append((tick, number, port, message))
    yield from sorted(rows, key=lambda row: row[0])


def read(path: Path, variation: common.Variation) -> Music:
    """The music of a file, varied."""
    file = mido.MidiFile(path, clip=True)
    channels: dict[tuple[int, int], Channel] = {}
    tempos: list[tuple[int, float]] = [(0, 500_000)]
    meters: list[tuple[int, tuple[int, int]]] = [(0, (4, 4))]
    done: list[Held] = []
    standard, last = "", 0
    own = {
        (number, message.channel) for number, track in enumerate(file.tracks) for message in track
        if message.type == "program_change"
    }  # fmt: skip
    for tick, track, port, message in merged(file):
        if message.type == "set_tempo":
            tempos.append((tick, message.tempo))
        elif message.type == "time_signature":
            meters.append((tick, (message.numerator, message.denominator)))
        elif message.type == "sysex":
            standard = exclusive(message.data, standard, channels, tick)
        elif hasattr(message, "channel"):
            key = (port, message.channel)
            channel = channels.setdefault(key, Channel(drums=message.channel == 9))
            if message.type in ("note_on", "note_off"):
                last = max(last, tick)
            act(channel, message, tick, track, (track, message.channel) in own, standard, done)
    for channel in channels.values():
        for note in channel.held:
            note.end = last
            done.append(note)
    return music(file.ticks_per_beat, done, tempos, meters, variation, last)


def exclusive(data: tuple[int, ...], standard: str, channels: dict[tuple[int, int], Channel], tick: int) -> str:
    """GM, GM2, GS and XG resets, and GS rhythm parts."""
    found = ""
    if data[:1] == (0x7E,) and data[2:3] == (9,):
        found = {1: "gm", 3: "gm2"}.get(data[3], "")
    elif data[:1] == (0x41,) and data[2:7] == (0x42, 0x12, 0x40, 0x00, 0x7F):
        found = "gs"
    elif data[:1] == (0x43,) and data[2:6] == (0x4C, 0, 0, 0x7E):
        found = "xg"
    elif data[:1] == (0x41,) and data[2:5] == (0x42, 0x12, 0x40) and data[5] >> 4 == 1 and data[6] == 0x15:
        block = data[5] & 15
        number = 9 if block == 0 else block - 1 if block < 10 else block
        channel = channels.setdefault((0, number), Channel(drums=number == 9))
        channel.drums = data[7] > 0
    if found:
        for (_, number), channel in channels.items():
            fresh = Channel(drums=number == 9)
            channel.drums, channel.bank, channel.program, channel.by_track = fresh.drums, 0, 0, {}
            channel.volume, channel.expression, channel.pedal = 100, 127, False
            channel.loud.append((tick, True))
    return found or standard


def act(
    channel: Channel, message: mido.Message, tick: int, track: int, own: bool, standard: str, done: list[Held]
) -> None:
    """One message of a channel."""
    if message.type == "note_on" and message.velocity:
        program, bank = channel.by_track.get(track, (channel.program, channel.bank)) if own else (
            channel.program, channel.bank
        )  # fmt: skip
        is_drum = drums_of(channel, bank, standard)
        pitch = message.note if is_drum else message.note + channel.coarse
        note = Held(channel, DRUMS if is_drum else program, pitch, message.velocity, tick)
        for again in [one for one in channel.held if one.pitch == pitch and one.program != DRUMS]:
            release(channel, again, tick, done)
        channel.open[track, message.note].append(note)
    elif message.type in ("note_on", "note_off"):
        waiting = channel.open[track, message.note]
        if waiting:
            note = waiting.pop(0)
            note.up = tick
            channel.held.append(note)
            if not channel.pedal or note.program == DRUMS:
                release(channel, note, tick, done)
    elif message.type == "program_change":
        channel.program = message.program
        channel.by_track[track] = (message.program, channel.bank)
    elif message.type == "pitchwheel":
        channel.bend = message.pitch
        channel.bends.append((tick, channel.bend / 8192 * channel.bend_range))
    elif message.type == "control_change":
        control(channel, message.control, message.value, tick, done)


def drums_of(channel: Channel, bank: int, standard: str) -> bool:
    if standard == "xg":
        return bank in (126, 127) if bank else channel.drums
    if standard == "gm2":
        return bank == 120 or (channel.drums and bank != 121)
    return channel.drums or (not standard and bank in (120, 127))


def control(channel: Channel, number: int, value: int, tick: int, done: list[Held]) -> None:
    if number == 0:
        channel.bank = value
    elif number in (7, 11):
        setattr(channel, "volume" if number == 7 else "expression", value)
        channel.loud.append((tick, channel.volume > 0 and channel.expression > 0))
    elif number == 64:
        channel.pedal = value >= 64
        if not channel.pedal:
            for note in list(channel.held):
                release(channel, note, tick, done)
    elif number in (100, 101):
        channel.rpn[number == 100] = value
    elif number in (98, 99):
        channel.rpn = [127, 127]
    elif number == 6 and channel.rpn == [0, 0]:
        channel.bend_range = min(value, 24)
    elif number == 6 and channel.rpn == [0, 2]:
        channel.coarse = value - 64
    elif number == 121:
        channel.expression, channel.bend = 127, 0
        channel.bends.append((tick, 0.0))
        channel.loud.append((tick, channel.volume > 0))
        control(channel, 64, 0, tick, done)
    elif number >= 120:
        for waiting in channel.open.values():
            for note in waiting:
                note.up = tick
                channel.held.append(note)
            waiting.clear()
        if number == 120 or not channel.pedal:
            for note in list(channel.held):
                release(channel, note, tick, done)


def release(channel: Channel, note: Held, tick: int, done: list[Held]) -> None:
    channel.held.remove(note)
    note.end = tick
    done.append(note)


def music(
    ticks_per_beat: int,
    held: list[Held],
    tempos: list[tuple[int, float]],
    meters: list[tuple[int, tuple[int, int]]],
    variation: common.Variation,
    last: int,
) -> Music:
    """Notes in seconds: moved, on other programs, in a scaled time."""
    factor = variation.tempo_factor or 1.0
    us_of = dict(tempos)  # of several at one tick the last
    ticks = np.array(sorted(us_of))
    us = np.array([us_of[tick] for tick in ticks.tolist()]) / factor
    starts = np.concatenate([[0.0], np.cumsum(np.diff(ticks) * us[:-1])]) / (1e6 * ticks_per_beat)

    def seconds(tick: int) -> float:
        piece = int(np.searchsorted(ticks, tick, side="right")) - 1
        return float(starts[piece] + (tick - ticks[piece]) * us[piece] / (1e6 * ticks_per_beat))

    notes = []
    for note in held:
        is_drum = note.program == DRUMS
        if note.up == note.start and not is_drum:
            continue
        bends = note.channel.bends
        middle = (note.start + note.up) // 2
        bend = 0.0 if is_drum else next(value for at, value in reversed(bends) if at <= middle)
        move = 0 if is_drum else variation.transpose_semitones + 12 * variation.octaves.get(note.program, 0)
        program = note.program if is_drum else variation.programs.get(note.program, note.program)
        end = min(max(note.end, note.up), last) if not is_drum else max(note.up, note.start + 1)
        spans = heard(note.channel.loud, note.start, end)
        if spans:
            timed = [(seconds(a), seconds(b)) for a, b in spans]
            notes.append(Note(program, round(note.pitch + move + bend), note.velocity, timed))
    meter_of = dict(meters)
    return Music(
        notes,
        list(zip(starts.tolist(), (60e6 / us).tolist(), strict=True)),
        [(seconds(tick), meter_of[tick]) for tick in sorted(meter_of)],
    )


def heard(loud: list[tuple[int, bool]], start: int, end: int) -> list[tuple[int, int]]:
    """The parts of a note in which its channel is not at volume or expression 0."""
    found, edges = [], [*loud[1:], (end, False)]
    for (at, audible), (until, _) in zip(loud, edges, strict=True):
        first, last = max(at, start), min(until, end)
        if audible and first < last:
            found.append((first, last))
        if at >= end:
            break
    return found


# --- what is true of a span


@dataclass
class Truth:
    """`tempo_bpm` counts quarter notes; `meters` several where they last equally long; `shares` by program; `key` e.g.
    `Eb minor`, empty for none."""

    tempo_bpm: float
    changes: bool
    meters: set[tuple[int, int]]
    shares: dict[int, float]
    key: str


def truth(music: Music, start_s: float, end_s: float) -> Truth:
    lasting = pieces([at for at, _ in music.tempos], start_s, end_s)
    bpm = np.array([value for _, value in music.tempos])
    order = np.argsort(bpm)
    median = float(bpm[order][np.searchsorted(np.cumsum(lasting[order]), lasting.sum() / 2)])
    steady = lasting[np.abs(bpm / median - 1) <= 0.02].sum() / lasting.sum()
    changes = bool(steady < 0.98)
    meters: defaultdict[tuple[int, int], float] = defaultdict(float)
    for (_, meter), s in zip(music.meters, pieces([at for at, _ in music.meters], start_s, end_s), strict=True):
        meters[meter] += s
    playing: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
    weights = np.zeros(12)
    for note in music.notes:
        for a, b in note.spans:
            playing[note.program].append((a, max(b, a + STROKE_S) if note.program == DRUMS else b))
            if note.program != DRUMS:
                weights[note.pitch % 12] += max(0.0, min(b, end_s) - max(a, start_s)) * note.velocity
    mean = float((bpm * lasting).sum() / lasting.sum())
    return Truth(
        mean if changes else median,
        changes,
        {meter for meter, lasting_s in meters.items() if lasting_s > max(meters.values()) - EQUAL_S},
        {program: share(spans, start_s, end_s) for program, spans in playing.items()},
        key_of(weights),
    )


def pieces(starts_s: list[float], start_s: float, end_s: float) -> np.ndarray:
    """Seconds of each of consecutive pieces inside a span [n]."""
    ends = [*starts_s[1:], float("inf")]
    return np.array([max(0.0, min(b, end_s) - max(a, start_s)) for a, b in zip(starts_s, ends, strict=True)])


def share(spans: list[tuple[float, float]], start_s: float, end_s: float) -> float:
    """Of a span in which an instrument plays, short rests included."""
    total, reached = 0.0, -1e9
    for a, b in sorted(spans):
        begun = reached if 0 <= a - reached <= GAP_S else max(a, reached)
        total += max(0.0, min(b, end_s) - max(begun, start_s))
        reached = max(reached, b)
    return total / (end_s - start_s)


def key_of(weights: np.ndarray) -> str:
    if np.count_nonzero(weights) < 3 or np.ptp(weights) == 0:
        return ""
    scores = {
        f"{TONICS[tonic]} {mode}": np.mean([np.corrcoef(np.roll(weights, -tonic), one)[0, 1] for one in profiles])
        for mode, profiles in PROFILES.items()
        for tonic in range(12)
    }
    return max(scores, key=lambda key: scores[key])


# --- what clips state


@dataclass
class Tally:
    """Statements by subject, how many of them are false, and which."""

    stated: Counter[str] = field(default_factory=Counter)
    false: Counter[str] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)

    def check(self, subject: str, right: bool, line: str) -> None:
        self.stated[subject] += 1
        if not right:
            self.false[subject] += 1
            self.lines.append(f"{subject}: {line}")


def check_clip(clip: CuratedClip, true: Truth, tally: Tally) -> None:
    source, facts = clip.source, clip.facts
    number = source.variation.number
    where = f"{source.song.title}, variation {number}, {source.span.start_s:.1f}-{source.span.end_s:.1f} s:"
    tempo, beats_bpm = facts.tempo, 0.0
    if tempo.tempo_bpm and tempo.source == common.FACT_SOURCE_TEMPO_MAP:
        beat = 1.0 if tempo.notated else tempo.beat_quarters or 1.0
        beats_bpm = true.tempo_bpm / beat
        right = abs(tempo.tempo_bpm / beats_bpm - 1) <= TEMPO_TOLERANCE and tempo.changes == true.changes
        tally.check("tempo", right, f"{where} {tempo.tempo_bpm:.2f} {tempo.changes} for {beats_bpm:.2f} {true.changes}")
        if not tempo.notated:
            tally.check("beat", beat in map(beat_of, true.meters), f"{where} {beat} quarters in {true.meters}")
    elif tempo.tempo_bpm:
        tally.stated["tempo by ear"] += 1
    key = f"{facts.key.tonic} {'minor' if facts.key.mode == common.MODE_MINOR else 'major'}" if facts.key.tonic else ""
    if key and facts.key.source == common.FACT_SOURCE_NOTES:
        tally.check("key", key == true.key, f"{where} {key} for {true.key}")
    elif key:
        tally.stated["key by ear"] += 1
        tally.stated["key by ear, and by the notes"] += key == true.key
    if facts.meter.numerator:
        meter = (facts.meter.numerator, facts.meter.denominator)
        tally.check("meter", meter in true.meters, f"{where} {meter} for {true.meters}")
    for one in facts.instruments:
        program = DRUMS if one.instrument == "Drums" else GM.index(one.instrument.lower())
        mine = true.shares.get(program, 0.0)
        right = mine > 0 and abs(mine - one.share) <= SHARE_TOLERANCE
        tally.check("instrument", right, f"{where} {one.instrument} {one.share:.3f} for {mine:.3f}")
    for prompt in clip.prompts:
        check_prompt(prompt.text, clip, true, beats_bpm, where, tally)


def beat_of(meter: tuple[int, int]) -> float:
    """In quarter notes: dotted in compound meters."""
    numerator, denominator = meter
    return 12 / denominator if numerator > 3 and numerator % 3 == 0 and denominator >= 8 else 4 / denominator


def check_prompt(text: str, clip: CuratedClip, true: Truth, beats_bpm: float, where: str, tally: Tally) -> None:
    said, left = f"{where} «{text}»", text.lower()
    tally.check("prompt passed its own check", all(p.check.passed for p in clip.prompts if p.text == text), said)
    for number in TEMPO.findall(left):
        if beats_bpm:
            tally.check("tempo in a prompt", abs(float(number) - beats_bpm) <= 0.51, f"{said} for {beats_bpm:.2f}")
        else:
            tally.stated["tempo by ear in a prompt"] += 1
    for word, (low, high) in PACE.items():
        if beats_bpm and re.search(rf"\b{word} tempo", left):
            tally.check("pace in a prompt", low <= beats_bpm <= high, f"{said} for {beats_bpm:.2f}")
    for letter, accidental, mode in KEY.findall(left):
        sign = {"": "", "#": "#", "b": "b"}.get(accidental, "#" if "sharp" in accidental else "b")
        step = (TONICS.index(letter.upper()) + {"": 0, "#": 1, "b": -1}[sign]) % 12
        if clip.facts.key.source == common.FACT_SOURCE_NOTES:
            tally.check("key in a prompt", f"{TONICS[step]} {mode}" == true.key, f"{said} for {true.key}")
        else:
            tally.stated["key by ear in a prompt"] += 1
    for numerator, denominator in METER.findall(left):
        meter = (int(numerator), int(denominator))
        tally.check("meter in a prompt", meter in true.meters, f"{said} for {true.meters}")
    left = METER.sub(" ", TEMPO.sub(" ", left))
    for phrase in PHRASE.findall(left):
        sounding = PHRASES[phrase] & {program for program, one in true.shares.items() if one > 0}
        tally.check("instrument in a prompt", bool(sounding), f"{said}: {phrase}")
    tags = " ".join(tag.text for tag in clip.tags)
    for number in re.findall(r"\d+", PHRASE.sub(" ", left)):
        tally.check("other number in a prompt", number in tags, f"{said}: {number}")


def clips_of(address: str, collection: str) -> Iterator[CuratedClip]:
    with grpc.insecure_channel(address) as channel:
        stub, token = CurationServiceStub(channel), ""
        while True:
            asked = ListClipsRequest(filter=ClipFilter(collection=collection), page_size=500, page_token=token)
            page = stub.ListClips(asked, timeout=60)
            yield from page.clips
            token = page.next_page_token
            if not token:
                return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--collection", required=True)
    parser.add_argument("--curation", default="127.0.0.1:7105", help="address of the curation service")
    parser.add_argument("--run", type=Path, help="what luthier run --json printed")
    parser.add_argument("--as-written", action="store_true", help="leave the files as they are: nearly all is false")
    parser.add_argument("--show", type=int, default=40, help="false statements that are printed")
    options = parser.parse_args()
    paths = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in options.folder.rglob("*.mid")}

    @lru_cache(maxsize=64)
    def varied(sha256: str, variation: bytes) -> Music:
        return read(paths[sha256], common.Variation.FromString(variation))

    tallies = {False: Tally(), True: Tally()}  # by whether it is of a variation
    shifts: dict[str, dict[int, common.Variation]] = defaultdict(dict)
    fingerprints: dict[str, set[str]] = defaultdict(set)
    clips: Counter[bool] = Counter()
    for clip in clips_of(options.curation, options.collection):
        source = clip.source
        is_varied = source.HasField("variation")
        clips[is_varied] += 1
        change = common.Variation() if options.as_written else source.variation
        music = varied(source.midi_sha256, change.SerializeToString(deterministic=True))
        true = truth(music, source.span.start_s, source.span.end_s)
        check_clip(clip, true, tallies[is_varied])
        fingerprints[source.midi_sha256].add(source.song_fingerprint)
        if is_varied:
            shifts[source.midi_sha256][source.variation.number] = source.variation
    report(tallies, clips, shifts, fingerprints, options)
    sys.exit(any(one.false for one in tallies.values()))


def report(
    tallies: dict[bool, Tally],
    clips: Counter[bool],
    shifts: dict[str, dict[int, common.Variation]],
    fingerprints: dict[str, set[str]],
    options: argparse.Namespace,
) -> None:
    made = [variation for of_song in shifts.values() for variation in of_song.values()]
    print(f"{len(fingerprints)} songs, {clips[False]} clips; {len(made)} variations, {clips[True]} clips of them")
    print("| statement | of songs | false | of variations | false |\n|---|---|---|---|---|")
    for subject in sorted(set(tallies[False].stated) | set(tallies[True].stated)):
        row = [f"{one.stated[subject]} | {one.false[subject]}" for one in tallies.values()]
        print(f"| {subject} | {' | '.join(row)} |")
    for one in tallies.values():
        print("\n".join(one.lines[: options.show]))
    several = sum(len(found) > 1 for found in fingerprints.values())
    keys = [len({variation.transpose_semitones for variation in of_song.values()}) for of_song in shifts.values()]
    if made:
        factors = [variation.tempo_factor for variation in made]
        others = sum(bool(variation.programs or variation.kits) for variation in made)
        octaves = sum(bool(variation.octaves) for variation in made)
        print(
            f"{several} songs with more than one fingerprint; {np.mean(keys):.1f} keys a song, tempo factors "
            f"{min(factors):.3f} to {max(factors):.3f}, {others} of {len(made)} on other instruments, {octaves} with "
            "parts an octave away"
        )
    if options.run:
        costs(json.loads(options.run.read_text().splitlines()[-1]))


def costs(summary: dict[str, Any]) -> None:
    """CPU seconds of a song and of a variation, by the stages that say them."""
    of_all, of_variations = summary["cpu_s"], summary["variations_cpu_s"]
    of_songs = {stage: cpu_s - of_variations.get(stage, 0.0) for stage, cpu_s in of_all.items()}
    songs_s = summary["audio_s"] - summary["variations_audio_s"]
    print(f"{len(summary['failures'])} failures")
    for name, count, cpu_s, audio_s in (
        ("song", summary["rendered"], of_songs, songs_s),
        ("variation", summary["variations"], of_variations, summary["variations_audio_s"]),
    ):
        if count:
            stages = ", ".join(f"{stage} {seconds / count:.2f}" for stage, seconds in cpu_s.items())
            total = sum(cpu_s.values())
            print(f"a {name}: {total / count:.2f} CPU s ({stages}); {60 * total / audio_s:.3f} per minute of audio")


if __name__ == "__main__":
    main()
