"""Prompts in, and out in the form that `luthier score FOLDER --prompts FILE` takes.

In: a suite of `luthier evaluate` as JSON (`rows`), a list of such rows, or CSV with the same columns. What a row says
beside its prompt, its length and its seed (tempo_bpm, key, genres, instruments, reference) goes through unchanged.
"""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from luthier_kit.bounded_json import read_json
from luthier_kit.rpc import InvalidRequest

MAX_BYTES: Final = 64 << 20
MAX_ROWS: Final = 5000  # of an evaluation
MAX_PROMPT_CHARS: Final = 2000
MAX_SEED: Final = (1 << 32) - 1
"""torch's generator on a CPU takes no more of a seed than 32 bits."""
MIN_SECONDS, MAX_SECONDS = 0.5, 600.0
THROUGH: Final = ("tempo_bpm", "key", "genres", "instruments", "reference")
SUITES: Final = Path(__file__).resolve().parents[2] / "evaluation/luthier_evaluation/suites"
"""Of a checkout: the suites that evaluation ships, which are data."""

Value = str | float | Sequence[str] | None


@dataclass(frozen=True)
class PromptRow:
    """A prompt: the name of its audio without suffix, and its length and seed where the file states them."""

    name: str
    prompt: str
    seconds: float | None = None
    seed: int | None = None
    facts: Mapping[str, Value] = field(default_factory=dict)


def suite_file(name: str) -> Path:
    """The file of a suite that ships. Raises InvalidRequest for a name that none has."""
    known = sorted(path.stem for path in SUITES.glob("*.json"))
    if name not in known:
        text = f"must be one of {', '.join(known)}" if known else "needs a checkout; name its file by --prompts"
        raise InvalidRequest(reason="PROMPTS_INVALID", violations=[("--suite", f"{text}, got {name[:80]!r}")])
    return SUITES / f"{name}.json"


def read_prompts(path: Path) -> list[PromptRow]:
    """The prompts of a file. Raises InvalidRequest PROMPTS_INVALID with every fault and its row."""
    try:
        if (size_bytes := path.stat().st_size) > MAX_BYTES:
            raise _invalid([f"{path} must have at most {MAX_BYTES} bytes, got {size_bytes}"])
        data = path.read_bytes()
        listed = _csv(data) if path.suffix.lower() == ".csv" else _json(data)
    except OSError as error:
        raise _invalid([f"{path} cannot be read: {error.strerror}"]) from error
    except (ValueError, csv.Error) as error:
        raise _invalid([f"{path}: {error}"]) from error
    if not 0 < len(listed) <= MAX_ROWS:
        raise _invalid([f"{path} must have 1 to {MAX_ROWS} prompts, got {len(listed)}"])
    faults = list[str]()
    rows = [_row(number, values, faults) for number, values in enumerate(listed)]
    names = [row.name for row in rows]
    faults += [f"row {number}: file {name} stands twice" for number, name in enumerate(names) if name in names[:number]]
    if faults:
        raise _invalid([f"{path}:", *faults[:20], *([f"and {len(faults) - 20} more"] if len(faults) > 20 else [])])
    return rows


def _json(data: bytes) -> list[Mapping[str, object]]:
    document = read_json(data, max_bytes=MAX_BYTES, max_values=2_000_000, unique_names=True)
    rows = document.get("rows", document.get("prompts")) if isinstance(document, dict) else document
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("must be a list of objects, or an object with `rows`")
    return rows


def _csv(data: bytes) -> list[Mapping[str, object]]:
    lines = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True))
    return [{name.strip().lower(): value for name, value in line.items() if name and value} for line in lines]


def _row(number: int, values: Mapping[str, object], faults: list[str]) -> PromptRow:
    prompt = values.get("prompt")
    text = prompt.strip() if isinstance(prompt, str) else ""
    if not 0 < len(text) <= MAX_PROMPT_CHARS:
        faults.append(f"row {number}: prompt must be 1 to {MAX_PROMPT_CHARS} characters, got {len(text)}")
    seed = _number(number, values, "seed", 0, MAX_SEED, faults)
    if seed is not None and seed != int(seed):
        faults.append(f"row {number}: seed must be a whole number, got {seed}")
    file = values.get("file") or f"{number:04}"
    name = PurePosixPath(str(file))
    if not re.fullmatch(r"[\w. ()+,-]{1,200}", str(file)) or str(file).startswith("."):
        faults.append(f"row {number}: file must be a plain name of 1 to 200 characters, got {str(file)[:80]!r}")
    return PromptRow(
        name.stem if name.suffix.lower() in (".flac", ".wav", ".mp3", ".ogg") else str(file),
        text,
        _number(number, values, "seconds_total", MIN_SECONDS, MAX_SECONDS, faults),
        None if seed is None else int(seed),
        {column: _value(values[column]) for column in THROUGH if column in values},
    )


def _number(
    number: int, values: Mapping[str, object], column: str, low: float, high: float, faults: list[str]
) -> float | None:
    value = values.get(column)
    if value is None:
        return None
    try:
        found = float(value) if isinstance(value, str | int | float) else float("nan")
    except ValueError:
        found = float("nan")
    if not low <= found <= high:
        faults.append(f"row {number}: {column} must be between {low:g} and {high:g}, got {str(value)[:80]!r}")
        return None
    return found


def _value(value: object) -> Value:
    if isinstance(value, list):
        return [str(item) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return value if isinstance(value, str) else None


def written_row(file: str, prompt: str, seconds: float, facts: Mapping[str, Value]) -> Mapping[str, Value]:
    """A row of the file for `luthier score`."""
    return {"file": file, "prompt": prompt, "seconds_total": seconds, **facts}


def write_prompts(path: Path, rows: Sequence[Mapping[str, Value]]) -> None:
    """Writes the file whole, or leaves the one of before."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(json.dumps({"rows": list(rows)}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    new.replace(path)


def _invalid(faults: Sequence[str]) -> InvalidRequest:
    return InvalidRequest("\n".join(faults), reason="PROMPTS_INVALID")
