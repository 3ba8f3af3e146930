"""Prompts with the names of their audio, as people and published data sets write them: one reader for each layout.

| layout | file | a prompt's audio is named by |
|---|---|---|
| own | CSV, JSON, JSON lines or YAML: file, prompt, and what else is known | file |
| song-describer | song_describer.csv (Manco 2023), or its subset without vocals | caption_id, track_id, path |
| musiccaps | musiccaps-public.csv (Agostinelli 2023), or its subset without vocals | ytid |
| audiocaps | test.csv (Kim 2019) | audiocap_id, youtube_id |
| audiofolder | metadata.jsonl, .csv, .parquet of an AudioFolder, as `luthier export` writes it | file_name |

References are named by the same columns, of an own file by `reference` where it has one. The subsets without vocals
are tables that come with stable-audio-metrics. It names generated audio by caption_id, ytid and audiocap_id; references
by track_id (Fréchet distance) and caption_id (divergence), ytid, youtube_id and audiocap_id; and cuts none of them.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from luthier_kit.bounded_json import read_json
from luthier_kit.bounded_yaml import Faults, Node, read_yaml
from luthier_kit.rpc import InvalidRequest
from luthier_music.keys import Key, parse_key

MAX_BYTES: Final = 64 << 20
MAX_PROMPTS: Final = 50_000  # that are looked at; an evaluation has 5000
MAX_PROMPT_CHARS: Final = 2000
MAX_NAME_CHARS: Final = 500
MAX_VALUES: Final = 2_000_000  # of JSON: fifty columns of so many prompts
SHOWN: Final = 20  # faults that are told
METADATA: Final = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
"""Of an AudioFolder, in the order in which they are looked for."""

Value = str | float | Sequence[str] | None
Ids = Mapping[str, tuple[str, ...]]
"""Names that a prompt's audio may have, by the column that says them; the columns in the order of preference."""


@dataclass(frozen=True)
class PromptRow:
    """A prompt, how its audio and its reference are named, and what the file says that the prompt states.

    `where` is its line, for messages. `tempo_bpm` is 20 to 400, `seconds_total` 0.5 to 600. `genres` and `instruments`
    are None, `says_tempo` and `says_key` False where the file has no such column, so that the prompt itself is read.
    `facts`: what the columns say is of the audio, and the prompt need not state it.
    """

    where: str
    prompt: str
    ids: Ids
    references: Ids
    tempo_bpm: float | None = None
    key: Key | None = None
    genres: tuple[str, ...] | None = None
    instruments: tuple[str, ...] | None = None
    seconds_total: float | None = None
    says_tempo: bool = False
    says_key: bool = False
    facts: bool = False

    @property
    def name(self) -> str:
        """By which people know it."""
        return next(iter(self.ids.values()))[0]


@dataclass(frozen=True)
class PromptFile:
    """The prompts of a file, or of an AudioFolder's several."""

    layout: str
    rows: tuple[PromptRow, ...]


@dataclass
class _Told:
    """What is wrong with a file; the first SHOWN are told."""

    said: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, where: str, what: str) -> None:
        self.count += 1
        if len(self.said) < SHOWN:
            self.said.append(f"{where}: {what}")


@dataclass(frozen=True)
class _Line:
    """One line of a table: its values by lower-case column."""

    where: str
    values: Mapping[str, Value]

    def text(self, column: str) -> str:
        value = self.values.get(column)
        if isinstance(value, float):
            return f"{value:g}" if value != int(value) else str(int(value))
        return value.strip() if isinstance(value, str) else ""


@dataclass(frozen=True)
class Layout:
    """How a data set writes its prompts: columns by which it is known, of the prompt, and of names of audio."""

    needs: tuple[str, ...]
    prompt: tuple[str, ...]
    ids: Callable[[_Line], Ids]
    references: Callable[[_Line], Ids] | None = None
    """None = as `ids`."""
    says: bool = False
    """Whether it has columns of tempo, key, genres, instruments and length."""
    facts: bool = False
    """Whether these are of the audio and not of the prompt."""
    seconds: str = "seconds_total"


def _by(*columns: str) -> Callable[[_Line], Ids]:
    """Names of audio from columns; an id of YouTube also as AudioSet's tools write it, with a Y before it."""

    def names(line: _Line) -> Ids:
        found = {column: line.text(column) for column in columns if line.text(column)}
        return {
            column: (name, f"Y{name}") if column in ("ytid", "youtube_id") else (name,)
            for column, name in found.items()
        }

    return names


def _own_references(line: _Line) -> Ids:
    named = line.text("reference")
    return (
        {"reference": (named,)} if named else {"file": (line.text("file"),)} if "reference" not in line.values else {}
    )


LAYOUTS: Final[Mapping[str, Layout]] = {
    "song-describer": Layout(
        ("caption_id", "track_id", "caption"), ("caption",), _by("caption_id", "track_id", "path")
    ),
    "musiccaps": Layout(("ytid", "start_s", "caption"), ("caption",), _by("ytid")),
    "audiocaps": Layout(
        ("audiocap_id", "youtube_id", "caption"), ("caption",), _by("audiocap_id", "youtube_id")
    ),
    "audiofolder": Layout(
        ("file_name",), ("text", "prompt", "caption", "prompts", "description"), _by("file_name"),
        says=True, facts=True, seconds="duration_s",
    ),
    "own": Layout(("file", "prompt"), ("prompt",), _by("file"), _own_references, says=True),
}  # fmt: skip
"""By name, in the order in which they are looked for."""


def read_prompts(path: Path, layout: str = "") -> PromptFile:
    """The prompts of a file, or of the AudioFolder that `path` is. `layout`: one of LAYOUTS; empty = it is found out.

    Raises InvalidRequest PROMPTS_INVALID with every fault and its line.
    """
    told, rows, found = _Told(), list[PromptRow](), layout
    for file, folder in _files(path):
        lines = _lines(file)
        if not lines:
            raise _invalid(path, [f"{file.name} has no prompts"])
        known = set[str]().union(*(line.values for line in lines))
        found = layout or next((name for name, one in LAYOUTS.items() if known.issuperset(one.needs)), "")
        if not found or not known.issuperset(LAYOUTS[found].needs):
            wanted = "; ".join(
                f"{name}: {', '.join(one.needs)}" for name, one in LAYOUTS.items() if layout in ("", name)
            )
            raise _invalid(
                path, [f"{file.name} has the columns {', '.join(sorted(known)) or 'of nothing'}; it needs {wanted}"]
            )
        rows += [row for line in lines if (row := _row(line, LAYOUTS[found], folder, told))]
    if len(rows) + told.count > MAX_PROMPTS:
        raise _invalid(path, [f"must have at most {MAX_PROMPTS} prompts, got {len(rows) + told.count}"])
    if told.count:
        more = [f"and {told.count - len(told.said)} more"] if told.count > len(told.said) else []
        raise _invalid(path, [*told.said, *more])
    return PromptFile(found, tuple(rows))


def _invalid(path: Path, faults: Sequence[str]) -> InvalidRequest:
    return InvalidRequest("\n".join([f"the prompts {path}:", *faults]), reason="PROMPTS_INVALID")


def _files(path: Path) -> list[tuple[Path, str]]:
    """The files to read, each with the folder that its names of audio begin in, relative to `path`."""
    if not path.is_dir():
        return [(path, "")]
    folders = [path, *sorted(child for child in path.iterdir() if child.is_dir())]
    found = [
        (metadata[0], "" if folder == path else folder.name)
        for folder in folders
        if (metadata := [folder / name for name in METADATA if (folder / name).is_file()])
    ]
    if not found:
        raise _invalid(path, [f"is a folder without {', '.join(METADATA)}: name the file of its prompts"])
    return found


def _row(line: _Line, layout: Layout, folder: str, told: _Told) -> PromptRow | None:
    """None where the line is faulty, and says why."""
    faults = told.count
    prompt = next((text for column in layout.prompt if (text := _prompt_text(line.values.get(column)))), "")
    if not 0 < len(prompt) <= MAX_PROMPT_CHARS:
        told.add(line.where, f"{layout.prompt[0]} must be 1 to {MAX_PROMPT_CHARS} characters, got {len(prompt)}")
    ids = layout.ids(line)
    if not ids:
        told.add(line.where, f"names no audio: {layout.needs[0]} is empty")
    references = layout.references(line) if layout.references else ids
    for names in (*ids.values(), *references.values()):
        if any(len(name) > MAX_NAME_CHARS or _leads_outside(name) for name in names):
            told.add(
                line.where,
                f"{names[0][:80]!r} must be the name of a file below its folder, at most {MAX_NAME_CHARS} characters",
            )
    if folder:
        ids = {column: tuple(f"{folder}/{name}" for name in names) for column, names in ids.items()}
        references = {column: tuple(f"{folder}/{name}" for name in names) for column, names in references.items()}
    if not layout.says:
        return PromptRow(line.where, prompt, ids, references) if told.count == faults else None
    row = PromptRow(
        where=line.where,
        prompt=prompt,
        ids=ids,
        references=references,
        tempo_bpm=_number(line, "tempo_bpm", 20, 400, told),
        key=_key(line, told),
        genres=_texts(line, "genres", 16, told),
        instruments=_texts(line, "instruments", 64, told) if not layout.facts else None,
        seconds_total=_number(line, layout.seconds, 0.5, 600, told),
        says_tempo="tempo_bpm" in line.values,
        says_key="key" in line.values,
        facts=layout.facts,
    )
    return row if told.count == faults else None


def _prompt_text(value: Value) -> str:
    """A text, or the first of several."""
    text = value if isinstance(value, str) else value[0] if isinstance(value, list | tuple) and value else ""
    return text.strip() if isinstance(text, str) else ""


def _leads_outside(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or "\0" in name


def _number(line: _Line, column: str, low: float, high: float, told: _Told) -> float | None:
    value = line.values.get(column)
    if value is None or value == "":
        return None
    try:
        number = float(value) if isinstance(value, str | float) else float("nan")
    except ValueError:
        number = float("nan")
    if not low <= number <= high:
        told.add(line.where, f"{column} must be a number between {low:g} and {high:g}, got {str(value)[:80]!r}")
        return None
    return number


def _key(line: _Line, told: _Told) -> Key | None:
    text = line.text("key")
    if not text:
        return None
    try:
        return parse_key(text)
    except ValueError:
        told.add(line.where, f"key must be a tonic and a mode, such as F# minor, got {text[:80]!r}")
        return None


def _texts(line: _Line, column: str, most: int, told: _Told) -> tuple[str, ...] | None:
    """None where the file has no such column."""
    if column not in line.values:
        return None
    value = line.values[column]
    found = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else ()
    texts = tuple(dict.fromkeys(text.strip().lower() for text in found if isinstance(text, str) and text.strip()))
    if len(texts) > most or any(len(text) > 100 for text in texts):
        told.add(line.where, f"{column} must be at most {most} words of at most 100 characters between commas")
    return texts


def _lines(file: Path) -> list[_Line]:
    """The lines of a table, whatever it is written in."""
    readers = {
        ".csv": _csv, ".tsv": _csv, ".json": _json, ".jsonl": _json_lines, ".yaml": _yaml, ".yml": _yaml,
        ".parquet": _parquet,
    }  # fmt: skip
    read = readers.get(file.suffix.lower())
    if not read:
        raise _invalid(file, [f"must end in one of {', '.join(readers)}"])
    try:
        if (size_bytes := file.stat().st_size) > MAX_BYTES:
            raise _invalid(file, [f"must have at most {MAX_BYTES} bytes, got {size_bytes}"])
        return read(file)
    except OSError as error:
        raise _invalid(file, [str(error.strerror or error)]) from error
    except UnicodeDecodeError as error:
        raise _invalid(file, [f"must be UTF-8: {error.reason} at byte {error.start}"]) from error
    except (ValueError, csv.Error, pa.ArrowInvalid) as error:
        raise _invalid(file, [str(error)[:300]]) from error


def _csv(file: Path) -> list[_Line]:
    text = file.read_bytes().decode("utf-8-sig")
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter="\t" if file.suffix.lower() == ".tsv" else ",", strict=True
    )
    header = [name.strip().lower() for name in next(reader, [])]
    if len(set(header)) < len(header):
        raise ValueError("a column stands twice in the first line")
    lines = []
    for number, cells in enumerate(reader, 1):
        if not cells:
            continue
        if number > MAX_PROMPTS or len(cells) > len(header):
            bound = f"at most {MAX_PROMPTS} prompts of {len(header)} columns, got {len(cells)} columns"
            raise ValueError(f"line {reader.line_num}: {bound}")
        lines.append(_Line(f"line {reader.line_num}", dict(zip(header, cells, strict=False))))
    return lines


def _json(file: Path) -> list[_Line]:
    document = read_json(file.read_bytes(), max_bytes=MAX_BYTES, max_values=MAX_VALUES, unique_names=True)
    rows = document.get("rows", document.get("prompts")) if isinstance(document, dict) else document
    if not isinstance(rows, list):
        raise ValueError("must be a list of prompts, or an object with `rows`")
    return [_object(f"row {number}", row) for number, row in enumerate(rows)]


def _json_lines(file: Path) -> list[_Line]:
    lines = enumerate(file.read_bytes().splitlines(), 1)
    return [
        _object(f"line {number}", read_json(line, max_bytes=1 << 20, max_values=10_000))
        for number, line in lines
        if line.strip()
    ]


def _object(where: str, row: object) -> _Line:
    if not isinstance(row, dict):
        raise ValueError(f"{where} must be an object, got {str(row)[:80]!r}")
    return _Line(where, {name.lower(): _value(value) for name, value in row.items()})


def _value(value: object) -> Value:
    """What a cell may hold; anything else (objects, as in `details`) is left out."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, list):
        return [item for item in value if isinstance(item, str)]
    return value if isinstance(value, str) else None


def _yaml(file: Path) -> list[_Line]:
    faults = Faults()
    root = read_yaml(file.read_bytes(), faults)
    rows = root.members.get("rows") if root and root.members else root
    if root is None or rows is None or rows.items is None:
        raise ValueError("; ".join(faults.said) or "must be a list of prompts, or a mapping with `rows`")
    return [_Line(f"line {node.line}", dict(_members(node))) for node in rows.items]


def _members(node: Node) -> Iterator[tuple[str, Value]]:
    if node.members is None:
        raise ValueError(f"line {node.line}: must be a mapping, got {node}")
    for name, member in node.members.items():
        if member.items is not None:
            yield name.lower(), [item.text for item in member.items if item.text is not None]
        else:
            yield name.lower(), "" if member.plain and member.text in ("null", "~") else member.text


def _parquet(file: Path) -> list[_Line]:
    wanted = {
        "file_name",
        "file",
        "reference",
        "tempo_bpm",
        "key",
        "genres",
        "instruments",
        "seconds_total",
        "duration_s",
    }
    wanted |= {column for layout in LAYOUTS.values() for column in layout.prompt}
    with pq.ParquetFile(file) as table:
        if table.metadata.num_rows > MAX_PROMPTS:
            raise ValueError(f"must have at most {MAX_PROMPTS} prompts, got {table.metadata.num_rows}")
        columns = [name for name in table.schema_arrow.names if name in wanted]
        return [_object(f"row {number}", row) for number, row in enumerate(table.read(columns).to_pylist())]
