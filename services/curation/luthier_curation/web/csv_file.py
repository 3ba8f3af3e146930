"""Verdicts as CSV (RFC 4180): a line for each opinion, and for each verdict that is no opinion; UTF-8 with a header."""

import csv
import io
from collections.abc import Iterator

from luthier.curation.v1 import curation_pb2 as pb
from luthier_curation.curation import Curation
from luthier_curation.tables import REASON_NAMES, VERDICT_NAMES, ClipRow
from luthier_curation.web.views import moment

HEADER = (
    "collection", "clip_id", "song_fingerprint", "artist", "title", "start_s", "end_s", "subset", "reviewer", "verdict",
    "reason", "rating", "remark", "at", "clip_verdict", "automatic", "conflict",
)  # fmt: skip
AT_ONCE = 500
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet compute a cell: names and remarks are other people's text, and get a quote before it."""


def verdict_lines(curation: Curation, which: pb.ClipFilter) -> Iterator[str]:
    """The lines of the clips that match, page by page. Open clips that nobody judged are not there."""
    yield _line(HEADER)
    request = pb.ListClipsRequest(filter=which, count_limit=0)
    while True:
        page = curation.page(request, AT_ONCE)
        for row in page.clips:
            for judged in _judged(row):
                yield _line([*_clip(row), *judged, row.verdict, str(row.automatic).lower(), str(row.conflict).lower()])
        if not page.next_token:
            return
        request.page_token = page.next_token


def _clip(row: ClipRow) -> list[str]:
    song = row.source.song
    times = (f"{row.start_ms / 1000:.3f}", f"{row.end_ms / 1000:.3f}")
    return [
        row.collection,
        row.clip_id,
        row.song_fingerprint,
        _safe(song.artist),
        _safe(song.title),
        *times,
        row.subset,
    ]


def _judged(row: ClipRow) -> Iterator[list[str]]:
    """Reviewer, verdict, reason, rating, remark and when, of each opinion; else of the verdict."""
    opinions = row.opinions
    for opinion in opinions:
        rating = str(opinion.rating) if opinion.rating else ""
        told = (VERDICT_NAMES[opinion.verdict], REASON_NAMES[opinion.reason], rating, _safe(opinion.remark))
        yield [_safe(opinion.reviewer), *told, moment(opinion.at.ToMilliseconds())]
    if (row.settled or not opinions) and row.verdict != "open":
        rating = str(row.rating) if row.rating else ""
        told = (row.verdict, row.reason, rating, _safe(row.remark))
        yield [_safe(row.reviewer), *told, moment(row.updated_at_ms)]


def _safe(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) else text


def _line(values: tuple[str, ...] | list[str]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow(values)
    return out.getvalue()
