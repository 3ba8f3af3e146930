"""What each part of a sound module receives: the events of all tracks of a file by time, with system exclusive.

The events of all tracks of a format 1 file that play on one channel of one port come together, as a sequencer sends
them. At one tick a track's order counts, then the order of the tracks; system exclusive that opens a tick comes first.

A part receives the channel of its number, until GS or XG moves it to another: two parts on one channel play its notes
together, and a part on none plays nothing.
"""

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from luthier_rendering import smf
from luthier_rendering.exclusive import PARTS, RECEIVE, RESET, Effect, meaning
from luthier_rendering.smf import MidiLimits, Smf, within

EXCLUSIVE_TRACK: Final = -1
NEVER: Final = 1 << 40  # ticks
_NOWHERE: Final = -1  # the channel of a part that receives none
_BLOCK_EVENTS: Final = 1 << 14  # made into Python's numbers at a time


@dataclass(frozen=True)
class Stream:
    """What one part receives, by time, as columns [n]: `kind` is a kind of smf or of exclusive, with its two values;
    `track` is where it is in the file, -1 for what system exclusive does."""

    tick: NDArray[np.int64]
    kind: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    track: NDArray[np.int64]

    def rows(self) -> Iterator[tuple[int, int, int, int, int]]:
        """(tick, kind, first, second, track) of one event after the other."""
        columns = self.tick, self.kind, self.first, self.second, self.track
        return chain.from_iterable(
            zip(*(column[at : at + _BLOCK_EVENTS].tolist() for column in columns), strict=True)
            for at in range(0, self.tick.size, _BLOCK_EVENTS)
        )


class _Sent(NamedTuple):
    """What a file sends, by time: columns [n] as a track's, and the track of each; `messages` are those of the status
    EXCLUSIVE, in order."""

    tick: NDArray[np.int64]
    status: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    track: NDArray[np.int64]
    messages: list[bytes]


class _Exclusive(NamedTuple):
    """A system exclusive message: where it stands in what is sent, the port of its track, what it means."""

    at: int
    port: int
    effects: tuple[Effect, ...]


def streams(file: Smf, ports: list[int], limits: MidiLimits) -> dict[tuple[int, int], Stream]:
    """What each part (port, 0..15) on which notes start receives, from all tracks together, by time.

    `ports` are the tracks' ports; system exclusive of a track without one (0) reaches all ports.
    """
    if not file.tracks:
        return {}
    sent = _by_time(file)
    ports_used, port_of = np.unique(np.array(ports), return_inverse=True)
    numbers: list[int] = ports_used.tolist()
    exclusive = np.flatnonzero(sent.status == smf.EXCLUSIVE)
    of_ports = np.array(ports)[sent.track[exclusive]]
    exclusives = [
        _Exclusive(at, port, effects)
        for at, port, message in zip(exclusive.tolist(), of_ports.tolist(), sent.messages, strict=True)
        if (effects := meaning(message))
    ]
    routes = _routes(numbers, exclusives, limits)
    at = np.flatnonzero(sent.status != smf.EXCLUSIVE)
    at, part = _received(at, port_of[sent.track[at]] * PARTS + (sent.status[at] & 0x0F), routes, limits)
    playing = np.unique(part[sent.status[at] & 0xF0 == smf.NOTE_ON])
    chosen = np.isin(part, playing)
    at, part = at[chosen], part[chosen]
    done_at, done_part, *done = _done(playing.tolist(), numbers, exclusives, routes, limits)
    kind = np.concatenate([sent.status[at] & 0xF0, done[0]])
    first = np.concatenate([sent.first[at], done[1]])
    second = np.concatenate([sent.second[at], done[2]])
    track = np.concatenate([sent.track[at], np.full(done_at.size, EXCLUSIVE_TRACK)])
    at, part = np.concatenate([at, done_at]), np.concatenate([part, done_part])
    order = np.lexsort((at, part))
    columns = [column[order] for column in (sent.tick[at], kind, first, second, track)]
    begins = np.searchsorted(part[order], playing, side="left").tolist()
    ends = np.searchsorted(part[order], playing, side="right").tolist()
    return {
        (numbers[one // PARTS], one % PARTS): Stream(*(column[begin:end] for column in columns))
        for one, begin, end in zip(playing.tolist(), begins, ends, strict=True)
    }


def _by_time(file: Smf) -> _Sent:
    columns = [track.columns for track in file.tracks]
    sizes = [column.tick.size for column in columns]
    tick, status, first, second = (np.concatenate(column) for column in zip(*columns, strict=True))
    track = np.repeat(np.arange(len(sizes)), sizes)
    exclusive = status == smf.EXCLUSIVE
    channel_event = np.maximum.accumulate(np.where(exclusive, -1, np.arange(tick.size)))  # the last one until here
    begin = np.repeat(np.cumsum([0, *sizes[:-1]]), sizes)  # of the track
    opens = exclusive & ((channel_event < begin) | (tick[channel_event] < tick))
    order = np.argsort(2 * tick + ~opens, kind="stable")
    number = (np.cumsum(exclusive) - 1)[order][exclusive[order]]
    messages = list(chain.from_iterable(track.exclusives for track in file.tracks))
    return _Sent(
        tick[order], status[order], first[order], second[order], track[order], [messages[n] for n in number.tolist()]
    )


def _reached(numbers: list[int], port: int) -> Iterable[int]:
    """The places in `numbers` of the ports that system exclusive of a port reaches."""
    return range(len(numbers)) if port == 0 else [numbers.index(port)]


def _routes(numbers: list[int], exclusives: list[_Exclusive], limits: MidiLimits) -> dict[int, list[tuple[int, int]]]:
    """Of each part that is moved to another channel: from where on in what is sent it receives which (or _NOWHERE)."""
    routes: dict[int, list[tuple[int, int]]] = defaultdict(list)
    moved: dict[int, dict[int, int]] = {}  # by place of the port: the channels of parts that have not their own
    moves = 0
    for at, port, effects in exclusives:
        for wanted, kind, _, channel in effects:
            if kind == RESET:
                for place in [one for one in moved if port in (numbers[one], 0)]:
                    for part in moved.pop(place):
                        routes[part].append((at, part))
            elif kind == RECEIVE and wanted is not None:
                for place in _reached(numbers, port):
                    part = place * PARTS + wanted
                    source = place * PARTS + channel if channel < PARTS else _NOWHERE
                    if moved.get(place, {}).get(part, part) != source:
                        moved.setdefault(place, {})[part] = source
                        routes[part].append((at, source))
                    moves += 1
        within("MIDI_TOO_MANY_EVENTS", "moves of parts to channels", moves, limits.events)
    return routes


def _received(
    at: NDArray[np.int64], channel: NDArray[np.int64], routes: dict[int, list[tuple[int, int]]], limits: MidiLimits
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which events are received by which parts: the places of events [n] in what is sent, and of each a part."""
    if not routes:
        return at, channel
    order = np.argsort(channel, kind="stable")
    sources = {
        int(one): at[order[slice(*np.searchsorted(channel[order], [one, one + 1]))]] for one in np.unique(channel)
    }
    stays = ~np.isin(channel, list(routes))
    pieces = [(at[stays], channel[stays])]
    received = int(stays.sum())
    for part, moves in routes.items():
        for (begin, source), (end, _) in pairwise([(-1, part), *moves, (NEVER, 0)]):
            heard = sources.get(source, at[:0])
            heard = heard[bisect_left(heard, begin) : bisect_left(heard, end)]
            if heard.size:
                pieces.append((heard, np.full(heard.size, part)))
            received += heard.size
            within("MIDI_TOO_MANY_EVENTS", "events, counted for each part that receives them", received, limits.events)
    places, parts = (np.concatenate(column) for column in zip(*pieces, strict=True))
    return places, parts


def _done(
    playing: list[int],
    numbers: list[int],
    exclusives: list[_Exclusive],
    routes: dict[int, list[tuple[int, int]]],
    limits: MidiLimits,
) -> NDArray[np.int64]:
    """What system exclusive does to the parts that play: rows [5, n] of place in what is sent, part, kind, two
    values."""
    rows = array("q")
    for part in set(playing) & routes.keys():
        for at, _ in routes[part]:
            rows.extend((at, part, RECEIVE, 0, 0))
    listeners: dict[int | None, list[tuple[int, int]]] = defaultdict(list)  # (port, part)
    for part in playing:
        for wanted in (None, part % PARTS):
            listeners[wanted].append((numbers[part // PARTS], part))
    for at, port, effects in exclusives:
        for wanted, kind, first, second in effects:
            if kind != RECEIVE:
                for number, part in listeners[wanted]:
                    if port in (number, 0):
                        rows.extend((at, part, kind, first, second))
        within("MIDI_TOO_MANY_EVENTS", "effects of system exclusive on parts", len(rows) // 5, limits.events)
    return np.array(rows, dtype=np.int64).reshape(-1, 5).T
