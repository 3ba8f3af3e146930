"""Real processes die at bad moments; nothing is lost and nothing is done twice."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.system import songbook


def test_a_service_that_is_killed_in_the_middle_is_waited_for(system):
    folder = songbook(system.folder / "killed-services", keep=4)
    run = system.begin("run", str(folder), "--collection", "killed-services", "--mix-only")
    died = {}
    for service in ("rendering", "analysis", "enrichment", "prompting", "curation"):
        time.sleep(1.5)
        if run.poll() is None:
            died[service] = system.kill(service)
    out, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    assert died
    import json

    summary = json.loads(out.splitlines()[-1])
    assert (summary["rendered"], summary["failures"]) == (4, [])
    after = system.services
    assert all(after[service]["pid"] != pid for service, pid in died.items())


def test_a_run_that_is_killed_goes_on_where_it_stood(system):
    folder = songbook(system.folder / "killed-run", keep=5)
    for song in folder.rglob("*.mid"):  # songs of its own: transposed, so that nothing is found done
        _transpose(song)
    run = system.begin("run", str(folder), "--collection", "killed-run", "--mix-only", "--in-flight", "1")
    deadline = time.monotonic() + 120
    while not _records(system, "render", newer_than=run_started(run)) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    resumed = system.luthier("run", str(folder), "--collection", "killed-run", "--mix-only")
    assert (resumed["rendered"], resumed["failures"]) == (5, [])
    assert resumed["reused"] > 0


@pytest.mark.parametrize("number", [signal.SIGINT])
def test_ctrl_c_ends_with_130_and_leaves_the_services_well(system, number):
    folder = songbook(system.folder / "interrupted", keep=4)
    for song in folder.rglob("*.mid"):
        _transpose(song, by=2)
    run = system.begin("run", str(folder), "--collection", "interrupted", "--mix-only")
    time.sleep(3)
    os.kill(run.pid, number)
    assert run.wait(timeout=20) == 130
    assert all(row["serving"] for row in system.services.values())


def run_started(run) -> float:
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + _ticks(run.pid)


def _ticks(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _records(system, stage: str, newer_than: float) -> int:
    folder = system.home / "store"
    return sum(path.stat().st_mtime > newer_than for path in folder.rglob(f"actions/{stage}/*.json"))


def _transpose(path, by: int = 1) -> None:
    import mido

    song = mido.MidiFile(path)
    for track in song.tracks:
        for message in track:
            if message.type in ("note_on", "note_off") and message.channel != 9:
                message.note = min(127, message.note + by)
    song.save(path)
