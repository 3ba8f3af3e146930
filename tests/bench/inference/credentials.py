"""What content credentials and the log of outputs cost: CPU time and bytes of a file, beside its encoding.

    services/inference/.venv/bin/python tests/bench/inference/credentials.py [--seconds 47.6] [--rounds 9] \
      [--forms wav ...] [--stamped]

Stereo noise at 44.1 kHz, written and signed as the service does it, in turn; CPU of this process and of the one that
signs, medians of the rounds after the first, which starts that process. Of the log: the fingerprint and its entry.
With --stamped each file has a time stamp of an authority (openssl) on loopback: the network is left out.
"""

import argparse
import contextlib
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

import numpy as np

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_inference import audio
from luthier_inference.credentials.certificate import for_development
from luthier_inference.credentials.signer import NOBODY, Signer, TimeAuthority
from luthier_inference.credentials.statement import MODEL, Ingredient, Statement
from luthier_inference.known_outputs.kept import KnownOutputs
from luthier_kit.store import StoreSettings, open_store
from tests.support.authorities import root, time_stamping

STATEMENT = Statement(
    "demo@1, seed 1", "demo@1", f"sha256:{'0' * 64}", 1, f"actions/generate/{'0' * 64}.json",
    (Ingredient("demo@1", f"sha256:{'0' * 64}", MODEL),),
)  # fmt: skip


def children_cpu_s() -> float:
    """CPU seconds of the processes that this one began, which still run."""
    ticks = 0
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[11:13]
            ticks += int(user) + int(system)
    return ticks / os.sysconf("SC_CLK_TCK")


def with_log(sound: np.ndarray, rounds: int, folder: Path) -> None:
    """The entry of an output in the log, in a store in a folder."""
    store = open_store(StoreSettings(store="folder", store_folder=folder))
    log, costs, waits = KnownOutputs(store, 64 << 20), list[float](), list[float]()
    for number in range(rounds + 1):
        audio = ArtifactRef(key=f"generated/{number:064x}.flac", sha256=f"{number:064x}", size_bytes=1)
        cpu, wall = time.process_time(), time.perf_counter()
        log.keep(sound, 44_100, audio, f"actions/generate/{number:064x}.json", "demo@1", "")
        costs.append(time.process_time() - cpu)
        waits.append(time.perf_counter() - wall)
    size = next(store.objects.stored("generated/")).size_bytes
    cpu_ms, wall_ms = (statistics.median(each[1:]) * 1000 for each in (costs, waits))
    print(f"log        {size} bytes stored; {cpu_ms:.0f} ms CPU, {wall_ms:.0f} ms waited")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=47.6)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--forms", nargs="+", default=[audio.FLAC, audio.WAV, audio.WAV_FLOAT, audio.MP3])
    parser.add_argument("--stamped", action="store_true")
    asked = parser.parse_args()
    draw = np.random.default_rng(1)
    sound = np.cumsum(draw.standard_normal((round(asked.seconds * 44_100), 2)), axis=0)
    sound = (0.5 * sound / np.abs(sound).max()).astype(np.float32)
    print(f"{asked.seconds:g} s stereo; {os.cpu_count()} cores, {platform.machine()}")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder, authority = Path(name), NOBODY
        if asked.stamped:
            stamping = stack.enter_context(time_stamping(root("Time"), folder / "authority"))
            authority = TimeAuthority(stamping.address)
        signer = Signer(for_development(folder / "certificate"), authority)
        for form in asked.forms:
            written, signed, elapsed, more = [], [], [], 0
            for number in range(asked.rounds + 1):
                own = folder / f"{form}-{number}"
                own.mkdir()
                cpu = time.process_time()
                path = audio.write(own, sound, 44_100, form, audio.Tags("noise", "bench"))
                written.append(time.process_time() - cpu)
                before, cpu, wall = path.stat().st_size, time.process_time() + children_cpu_s(), time.perf_counter()
                signer.sign(path, audio.FORMATS[form].media_type, STATEMENT)
                elapsed.append(time.perf_counter() - wall)
                signed.append(time.process_time() + children_cpu_s() - cpu)
                more = path.stat().st_size - before
            encoding, waited = (statistics.median(each[1:]) * 1000 for each in (written, elapsed))
            mean = statistics.fmean(signed[1:]) * 1000  # the kernel counts in hundredths: the mean sees between them
            cost = f"{mean:.0f} ms CPU (mean), {waited:.0f} ms waited"
            print(f"{form:10} {more} bytes more; {cost}; encoding {encoding:.0f} ms CPU")
        signer.close()
        with_log(sound, asked.rounds, folder / "store")


if __name__ == "__main__":
    main()
