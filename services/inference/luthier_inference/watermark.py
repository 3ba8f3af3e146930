"""An imperceptible watermark in the samples, by a program of the operator's that runs as a process of its own.

The program is audiowmark (github.com/swesterfeld/audiowmark, GPL-3, 0.6.5 was measured): 128 bits in patches of the
spectrum between 860 Hz and 4.3 kHz, by a secret key. The payload is the beginning of the digest that names the record
of the action, so that what is read in a file leads to it. Sound, key and payload decide the result: the same request
is the same audio.
"""

import hashlib
import json
import logging
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from luthier.inference.v1 import inference_pb2 as pb
from luthier_kit.rpc import Cancelled, Internal, SettingsError
from luthier_model.generation import Samples

log = logging.getLogger(__name__)
ID_CHARS: Final = 32
"""Of a payload: hexadecimal digits, 128 bits."""
STRENGTHS: Final = (10.0, 15.0, 25.0)
"""The program's own first, then stronger ones, until the payload is found again."""
MAX_READ: Final = 8
"""Payloads that are read in a file, the surest first: it names some in any sound, of which no record is there."""
SURE: Final = 0.5
_PEAK: Final = 0.5  # of what it is given: near full scale it would limit, and the levels are the model's own
_TIMEOUT_S: Final = 120.0  # for one run of the program on ten minutes of sound
_POLL_S: Final = 0.05
_MAX_KEY_BYTES: Final = 4096


@dataclass(frozen=True)
class Watermark:
    """What became of it: its state as the contract has it, its payload and the strength that it was found with."""

    state: "pb.WatermarkState"
    id: str = ""
    strength: float = 0.0


@dataclass(frozen=True)
class ReadPayload:
    """A payload that the program reads in a sound, where, seconds from its beginning, and its rating of it: 1 and more
    where it is there, below SURE where it is chance."""

    id: str
    at_s: float
    rating: float


class Watermarker:
    """Runs the program at `program` with the key file `key` (`audiowmark gen-key`); None: switched off. Threads may
    share it. SettingsError where the key cannot be read.
    """

    def __init__(self, program: Path | None, key: Path | None = None) -> None:
        self._program, self._key = program, key
        self._named = f"audiowmark {_digest(key)}" if program and key else ""

    @property
    def on(self) -> bool:
        """Whether there is a program."""
        return self._program is not None

    def named(self) -> dict[str, str]:
        """What names audio that holds one: what was made without, or by another key, is made anew."""
        return {"watermark": self._named} if self._named else {}

    def put(
        self, samples: Samples, rate_hz: int, payload: str, folder: Path, stop: threading.Event
    ) -> tuple[Samples, Watermark]:
        """Samples (samples, channels) with a payload, and what became of it; as they were where it is not found again
        at any strength. Cancelled within a step of `stop`, Internal WATERMARK_FAILED where the program fails: audio
        that should hold one and does not, is given away only where it says so.
        """
        if not self.on:
            return samples, Watermark(pb.WATERMARK_STATE_OFF)
        peak = float(np.abs(samples).max(initial=0.0))
        if not peak:
            return samples, Watermark(pb.WATERMARK_STATE_NOT_FOUND)
        gain = np.float32(_PEAK / peak)
        clean, marked = folder / "clean.wav", folder / "marked.wav"
        _write(clean, samples * gain, rate_hz)
        for strength in STRENGTHS:
            self._run(["add", "--quiet", "--strength", f"{strength:g}", clean, marked, payload], stop)
            if any(found.id == payload for found in self._read(marked, stop)):
                with_it = soundfile.read(marked, dtype="float32", always_2d=True)[0]
                if with_it.shape != samples.shape:
                    raise Internal(
                        f"the watermark program made {with_it.shape} of {samples.shape}", reason="WATERMARK_FAILED"
                    )
                return with_it / gain, Watermark(pb.WATERMARK_STATE_VERIFIED, payload, strength)
        return samples, Watermark(pb.WATERMARK_STATE_NOT_FOUND)

    def read(self, path: Path, stop: threading.Event) -> list[ReadPayload]:
        """Payloads in a WAV file, at most MAX_READ: most of them, and often all, are chance. Its folder is for it
        alone. As `put` raises."""
        return self._read(path, stop) if self.on else []

    def _read(self, path: Path, stop: threading.Event) -> list[ReadPayload]:
        told = path.with_suffix(".json")
        self._run(["get", "--json", told, path], stop)
        return payloads(told.read_text(encoding="utf-8"))

    def _run(self, arguments: Sequence[str | Path], stop: threading.Event) -> None:
        assert self._program
        assert self._key
        command = [self._program, arguments[0], "--key", self._key, *arguments[1:]]
        ends_at = time.monotonic() + _TIMEOUT_S
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
        except OSError as error:
            raise Internal(
                f"the watermark program cannot be started: {error.strerror}", reason="WATERMARK_FAILED"
            ) from None
        with process:
            while True:
                try:
                    _, said = process.communicate(timeout=_POLL_S)
                    break
                except subprocess.TimeoutExpired:
                    late = time.monotonic() > ends_at
                    if late or stop.is_set():
                        process.kill()
                        process.communicate()
                    if stop.is_set():
                        raise Cancelled("the caller went away while the audio got its watermark") from None
                    if late:
                        raise Internal(
                            f"the watermark program took longer than {_TIMEOUT_S:g} s", reason="WATERMARK_FAILED"
                        ) from None
        if process.returncode:
            log.error("the watermark program ended with %d: %s", process.returncode, said[-500:])
            raise Internal(f"the watermark program ended with {process.returncode}", reason="WATERMARK_FAILED")


def watermarker_of(program: str, key: str) -> Watermarker:
    """By these paths, or none where they are empty. SettingsError where the program or the key cannot be used."""
    if not program:
        return Watermarker(None)
    try:
        subprocess.run([program, "--version"], check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        raise SettingsError(f"LUTHIER_WATERMARK cannot be run: {type(error).__name__}") from None
    return Watermarker(Path(program), Path(key))


def payloads(told: str) -> list[ReadPayload]:
    """The payloads in what the program wrote as JSON, the surest first. Internal WATERMARK_FAILED where it is
    something else."""
    try:
        matches = json.loads(told)["matches"]
        ranked = sorted(matches, key=lambda match: -float(match["rating"]))
        found = [
            ReadPayload(str(match["bits"]), _seconds(str(match["pos"])), float(match["rating"])) for match in ranked
        ]
    except (ValueError, KeyError, TypeError):
        raise Internal("the watermark program wrote what is not its JSON", reason="WATERMARK_FAILED") from None
    whole = (each for each in found if len(each.id) == ID_CHARS)
    return list({each.id: each for each in reversed(list(whole)[:MAX_READ])}.values())[::-1]


def _seconds(position: str) -> float:
    """Of minutes and seconds, such as `1:07`."""
    minutes, _, seconds = position.partition(":")
    return 60.0 * int(minutes) + float(seconds)


def _write(path: Path, samples: Samples, rate_hz: int) -> None:
    soundfile.write(path, samples, rate_hz, format="WAV", subtype="FLOAT")


def _digest(key: Path) -> str:
    """What names a key without telling it."""
    try:
        with key.open("rb") as file:
            data = file.read(_MAX_KEY_BYTES)
    except OSError as error:
        raise SettingsError(f"LUTHIER_WATERMARK_KEY cannot be read: {type(error).__name__}") from None
    return hashlib.sha256(b"luthier watermark key " + data).hexdigest()[:16]
