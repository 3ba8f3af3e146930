"""How well watermarks fit music: what they change, what they cost, and after which treatments they are found.

    make services/analysis/.venv/.synced
    services/analysis/.venv/bin/python -m tests.bench.inference.watermarks FOLDER [--audiowmark PROGRAM]
      [--strength S ...] [--perth PYTHON] [--files N]

FOLDER has music of 44.1 kHz in FLAC or WAV, of which the first 47.6 s are marked; what is shorter is left out. PROGRAM
is audiowmark (GPL-3, github.com/swesterfeld/audiowmark); PYTHON an interpreter that can import `perth` (resemble-perth,
MIT, its weights in its wheel; it also needs librosa, torchaudio, PyYAML and setuptools below 81, which it does not
name). Both run as processes of their own. Criterion, fixed before anything was measured: a watermark is good enough for
music where it lies 25 dB below the sound or lower (SI-SDR, median), keeps the level above 16 kHz within 0.5 dB, is
found in at least 99 % of the whole files after each of MP3, AAC and Opus at 128 kbit/s and resampling, in no file
without one, and costs at most 1 s of CPU to put into 47.6 s. What of excerpts of 10 s and in mixes is found is told
beside it: the log of outputs is there for these.

SI-SDR by Le Roux et al. (ICASSP 2019), mean removed. Found means: the payload that was put in, whole; of perth, which
has none to choose, a confidence above 0.5. A mix is the marked sound 6 dB (RMS) below the next file's.
"""

import argparse
import hashlib
import json
import os
import platform
import resource
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from scipy.signal import resample_poly

from tests.bench.inference.lossy import CODECS, RATE_HZ, Floats, through_codec

WHOLE_S: Final = 47.6
EXCERPT_S: Final = 10
HIGH_HZ: Final = 16_000
PERTH: Final = """
import sys, soundfile, numpy, perth, torch
torch.set_num_threads(1)
marker = perth.PerthImplicitWatermarker()
print("ready", flush=True)
for line in sys.stdin:
    job, *paths = line.split()
    samples, rate = soundfile.read(paths[0], dtype="float32", always_2d=True)
    if job == "put":
        marked = [marker.apply_watermark(channel, sample_rate=rate) for channel in samples.T]
        soundfile.write(paths[1], numpy.stack(marked, 1)[: len(samples)], rate, subtype="PCM_16")
        print("done", flush=True)
    else:
        print(float(marker.get_watermark(samples.mean(axis=1), sample_rate=rate)), flush=True)
"""


@dataclass(frozen=True)
class Tool:
    """`put` marks a WAV file with 128 bits in hexadecimal digits and writes another, `found` looks for them."""

    name: str
    put: Callable[[Path, Path, str], None]
    found: Callable[[Path, str], bool]
    cpu_s: Callable[[], float]


def audiowmark(program: str, key: Path, strength: float) -> Tool:
    def put(source: Path, target: Path, payload: str) -> None:
        options = ["--key", key, "--strength", f"{strength:g}", "--quiet"]
        subprocess.run([program, "add", *options, source, target, payload], check=True, capture_output=True)

    def found(path: Path, payload: str) -> bool:
        told = path.with_suffix(".json")
        subprocess.run([program, "get", "--key", key, "--json", told, path], check=True, capture_output=True)
        return any(match["bits"] == payload for match in json.loads(told.read_text())["matches"])

    def cpu_s() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    return Tool(f"audiowmark, strength {strength:g}", put, found, cpu_s)


def perth(python: str) -> Tool:
    process = subprocess.Popen(
        [python, "-c", PERTH], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdin
    assert process.stdout
    asked, told = process.stdin, process.stdout
    while told.readline().strip() != "ready":
        if process.poll() is not None:
            raise SystemExit(f"{python} cannot import perth")

    def answer(line: str) -> str:
        asked.write(line + "\n")
        asked.flush()
        return told.readline().strip()

    def put(source: Path, target: Path, payload: str) -> None:
        answer(f"put {source} {target}")

    def cpu_s() -> float:
        user, system = Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    return Tool("perth", put, lambda path, _: float(answer(f"get {path}")) > 0.5, cpu_s)


def resampled(samples: Floats, rate_hz: int) -> Floats:
    """At another rate."""
    shared = np.gcd(RATE_HZ, rate_hz)
    there: Floats = resample_poly(samples, rate_hz // shared, RATE_HZ // shared, axis=0).astype(np.float32)
    return there


def mixed(samples: Floats, other: Floats) -> Floats:
    """6 dB below another sound."""
    frames = min(len(samples), len(other))
    samples, other = samples[:frames], other[:frames]
    mix = samples * (10 ** (-6 / 20) * rms(other) / max(rms(samples), 1e-9)) + other
    return (mix * min(1.0, 0.99 / float(np.abs(mix).max()))).astype(np.float32)


def rms(samples: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def snr_db(clean: Floats, marked: Floats) -> float:
    return 20 * float(np.log10(rms(clean) / max(rms(marked - clean), 1e-12)))


def si_sdr_db(clean: Floats, marked: Floats) -> float:
    truth, heard = (each.ravel() - each.mean() for each in (clean.astype(np.float64), marked.astype(np.float64)))
    part = (heard @ truth) / (truth @ truth) * truth
    return 10 * float(np.log10((part @ part) / max(np.square(heard - part).sum(), 1e-12)))


def high_db(clean: Floats, marked: Floats) -> float:
    """Change of the level above HIGH_HZ."""
    power = []
    for each in (clean, marked):
        spectrum = np.abs(np.fft.rfft(each.mean(axis=1)))
        power.append(float(np.square(spectrum[int(HIGH_HZ / RATE_HZ * len(each)) :]).sum()))
    return 10 * float(np.log10(max(power[1], 1e-12) / max(power[0], 1e-12)))


def treatments(marked: Floats, other: Floats) -> dict[str, tuple[Floats, int]]:
    """Samples and rate by the name of what was done."""
    start = (len(marked) - EXCERPT_S * RATE_HZ) // 2
    ways: dict[str, tuple[Floats, int]] = {}
    for part, samples in (("whole", marked), ("10 s", marked[start : start + EXCERPT_S * RATE_HZ])):
        ways[f"{part}, as it is"] = samples, RATE_HZ
        ways[f"{part}, -14 dB"] = samples * np.float32(0.2), RATE_HZ
        for name in CODECS:
            ways[f"{part}, {name} 128k"] = through_codec(samples, name), RATE_HZ
        ways[f"{part}, at 48 kHz and back"] = resample_poly(resampled(samples, 48_000), 147, 160, axis=0), RATE_HZ
        ways[f"{part}, at 22.05 kHz"] = resampled(samples, 22_050), 22_050
        ways[f"{part}, in a mix at -6 dB"] = mixed(samples, other[start:] if part == "10 s" else other), RATE_HZ
    return ways


def measure(tool: Tool, files: list[Path]) -> None:
    changed: defaultdict[str, list[float]] = defaultdict(list)
    found: defaultdict[str, list[bool]] = defaultdict(list)
    put_s, get_s = list[float](), list[float]()
    false = 0
    sounds = [
        soundfile.read(path, int(WHOLE_S * RATE_HZ), dtype="float32", always_2d=True)[0] for path in files
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clean_path, marked_path, treated_path = (folder / f"{each}.wav" for each in ("clean", "marked", "treated"))
        for number, clean in enumerate(sounds):
            payload = hashlib.sha256(files[number].name.encode()).hexdigest()[:32]
            soundfile.write(clean_path, clean, RATE_HZ, subtype="PCM_16")
            before = tool.cpu_s()
            tool.put(clean_path, marked_path, payload)
            put_s.append(tool.cpu_s() - before)
            marked = soundfile.read(marked_path, dtype="float32", always_2d=True)[0][: len(clean)]
            for what, of in (("SNR", snr_db), ("SI-SDR", si_sdr_db), ("high", high_db)):
                changed[what].append(of(clean[: len(marked)], marked))
            other = sounds[(number + 1) % len(sounds)]
            for way, (samples, rate_hz) in treatments(marked, other).items():
                soundfile.write(treated_path, samples, rate_hz, subtype="PCM_16")
                before = tool.cpu_s()
                found[way].append(tool.found(treated_path, payload))
                if way == "whole, as it is":
                    get_s.append(tool.cpu_s() - before)
            false += tool.found(clean_path, payload)
    low, middle, high = (float(np.percentile(changed["SI-SDR"], at)) for at in (0, 50, 100))
    print(f"\n{tool.name}, {len(files)} files of {WHOLE_S:g} s; {os.cpu_count()} cores, {platform.machine()}\n")
    print(f"SI-SDR {middle:.1f} dB at the median, {low:.1f} to {high:.1f}; SNR {np.median(changed['SNR']):.1f} dB")
    print(f"level above {HIGH_HZ // 1000} kHz: {np.median(changed['high']):+.2f} dB at the median,"
          f" {min(changed['high']):+.2f} to {max(changed['high']):+.2f}")  # fmt: skip
    print(f"CPU: {np.median(put_s):.2f} s to put in, {np.median(get_s):.2f} s to look; found without one: {false}\n")
    print("| treatment | found |\n|---|---|")
    for way, hits in found.items():
        print(f"| {way} | {np.mean(hits):.0%} of {len(hits)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--audiowmark", default="")
    parser.add_argument("--strength", type=float, nargs="+", default=[10.0])
    parser.add_argument("--perth", default="")
    parser.add_argument("--files", type=int, default=24)
    options = parser.parse_args()
    sounds = sorted(path for path in options.folder.iterdir() if path.suffix in (".flac", ".wav"))
    files = [path for path in sounds if soundfile.info(path).duration >= WHOLE_S][: options.files]
    with tempfile.TemporaryDirectory() as name:
        if options.audiowmark:
            key = Path(name) / "key"
            subprocess.run([options.audiowmark, "gen-key", key], check=True, capture_output=True)
            for strength in options.strength:
                measure(audiowmark(options.audiowmark, key, strength), files)
        if options.perth:
            measure(perth(options.perth), files)


if __name__ == "__main__":
    main()
