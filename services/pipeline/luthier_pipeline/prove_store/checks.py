"""What Luthier asks of an object store, as checks that try to show the contrary.

Real stores kept the first of two writers at one endpoint, and lost it between endpoints of a cluster, for objects that
are written in parts, or where a reply was lost. So every check writes by one client and looks by others, which ask
other endpoints, and races have as many writers as asked for.
"""

import hashlib
import io
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from luthier_kit.rpc import LuthierError
from luthier_kit.store import ObjectStore

PART_BYTES: Final = 8 << 20
"""The client sends what is longer in parts of so much."""
SIZES: Final = (0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1)
PARTS_WRITERS: Final = 8  # of one object in parts at a time: each sends 3 parts
PAGE: Final = 1000  # objects of a page of a listing
MAX_SMALL_BYTES: Final = 4096
SHOWN: Final = 5  # faults of a check that are told

Open = Callable[[int], ObjectStore]
"""A client of its own, the nth: at the endpoints in turn. Closed by nobody: it holds nothing but connections."""


@dataclass(frozen=True)
class Asked:
    """`open_losing`: clients that lose every other reply to what they wrote; None where none can be lost (a folder).

    `prefix` ends in `/`: everything is written below it. `large_bytes`: the largest object.
    """

    open: Open
    open_losing: Open | None
    prefix: str
    writers: int
    rounds: int
    large_bytes: int

    def key(self) -> str:
        """One that nobody has used."""
        return f"{self.prefix}{uuid.uuid4().hex}"


@dataclass(frozen=True)
class Check:
    """`faults`: what was seen that must not be, a line each; none where all held. `tries`: how often it was asked."""

    name: str
    tries: int
    seconds: float
    faults: Sequence[str]
    left_out: str = ""


Run = Callable[[Asked, Open], Iterator[str | None]]
"""Yields for each try what went wrong, None where nothing did. Writes by the clients that it is given."""


def checks(asked: Asked) -> Iterator[Check]:
    """Each in turn, as it ends."""
    for name, run, loses in CHECKS:
        open_client = asked.open_losing if loses else asked.open
        if open_client is None:
            yield Check(name, 0, 0.0, [], "no reply of a folder can be lost")
            continue
        began, faults, tries = time.perf_counter(), list[str](), 0
        try:
            for fault in run(asked, open_client):
                tries += 1
                if fault:
                    faults.append(fault)
        except LuthierError as error:
            faults.append(f"ended by: {error}")
        yield Check(name, tries, time.perf_counter() - began, faults)


def _at_once(number: int, work: Callable[[int], object]) -> list[object]:
    """What `work` gives for each number, begun at the same moment; an error is its answer."""
    start = threading.Barrier(number)

    def one(at: int) -> object:
        start.wait(timeout=60)
        try:
            return work(at)
        except LuthierError as error:
            return error

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(one, range(number)))


def one_of_many_wins(asked: Asked, open_client: Open) -> Iterator[str | None]:
    """As many writers as asked for create one object; one is told that it did, and everybody reads that one's."""
    clients = [open_client(at) for at in range(asked.writers)]
    readers = [asked.open(at) for at in range(asked.writers)]
    for _ in range(asked.rounds):
        key, bodies = asked.key(), [uuid.uuid4().hex.encode() for _ in clients]
        answers = _at_once(len(clients), lambda at: clients[at].create(key, bodies[at]))  # noqa: B023
        errors = [answer for answer in answers if isinstance(answer, LuthierError)]
        won = [body for body, answer in zip(bodies, answers, strict=True) if answer is True]
        late = clients[0].create(key, b"late")
        stored = {reader.get(key, MAX_SMALL_BYTES) for reader in readers[:PARTS_WRITERS]}
        if errors:
            yield f"{len(errors)} of {len(clients)} writers got an error: {errors[0]}"
        elif len(won) != 1 or late:
            yield f"{len(won) + late} of {len(clients) + 1} writers were told that they created one object"
        elif stored != {won[0]}:
            yield f"who won wrote {won[0]!r}, but {len(stored)} contents were read, {sorted(map(str, stored))[:2]}"
        else:
            yield None


def parts_are_all_or_nothing(asked: Asked, open_client: Open) -> Iterator[str | None]:
    """Writers of one object in parts: what is read, meanwhile and after, is one writer's, whole."""
    writers = min(asked.writers, PARTS_WRITERS)
    clients = [open_client(at) for at in range(writers)]
    bodies = [random.Random(at).randbytes(2 * PART_BYTES + 12345 + at) for at in range(writers)]
    whole = {hashlib.sha256(body).hexdigest(): len(body) for body in bodies}
    for _ in range(max(1, asked.rounds // 4)):
        key, done, seen = asked.key(), threading.Event(), set[str]()

        def look(at: int) -> None:
            reader = asked.open(at)
            while not done.is_set():  # noqa: B023
                if (found := _digest(reader, key)) is not None:  # noqa: B023
                    seen.add(found)  # noqa: B023

        with ThreadPoolExecutor(2) as readers:
            looking = [readers.submit(look, at) for at in range(2)]
            try:
                answers = _at_once(writers, lambda at: _put(clients[at], key, bodies[at]))  # noqa: B023
            finally:
                done.set()
            for each in looking:
                each.result()
        last = {_digest(asked.open(at), key) for at in range(PARTS_WRITERS)}
        errors = [answer for answer in answers if isinstance(answer, LuthierError)]
        if errors:
            yield f"{len(errors)} of {writers} writers got an error: {errors[0]}"
        elif not seen <= whole.keys():
            yield "an object was read while it was written that no writer sent"
        elif len(last) != 1 or not last <= whole.keys():
            yield f"{len(last)} contents were read after all writers had ended, {len(last - whole.keys())} of no writer"
        else:
            yield None
        clients[0].delete(key)


def what_was_written_is_found_at_once(asked: Asked, open_client: Open) -> Iterator[str | None]:
    """After a write that was confirmed, another endpoint reads, heads and lists it; after a delete none does."""
    for at in range(asked.rounds * 4):
        writer, reader = open_client(at), asked.open(at + 1)
        folder = asked.key()
        key, body = f"{folder}/{uuid.uuid4().hex}", uuid.uuid4().hex.encode()
        writer.create(key, body)
        fault = None
        if reader.get(key, MAX_SMALL_BYTES) != body:
            fault = "an object that was written was not read"
        elif reader.size_bytes(key) != len(body):
            fault = "an object that was written has another size"
        elif list(reader.keys(f"{folder}/")) != [key]:
            fault = "an object that was written was not listed"
        writer.delete(key)
        if fault is None and reader.get(key, MAX_SMALL_BYTES) is not None:
            fault = "an object that was deleted was read"
        elif fault is None and list(reader.keys(f"{folder}/")):
            fault = "an object that was deleted was listed"
        yield fault


def the_last_write_is_read(asked: Asked, open_client: Open) -> Iterator[str | None]:
    """An object that is overwritten is the new one everywhere."""
    for at in range(asked.rounds * 4):
        key = asked.key()
        for number in range(3):
            body = f"{number} {uuid.uuid4().hex}".encode()
            _put(open_client(at + number), key, body)
            if asked.open(at + number + 1).get(key, MAX_SMALL_BYTES) != body:
                yield "an object was read as it was before it was overwritten"
                break
        else:
            yield None


def listings_are_whole(asked: Asked, open_client: Open) -> Iterator[str | None]:
    """More objects than a page holds are listed once each, while others are written beside them."""
    folder = asked.key()
    wanted = [f"{folder}/{name:05d}.json" for name in range(PAGE + PAGE // 4)]
    with ThreadPoolExecutor(asked.writers) as pool:
        clients = [open_client(at) for at in range(asked.writers)]
        list(pool.map(lambda each: clients[each[0] % len(clients)].create(each[1], b"{}"), enumerate(wanted)))
        done = threading.Event()

        def disturb() -> None:
            number = 0
            while not done.is_set():
                clients[0].create(f"{folder}/x{number:05d}.json", b"{}")
                number += 1

        beside = pool.submit(disturb)
        try:
            for at in range(max(1, asked.rounds // 4)):
                listed = [key for key in asked.open(at).keys(f"{folder}/") if not key.startswith(f"{folder}/x")]
                if len(listed) != len(set(listed)):
                    yield "an object was listed twice"
                elif missing := len(set(wanted) - set(listed)):
                    yield f"{missing} of {len(wanted)} objects were not listed"
                else:
                    yield None
        finally:
            done.set()
        beside.result()


def objects_of_every_size_come_back(asked: Asked, open_client: Open) -> Iterator[str | None]:
    """Byte for byte, as long as they are said to be; and under another name after a copy."""
    for at, size in enumerate((*SIZES, asked.large_bytes)):
        writer, reader = open_client(at), asked.open(at + 1)
        key, to, body = asked.key(), asked.key(), random.Random(size).randbytes(size)
        expected = hashlib.sha256(body).hexdigest()
        _put(writer, key, body)
        fault = None
        if reader.size_bytes(key) != size:
            fault = f"an object of {size} bytes is said to have {reader.size_bytes(key)}"
        elif _digest(reader, key) != expected:
            fault = f"an object of {size} bytes came back changed"
        elif size:  # what is empty is never moved: a corrupt object is, and that has bytes
            writer.move(key, to)
            if _digest(reader, to) != expected or reader.size_bytes(key) is not None:
                fault = f"an object of {size} bytes was changed, or left behind, as it was moved"
        yield fault
        writer.delete(to)
        writer.delete(key)


def an_upload_that_breaks_leaves_nothing(asked: Asked, open_client: Open) -> Iterator[str | None]:
    """What is sent half is not there; the same client writes it whole afterwards."""
    for at in range(max(1, asked.rounds // 4)):
        writer, reader, key = open_client(at), asked.open(at + 1), asked.key()
        body = random.Random(at).randbytes(2 * PART_BYTES + 99)
        seen: list[str | None] = []
        sources = iter([_Breaks(body, lambda: seen.append(_digest(reader, key)))])  # noqa: B023
        try:
            writer.put(key, lambda: next(sources, None) or io.BytesIO(body), len(body), "application/octet-stream")  # noqa: B023
        except LuthierError:  # a folder's client does not try again
            seen.append(_digest(reader, key))
            _put(writer, key, body)
        if set(seen) != {None}:
            yield "an object was there although its upload had broken off"
        elif _digest(reader, key) != hashlib.sha256(body).hexdigest():
            yield "an upload that broke off and was sent again came back changed"
        else:
            yield None
        writer.delete(key)


class _Breaks(io.BytesIO):
    """Fails after its first part; `broke` is called before."""

    def __init__(self, body: bytes, broke: Callable[[], None]) -> None:
        super().__init__(body)
        self._broke = broke

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() > PART_BYTES:
            self._broke()
            raise OSError("the source broke")
        return super().read(size)


def _put(store: ObjectStore, key: str, body: bytes) -> None:
    store.put(key, lambda: io.BytesIO(body), len(body), "application/octet-stream")


def _digest(store: ObjectStore, key: str) -> str | None:
    """SHA-256 of an object, None when there is none."""
    digest, found = hashlib.sha256(), store.size_bytes(key)
    if found is None:
        return None
    try:
        for chunk in store.chunks(key):
            digest.update(chunk)
    except LuthierError as error:
        if error.reason == "OBJECT_NOT_FOUND":
            return None
        raise
    return digest.hexdigest()


CHECKS: Final[tuple[tuple[str, Run, bool], ...]] = (
    ("one of many writers wins", one_of_many_wins, False),
    ("one of many writers wins, replies lost", one_of_many_wins, True),
    ("objects in parts are whole or not there", parts_are_all_or_nothing, False),
    ("objects in parts are whole or not there, replies lost", parts_are_all_or_nothing, True),
    ("an upload that breaks off leaves nothing", an_upload_that_breaks_leaves_nothing, False),
    ("what was written is found at once, elsewhere", what_was_written_is_found_at_once, False),
    ("what was overwritten is read anew, elsewhere", the_last_write_is_read, False),
    ("listings are whole", listings_are_whole, False),
    ("objects of every size come back", objects_of_every_size_come_back, False),
)
"""Name, what is asked, and whether replies are lost."""
