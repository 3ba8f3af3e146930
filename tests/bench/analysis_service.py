"""Share of CPU that the store and gRPC take of analysis, in a real service: loopback, one worker, a store in a folder
or, with LUTHIER_STORE=s3 and its settings in the environment (services/kit), in that store.

    services/analysis/.venv/bin/python tests/bench/analysis_service.py FOLDER [--songs 6]

FOLDER is what `tests/bench/truth_songs.py` wrote. The service runs as people start it. Its first process speaks gRPC,
fetches and stores, and waits for the worker process, which decodes, measures and cuts: what the first one spends is
the share. Waiting costs, too, and more on a busy machine, where the worker takes longer: what the first process spends
doing nothing is measured as well, and the share given without it. Each song is cut with its timeline, then analysed for
all features; a call before warms everything. Then the parts of the store's work are done here one by one, on the same
files: fetching songs, and storing their clips both ways, in turn. What a server of a store spends is not counted.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

from luthier.analysis.v1 import analysis_pb2 as pb
from luthier.analysis.v1.analysis_pb2_grpc import AnalysisServiceStub
from luthier.common.v1.common_pb2 import ArtifactRef, Timeline
from luthier_kit.rpc import Channel, load
from luthier_kit.store import Store, StoreSettings, open_store
from luthier_music.audio import audio_info

FEATURES = [feature for feature in pb.Feature.values() if feature]
TURNS = 5
CLIP_S = 30.0
SCHED = 2  # CPUCLOCK_SCHED of linux/posix-timers.h: nanoseconds that the scheduler counted, where /proc has ticks


def cpu_s(pid: int) -> float:
    """CPU seconds of a process by now, without its children."""
    return time.clock_gettime(~pid << 3 | SCHED)  # its clock, as clock_getcpuclockid(3) makes it


def copied(mix: Path, folder: Path) -> Path:
    """A copy that the store may take, as it takes what rendering writes."""
    return Path(shutil.copy(mix, folder))


def children(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--songs", type=int, default=6)
    parser.add_argument("--port", type=int, default=17_102)
    options = parser.parse_args()
    timelines = sorted(options.folder.glob("*.timeline"))
    timelines = timelines[:: max(1, len(timelines) // options.songs)][: options.songs]
    with tempfile.TemporaryDirectory() as name:
        settings = load(StoreSettings)
        if settings.store == "folder":
            settings = StoreSettings(store="folder", store_folder=Path(name, "store"))
        store = open_store(settings)
        address = f"127.0.0.1:{options.port}"
        environment = {
            **os.environ,
            "LUTHIER_ADDRESS": address,
            "LUTHIER_STORE_FOLDER": str(settings.store_folder),
            "LUTHIER_METRICS_ADDRESS": f"127.0.0.1:{options.port + 1}",
            "LUTHIER_SLOTS": "1",
        }
        service = subprocess.Popen(
            [sys.executable, "-m", "luthier_analysis"], env=environment, stderr=subprocess.DEVNULL
        )
        try:
            measure(service.pid, address, store, timelines, Path(name))
        finally:
            service.terminate()
            service.wait()
        print(f"the parts, store: {'a folder' if settings.store == 'folder' else settings.s3_endpoint}")
        fetching(store, Path(name), timelines)
        storing(store, Path(name), timelines)


def measure(pid: int, address: str, store: Store, timelines: list[Path], scratch: Path) -> None:
    """Prints CPU seconds per audio minute of both processes, by call."""
    spent: defaultdict[tuple[str, str], float] = defaultdict(float)
    waited_s: defaultdict[str, float] = defaultdict(float)
    audio_s = 0.0
    with Channel(address, retry_budget_s=60) as channel:
        stub = AnalysisServiceStub(channel)
        for number, path in enumerate([timelines[0], *timelines]):
            mix = store.blobs.move_file("mixes", copied(path.with_suffix(".flac"), scratch), "audio/flac")
            timeline = Timeline.FromString(path.read_bytes())
            if number == 0:  # another question than those that count
                stub.CutClips(pb.CutClipsRequest(mix=mix, max_clips=1), timeout=600)
                continue
            audio_s += audio_info(path.with_suffix(".flac")).duration_s
            for call in ("CutClips", "AnalyzeAudio"):
                workers = children(pid)
                before, began = (cpu_s(pid), sum(map(cpu_s, workers))), time.monotonic()
                if call == "CutClips":
                    stub.CutClips(pb.CutClipsRequest(mix=mix, timeline=timeline), timeout=600)
                else:
                    stub.AnalyzeAudio(pb.AnalyzeAudioRequest(audio=mix, features=FEATURES), timeout=600)
                spent[call, "store and gRPC"] += cpu_s(pid) - before[0]
                spent[call, "worker"] += sum(map(cpu_s, workers)) - before[1]
                waited_s[call] += time.monotonic() - began
    began, idle_before = time.monotonic(), cpu_s(pid)
    time.sleep(5)
    idle = (cpu_s(pid) - idle_before) / (time.monotonic() - began)
    print(f"{audio_s / 60:.1f} min of songs; {os.cpu_count()} cores, {platform.machine()}; CPU s per audio minute")
    for call in ("CutClips", "AnalyzeAudio"):
        served, worked = (spent[call, part] / audio_s * 60 for part in ("store and gRPC", "worker"))
        busy = served - idle * waited_s[call] / audio_s * 60
        print(
            f"{call}: {worked:.3f} in the worker, {served:.4f} around it: {served / (served + worked):.1%}; "
            f"without waiting {busy:.4f}: {busy / (busy + worked):.1%}"
        )
    print(f"doing nothing: {idle:.2%} of a core")


def fetching(store: Store, folder: Path, timelines: list[Path]) -> None:
    """Prints CPU seconds per audio minute of fetching a song."""
    spent: defaultdict[str, float] = defaultdict(float)
    audio_s = 0.0
    for path in timelines:
        mix = copied(path.with_suffix(".flac"), folder)
        audio_s += audio_info(mix).duration_s
        ref: ArtifactRef = store.blobs.move_file("mixes", mix, "audio/flac")
        began = time.process_time()
        store.blobs.fetch(ref, folder, max_bytes=1 << 30, read_only=True).unlink()
        spent["fetching a song to read it"] += time.process_time() - began
        began = time.process_time()
        store.blobs.fetch(ref, folder, max_bytes=1 << 30).unlink()
        spent["fetching a copy"] += time.process_time() - began
    for part, seconds in spent.items():
        print(f"  {part}: {seconds / audio_s * 60:.4f}")


def storing(store: Store, folder: Path, timelines: list[Path]) -> None:
    """Prints CPU seconds per audio minute of storing clips that are given up, as analysis does, and that are kept."""
    spent: dict[str, list[float]] = {"move_files": [], "put_file": []}
    audio_s = sum(audio_info(path.with_suffix(".flac")).duration_s for path in timelines)
    for _ in range(TURNS):
        for way, turns in spent.items():
            turns.append(0.0)
            for path in timelines:
                clips = as_clips(path.with_suffix(".flac"), folder)
                began = time.process_time()
                if way == "move_files":
                    store.blobs.move_files("clips", clips, "audio/flac")
                else:
                    for clip in clips:
                        store.blobs.put_file("clips", clip, "audio/flac")
                turns[-1] += time.process_time() - began
                for clip in clips:
                    clip.unlink(missing_ok=True)
    for way, turns in spent.items():
        low, middle, high = (seconds / audio_s * 60 for seconds in (min(turns), median(turns), max(turns)))
        print(f"  storing clips by {way}: {middle:.4f} ({low:.4f} to {high:.4f} of {TURNS} turns)")


def as_clips(mix: Path, folder: Path) -> list[Path]:
    """As many bytes as a song's clips have, in as many files; no store has them yet."""
    data, count = mix.read_bytes(), max(1, round(audio_info(mix).duration_s / CLIP_S))
    size, clips = -(-len(data) // count), []
    for number in range(count):
        clips.append(folder / f"{number}.flac")
        clips[-1].write_bytes(os.urandom(16) + data[number * size : (number + 1) * size])
    return clips


if __name__ == "__main__":
    main()
