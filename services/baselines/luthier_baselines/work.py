"""The folder that is filled: a FLAC for each row, done once, and `baseline.json`, which says by what and with what.

A row is done when its line is in `baseline.json` and its file is there. A file gets its name when it is whole, and its
line after it, so that a run that was killed goes on with the row that it was at.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from luthier_baselines.prompts import Value, write_prompts, written_row
from luthier_kit.bounded_json import read_json
from luthier_kit.rpc import FailedPrecondition, InvalidRequest
from luthier_music.audio import Samples, audio_info, write_audio

RECORD: Final = "baseline.json"
PROMPTS: Final = "prompts.json"
MAX_RECORD_BYTES: Final = 64 << 20
LINE_EVERY_S: Final = 10.0  # of progress


@dataclass(frozen=True)
class Settings:
    """What all rows have in common: other settings are another folder. `options`: those of the model, by name."""

    model: str
    weights_sha256: str
    options: Mapping[str, float | str]
    packages: Mapping[str, str]


@dataclass(frozen=True)
class Row:
    """A row to do: its file without suffix, and what decides its sound (`inputs`) or goes through (`facts`)."""

    name: str
    prompt: str
    inputs: Mapping[str, float | str]
    facts: Mapping[str, Value]

    @property
    def file(self) -> str:
        return f"{self.name}.flac"


@dataclass(frozen=True)
class Result:
    """Samples [frames, channels] at a rate in Hz."""

    samples: Samples
    sample_rate_hz: int


@dataclass(frozen=True)
class Summary:
    """How many rows were done now and before, and samples that were beyond full scale, which are clipped."""

    done: int
    before: int
    clipped: int


def fill(out: Path, settings: Settings, rows: Sequence[Row], make: Callable[[Row], Result]) -> Summary:
    """Does what is not done yet, and writes PROMPTS.

    Raises FailedPrecondition OTHER_SETTINGS for a folder of other settings, InvalidRequest FOLDER_UNWRITABLE.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        record = _read(out, settings)
        summary = _fill(out, settings, rows, make, record)
        write_prompts(
            out / PROMPTS,
            [written_row(row.file, row.prompt, audio_info(out / row.file).duration_s, row.facts) for row in rows],
        )
    except OSError as error:
        bound = f"cannot be written: {error.strerror}: {error.filename or out}"
        raise InvalidRequest(reason="FOLDER_UNWRITABLE", violations=[("--out", bound)]) from error
    return summary


def _fill(
    out: Path, settings: Settings, rows: Sequence[Row], make: Callable[[Row], Result], record: dict[str, object]
) -> Summary:
    waiting = [row for row in rows if record.get(row.file) != _line(row) or not (out / row.file).is_file()]
    before, clipped = len(rows) - len(waiting), 0
    began = said = time.monotonic()
    for done, row in enumerate(waiting, 1):
        result = make(row)
        clipped += int((np.abs(result.samples) > 1).sum())
        scratch = out / f".{row.name}.part.flac"
        write_audio(scratch, np.clip(result.samples, -1, 1), result.sample_rate_hz)
        scratch.replace(out / row.file)
        record[row.file] = _line(row)
        _write(out, settings, record)
        now = time.monotonic()
        if now - said >= LINE_EVERY_S or done == len(waiting):
            said, left_s = now, (now - began) / done * (len(waiting) - done)
            print(f"{before + done} of {len(rows)} rows, {left_s:.0f} s to go", file=sys.stderr, flush=True)
    return Summary(len(waiting), before, clipped)


def _line(row: Row) -> dict[str, object]:
    return {"prompt": row.prompt, **row.inputs}


def _read(out: Path, settings: Settings) -> dict[str, object]:
    path = out / RECORD
    if not path.exists():
        if strange := next((one.name for one in sorted(out.iterdir())), ""):
            text = f"{out} holds what this command did not write ({strange}); name a new or empty folder"
            raise FailedPrecondition(text, reason="FOLDER_NOT_OURS")
        return {}
    try:
        document = read_json(path.read_bytes(), max_bytes=MAX_RECORD_BYTES, max_values=1_000_000)
    except ValueError as error:
        raise FailedPrecondition(f"{path} cannot be read: {error}", reason="FOLDER_NOT_OURS") from error
    known = document.get("settings") if isinstance(document, dict) else None
    rows = document.get("rows") if isinstance(document, dict) else None
    wanted = json.loads(json.dumps(asdict(settings)))
    if not isinstance(known, dict) or not isinstance(rows, dict):
        raise FailedPrecondition(f"{path} is no record of this command", reason="FOLDER_NOT_OURS")
    if known != wanted:
        other = ", ".join(name for name in wanted if known.get(name) != wanted[name])
        text = f"{out} holds audio of other settings ({other}); name another folder"
        raise FailedPrecondition(text, reason="OTHER_SETTINGS")
    return dict(rows)


def _write(out: Path, settings: Settings, record: Mapping[str, object]) -> None:
    new = out / f".{RECORD}.new"
    new.write_text(json.dumps({"settings": asdict(settings), "rows": record}, indent=1) + "\n", encoding="utf-8")
    new.replace(out / RECORD)


def as_frames(audio: NDArray[np.float32], frames: int) -> Samples:
    """[channels, samples] -> [frames, channels], cut or filled with silence at the end.

    Raises FailedPrecondition MODEL_NOT_FINITE for NaN and infinity.
    """
    if not np.isfinite(audio).all():
        raise FailedPrecondition("the model gave NaN or infinity", reason="MODEL_NOT_FINITE")
    found = audio[:, :frames].T
    return np.ascontiguousarray(np.pad(found, ((0, frames - len(found)), (0, 0))), dtype=np.float32)
