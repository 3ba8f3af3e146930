"""What files cost that are made to cost: CPU time and memory, read one at a time and sixteen at once.

Bounds of CPU time are several times what is measured (at most 1.8 s), as tests share their machine.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from luthier.rendering.v1 import rendering_pb2 as pb
from luthier.rendering.v1.rendering_pb2_grpc import RenderingServiceStub
from luthier_kit.rpc import Channel, InvalidRequest
from luthier_kit.store import Store, StoreSettings, open_store
from luthier_rendering.inspection import facts
from luthier_rendering.midi import load_song
from luthier_rendering.signature import signature
from tests.support.measure import cost_of

from .in_workers import within
from .midi_making import OFF, ON, chunk, header, midi_bytes, notes

MB = 1 << 20
CPU_S = 4.0
EVENTS = 490_000  # ten thousand less than the bound
ORDINARY = midi_bytes(notes([60, 64, 67]), notes([36, 38], channel=9))
LONG = midi_bytes(*[notes([48 + i % 24 for i in range(1400)]) for _ in range(20)])  # takes a minute to render


def controllers(number: int, seed: int = 0) -> bytes:
    """One channel with EVENTS controller changes over 20 beats, 95 tracks with a note each: a song, and a valid one."""
    moves = b"".join(bytes([i % 50 == 0, number, 40 + (i + seed) % 60]) for i in range(EVENTS))
    status = bytes([0, 0xB0, number, 96])
    return header(tracks=95) + chunk(ON + status + moves + OFF) + chunk(ON + OFF) * 94


def repeated(event: Callable[[int], bytes], count: int = EVENTS) -> bytes:
    return header() + chunk(ON + b"".join(event(i) for i in range(count)) + OFF)


def exclusive(data: bytes) -> bytes:
    return b"\x00\xf0" + bytes([len(data) + 1]) + data + b"\xf7"


def on_all_channels(port: int) -> bytes:
    return chunk(bytes([0, 0xFF, 0x21, 1, port]) + b"".join(bytes([0, 0x90 | c, 60, 9, 96, 60, 0]) for c in range(16)))


RESET, RHYTHM = b"\x7e\x7f\x09\x01", b"\x43\x10\x4c\x08\x00\x07"
GS_VOLUME, XG_CHANNEL = b"\x41\x10\x42\x12\x40\x11\x19\x40\x00", b"\x43\x10\x4c\x08\x00\x04"
SHAPES: dict[str, tuple[Callable[[], bytes], str]] = {
    "volumes": (lambda: controllers(7), ""),
    "pans": (lambda: controllers(10), ""),
    "pedals": (lambda: controllers(64), ""),
    "modulation": (lambda: controllers(1), ""),
    "data entries": (lambda: controllers(6), ""),
    "banks": (lambda: controllers(0), ""),
    "all sound off": (lambda: controllers(120), ""),
    "resets of controllers": (lambda: controllers(121), ""),
    "bends": (lambda: repeated(lambda i: bytes([i % 50 == 0, 0xE0, i & 127, i >> 7 & 127])), ""),
    "programs": (lambda: header() + chunk(ON + b"\x00\xc0\x00" + b"\x00\x07" * EVENTS + OFF), ""),
    "programs of many tracks": (
        lambda: header(tracks=90) + chunk(b"\x00\xc0\x05" + ON + (b"\x00\xc0\x06" + b"\x00\x07" * 5000) + OFF) * 90,
        "",
    ),
    "notes at one tick": (lambda: header() + chunk(ON + b"\x00\x3c\x64" * EVENTS + OFF), "MIDI_TOO_MANY_NOTES"),
    "as many notes as may be": (
        lambda: header() + chunk(ON + b"\x00\x3c\x64" * 199_000 + b"\x60\x3c\x00" + b"\x00\x3c\x00" * 199_000),
        "",
    ),
    "notes that end in another track": (
        lambda: header(tracks=2)
        + chunk(b"\x00\x90\x3c\x64" + b"\x02\x3c\x64" * 190_000)
        + chunk(b"\x01\x80\x3c\x00" + b"\x02\x3c\x00" * 190_000),
        "",
    ),
    "strokes between sostenuto": (
        lambda: repeated(lambda _: b"\x00\xb0\x42\x7f\x01\x90\x3c\x64\x00\xb0\x42\x00\x00\x90\x3c\x00", 120_000),
        "",
    ),
    "65,535 tracks of nothing": (lambda: header(tracks=65535) + chunk(b"") * 65535, "MIDI_TOO_MANY_TRACKS"),
    "256 tracks of nothing": (lambda: header(tracks=256) + chunk(b"") * 255 + chunk(ON + OFF), ""),
    "4,080 parts": (lambda: header(tracks=255) + b"".join(map(on_all_channels, range(255))), "MIDI_TOO_MANY_STEMS"),
    "tempos at one tick": (lambda: repeated(lambda i: b"\x00\xff\x51\x03\x07" + i.to_bytes(3)[1:]), ""),
    "tempos": (lambda: repeated(lambda i: b"\x01\xff\x51\x03\x07" + i.to_bytes(3)[1:]), "MIDI_TOO_MANY_TEMPOS"),
    "meters": (lambda: repeated(lambda i: b"\x01\xff\x58\x04" + bytes([3 + i % 2, 2, 24, 8])), "MIDI_TOO_MANY_BARS"),
    "texts": (lambda: repeated(lambda _: b"\x00\xff\x01\x03la!"), ""),
    "names": (lambda: repeated(lambda _: b"\x00\xff\x03\x03la!"), ""),
    "one text of 8 MB": (lambda: repeated(lambda _: b"\x00\xff\x01\x83\xff\xff\x00" + bytes((1 << 23) - 128), 1), ""),
    "one exclusive of 8 MB": (
        lambda: repeated(lambda _: b"\x00\xf0\x83\xff\xff\x00" + bytes((1 << 23) - 129) + b"\xf7", 1),
        "",
    ),
    "exclusive in pieces": (lambda: repeated(lambda i: b"\x00\xf0\x01\x41" if i == 0 else b"\x00\xf7\x01\x10"), ""),
    "resets": (lambda: repeated(lambda _: exclusive(RESET)), "MIDI_NO_NOTES"),
    "resets of 16 channels": (
        lambda: header(tracks=2) + chunk(exclusive(RESET) * EVENTS) + on_all_channels(0),
        "MIDI_TOO_MANY_EVENTS",
    ),
    "rhythm settings": (lambda: repeated(lambda i: exclusive(RHYTHM + bytes([i % 2]))), ""),
    "a part's volume on 254 ports": (
        lambda: header(tracks=255)
        + chunk(exclusive(GS_VOLUME) * EVENTS)
        + b"".join(map(on_all_channels, range(1, 255))),
        "MIDI_TOO_MANY_EVENTS",
    ),
    "a part moved to and fro": (lambda: repeated(lambda i: exclusive(XG_CHANNEL + bytes([i % 2]))), "MIDI_NO_NOTES"),
    "all parts on one channel": (
        lambda: header()
        + chunk(
            b"".join(exclusive(b"\x43\x10\x4c\x08" + bytes([part, 4, 0])) for part in range(16))
            + ON
            + b"\x00\xb0\x07\x60"
            + b"\x00\x07\x64" * 400_000
            + OFF
        ),
        "MIDI_TOO_MANY_EVENTS",
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_file_is_read_or_refused_in_bounded_time_and_memory(shape: str) -> None:
    data, reason = SHAPES[shape][0](), SHAPES[shape][1]
    said = ""

    def read() -> None:
        nonlocal said
        try:
            song = load_song(data)
            facts(song)
            signature(song)
        except InvalidRequest as refusal:
            said = refusal.reason

    began = time.process_time()
    cost = cost_of(read)
    assert said == reason
    assert time.process_time() - began < CPU_S
    assert cost.peak_bytes < 220 * MB


@dataclass(frozen=True)
class Running:
    """A rendering service in its own process, two songs at a time."""

    pid: int
    address: str
    store: Store
    scratch: Path

    def processes(self) -> list[int]:
        """It and its workers."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/children")
        return [self.pid, *(int(child) for task in tasks for child in task.read_text().split())]

    def memory(self, what: str) -> int:
        """Resident bytes of all processes together: now (VmRSS), or the peaks of each (VmHWM), summed."""
        texts = [Path(f"/proc/{pid}/status").read_text() for pid in self.processes()]
        return sum(int(size) << 10 for text in texts for size in re.findall(rf"{what}:\s+(\d+) kB", text))

    def cpu_s(self) -> float:
        fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self.processes()]
        return sum(int(one[11]) + int(one[12]) for one in fields) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Spent:
    cpu_s: float
    peak_bytes: int


def spent(service: Running, call: Callable[[], object]) -> Spent:
    """What a call costs all processes of the service; the peak is at most this, beyond what they held before."""
    for pid in service.processes():
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins at what is resident now
    held, cpu_s = service.memory("VmRSS"), service.cpu_s()
    call()
    return Spent(service.cpu_s() - cpu_s, service.memory("VmHWM") - held)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("costs")
    with (folder / "log").open("wb") as log:
        environment = {
            **os.environ, "LUTHIER_ADDRESS": "127.0.0.1:0", "LUTHIER_METRICS_ADDRESS": "127.0.0.1:0",
            "LUTHIER_SLOTS": "2", "LUTHIER_STORE_FOLDER": str(folder / "store"), "LUTHIER_SCRATCH": str(folder),
        }  # fmt: skip
        command = [sys.executable, "-m", "luthier_rendering"]
        process = subprocess.Popen(command, env=environment, stderr=log, stdout=log)
    said = re.compile(r'"address": "([^"]+)"')
    try:
        assert within(60, lambda: said.search((folder / "log").read_text()))
        found = said.search((folder / "log").read_text())
        assert found
        store = open_store(StoreSettings(store="folder", store_folder=folder / "store"))
        running = Running(process.pid, found[1], store, folder)
        inspect(running, ORDINARY)
        yield running
    finally:
        process.kill()
        process.wait()


def inspect(service: Running, data: bytes) -> pb.InspectMidiResponse:
    midi = service.store.blobs.put_bytes("midi", data, "mid")
    with Channel(service.address) as channel:
        stub = RenderingServiceStub(channel)
        response: pb.InspectMidiResponse = stub.InspectMidi(pb.InspectMidiRequest(midi=midi), timeout=120)
    return response


def test_one_inspection_of_half_a_million_controllers(service: Running) -> None:
    data = controllers(7, seed=100)
    cost = spent(service, lambda: inspect(service, data))
    assert cost.cpu_s < CPU_S
    assert cost.peak_bytes < 256 * MB


def test_sixteen_inspections_at_once_keep_to_the_bounds_of_two_workers(service: Running) -> None:
    files = [controllers(7, seed) for seed in range(16)]
    answers: list[pb.InspectMidiResponse] = []

    def all_at_once() -> None:
        with ThreadPoolExecutor(16) as threads:
            answers.extend(threads.map(lambda data: inspect(service, data), files))

    cost = spent(service, all_at_once)
    assert [one.notes for one in answers] == [95] * 16
    assert cost.cpu_s < 16 * CPU_S / 2
    assert cost.peak_bytes < 512 * MB


def test_an_ordinary_file_is_inspected_at_once_while_all_slots_render(service: Running) -> None:
    store = service.store
    requests = [pb.RenderSongRequest(midi=store.blobs.put_bytes("midi", song, "mid")) for song in (LONG, LONG + b"\0")]
    with grpc.insecure_channel(service.address) as channel:
        calls = [RenderingServiceStub(channel).RenderSong.future(request, timeout=120) for request in requests]
        assert within(30, lambda: len(list(service.scratch.glob("render-*/worker.step"))) == 2)
        began = time.monotonic()
        assert inspect(service, ORDINARY + b"\0").notes == 5
        assert time.monotonic() - began < 2.0
        assert not any(call.done() for call in calls)
        for call in calls:
            call.cancel()
    assert within(30, lambda: not list(service.scratch.glob("render-*")))


def test_a_song_of_half_a_million_controllers_is_rendered_in_bounded_time_and_memory(service: Running) -> None:
    midi = service.store.blobs.put_bytes("midi", controllers(10, seed=200), "mid")
    request = pb.RenderSongRequest(midi=midi, mix_only=True)
    with Channel(service.address) as channel:
        cost = spent(service, lambda: RenderingServiceStub(channel).RenderSong(request, timeout=300))
    assert cost.cpu_s < 60
    assert cost.peak_bytes < 512 * MB
