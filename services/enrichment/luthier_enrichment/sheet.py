"""Sheets of tags: CSV or JSON, one tag per row.

Columns: artist, title, tag; and if wanted kind (genre, mood, era, instrument, other), weight (0 to 100, absent = 100),
source, licence (these of the tag), audio_licence (of the song's recording; the first row that states one counts).
JSON: a list of such objects, or {"rows": [...]}.
"""

import csv
import io
import math
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from rapidfuzz import process

from luthier_enrichment.findings import RawTag
from luthier_enrichment.names import Name, fold, score
from luthier_kit.bounded_json import read_json
from luthier_kit.rpc import InvalidRequest
from luthier_music.vocabulary import clean

MAX_BYTES: Final = 16 << 20
MAX_ROWS: Final = 500_000
MAX_CELL_CHARS: Final = 1000
MAX_DEPTH: Final = 8  # of JSON: {"rows": [{…}]} are 3, and columns that we do not read may nest
MAX_VALUES: Final = 2_000_000  # of JSON; MAX_BYTES hold fewer members of rows
NEEDED: Final = ("artist", "title", "tag")
AUDIO_LICENCE: Final = "audio_licence"
MAX_LICENCE_CHARS: Final = 200
CANDIDATES: Final = 20  # artists looked at for a near match


@dataclass
class Sheet:
    """Tags by folded artist and title."""

    songs: dict[str, dict[str, tuple[Name, list[RawTag]]]] = field(default_factory=lambda: defaultdict(dict))
    audio_licences: dict[tuple[str, str], str] = field(default_factory=dict)

    def best(self, asked: Name) -> tuple[Name, float, list[RawTag]]:
        """The song that matches best, its score, and its tags; an empty name when the sheet has none alike."""
        artist, title = fold(asked.artist), fold(asked.title)
        if title in self.songs.get(artist, {}):
            name, tags = self.songs[artist][title]
            return name, score(asked, name), tags
        near = process.extract(artist, list(self.songs), limit=CANDIDATES, score_cutoff=60) if artist else []
        entries = [entry for key, *_ in near for entry in self.songs[key].values()]
        found = max(entries, key=lambda entry: score(asked, entry[0]), default=(Name(), []))
        return found[0], score(asked, found[0]), found[1]

    def audio_licence(self, song: Name) -> str:
        """The licence of a song's recording; empty = none is stated under just this name."""
        return self.audio_licences.get((fold(song.artist), fold(song.title)), "")


class SheetCache:
    """The sheets used last, by digest: a corpus asks with the same one for every song. Threads may share it."""

    def __init__(self, size: int = 2) -> None:
        self._size, self._lock = size, threading.Lock()
        self._sheets: OrderedDict[str, Sheet] = OrderedDict()

    def get(self, digest: str, load: Callable[[], bytes]) -> Sheet:
        """The sheet of this digest, read by `load` where it is not held. Raises what `read` and `load` raise."""
        with self._lock:
            sheet = self._sheets.pop(digest, None) or read(load())
            self._sheets[digest] = sheet
            while len(self._sheets) > self._size:
                self._sheets.popitem(last=False)
            return sheet


def read(data: bytes) -> Sheet:
    """A sheet from bytes. Raises InvalidRequest naming the line and what is wrong with it."""
    if len(data) > MAX_BYTES:
        raise _refused(f"must have at most {MAX_BYTES} bytes, got {len(data)}")
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"{"):
        return _sheet(_json_rows(data))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refused(f"must be UTF-8, byte {error.start} is not") from None
    return _sheet(_csv_rows(text))


def _sheet(rows: Iterator[tuple[int, dict[str, Any]]]) -> Sheet:
    sheet = Sheet()
    for line, row in rows:
        if line > MAX_ROWS:
            raise _refused(f"must have at most {MAX_ROWS} rows")
        _put(sheet, line, row)
    return sheet


def _csv_rows(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        missing = [column for column in NEEDED if column not in (reader.fieldnames or ())]
        if missing:
            raise _refused(f"must have the columns {', '.join(NEEDED)}; {', '.join(missing)} missing")
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise _refused(f"line {reader.line_num} is not CSV: {error}") from None


def _json_rows(data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        bounds = {"max_bytes": MAX_BYTES, "max_depth": MAX_DEPTH, "max_values": MAX_VALUES}
        document = read_json(data, **bounds, unique_names=True)
    except ValueError as error:
        raise _refused(f"must be CSV or JSON; it begins as JSON, but {error}") from None
    rows = document.get("rows") if isinstance(document, dict) else document
    if not isinstance(rows, list):
        raise _refused('must be a list of rows, or an object with "rows"')
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise _refused(f"row {number} must be an object")
        yield number, row


def _put(sheet: Sheet, line: int, row: dict[str, Any]) -> None:
    cells = {
        column: _cell(line, column, row.get(column)) for column in (*NEEDED, "kind", "source", "licence", AUDIO_LICENCE)
    }
    for column in NEEDED:
        if not cells[column].strip():
            raise _refused(f"line {line}: {column} must not be empty")
    name = Name(clean(cells["artist"], 200), clean(cells["title"], 200))
    tag = RawTag(cells["tag"], _weight(line, row.get("weight")), cells["kind"], cells["source"], cells["licence"])
    _, tags = sheet.songs[fold(name.artist)].setdefault(fold(name.title), (name, []))
    tags.append(tag)
    if licence := clean(cells[AUDIO_LICENCE], MAX_LICENCE_CHARS):
        sheet.audio_licences.setdefault((fold(name.artist), fold(name.title)), licence)


def _cell(line: int, column: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > MAX_CELL_CHARS:
        raise _refused(f"line {line}: {column} must be a text of at most {MAX_CELL_CHARS} characters")
    return value


def _weight(line: int, value: Any) -> float:
    if value in (None, ""):
        return 1.0
    try:
        weight = float(value)
    except (TypeError, ValueError, OverflowError):
        weight = math.nan
    if not 0 <= weight <= 100:
        raise _refused(f"line {line}: weight must be between 0 and 100, got {str(value)[:40]!r}")
    return weight / 100


def _refused(bound: str) -> InvalidRequest:
    return InvalidRequest(violations=[("sheet", bound)], reason="BAD_SHEET")
