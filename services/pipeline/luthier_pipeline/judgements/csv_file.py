"""CSV (RFC 4180) with a header: a line for each opinion. Curation's page gives the same columns and more."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from luthier.curation.v1.curation_pb2 import CuratedClip, ImportedOpinion
from luthier_pipeline.console import UsageError
from luthier_pipeline.judgements.opinions import REASON_NAMES, VERDICT_NAMES, Answers, imported

COLUMNS: Final = ("clip_id", "reviewer", "verdict", "reason", "rating", "remark")
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet compute a cell: names and remarks are other people's text, and get a quote before it."""


def lines(clips: Iterable[CuratedClip]) -> Iterator[str]:
    """The header, and a line for each opinion of the clips."""
    yield _line(COLUMNS)
    for clip in clips:
        for opinion in clip.opinions:
            reason = REASON_NAMES[opinion.reason] if opinion.reason else ""
            rating = str(opinion.rating) if opinion.rating else ""
            said = (_safe(opinion.reviewer), VERDICT_NAMES[opinion.verdict], reason, rating, _safe(opinion.remark))
            yield _line((clip.clip_id, *said))


def opinions(text: str, names: Mapping[str, str]) -> Iterator[ImportedOpinion]:
    """The opinions in a file; `reason`, `rating` and `remark` may be missing. Lines without a verdict, and verdicts of
    rules, are passed over. UsageError names the line."""
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = {"clip_id", "reviewer", "verdict"} - set(reader.fieldnames or ())
    if missing:
        raise UsageError(f"the header must have {', '.join(sorted(missing))}")
    for row in _rows(reader):
        place = f"line {reader.line_num}"
        if not row["verdict"] or row.get("automatic") == "true":
            continue
        rating = row.get("rating") or "0"
        if not (rating.isascii() and rating.isdigit()):
            raise UsageError(f"{place}: rating must be a whole number, got {rating[:80]!r}")
        reviewer = _plain(row["reviewer"] or "")
        answers = Answers(
            row["verdict"] or "", row.get("reason") or "", int(rating[:9]), _plain(row.get("remark") or "")
        )
        yield imported(place, row["clip_id"], names.get(reviewer, reviewer), answers)


def _rows(reader: "csv.DictReader[str]") -> Iterator[dict[str, str | None]]:
    try:
        yield from reader  # what a line leaves out is None
    except csv.Error as error:
        raise UsageError(f"line {reader.line_num}: {error}") from None


def _safe(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) else text


def _plain(text: str) -> str:
    return text[1:] if text.startswith("'") and text[1:].startswith(FORMULA) else text


def _line(values: Iterable[str]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow(values)
    return out.getvalue()
