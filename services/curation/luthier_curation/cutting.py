"""Cutting a clip anew: its parts become clips of their own, and the clip itself is rejected.

    a clip ─ parts ─▶ CutClips of analysis, the cutter and the estimators that made it ─▶ new clips, prompts mended

A part is cut to the sample from the song's mix, with its tempo map, where the clip's lineage names a rendering whose
mix is still stored; its facts are then as exact as the clip's were. Else it is cut from the clip's own audio, and its
facts are what the audio shows. What a person stated of the clip holds for its parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from luthier.analysis.v1.analysis_pb2 import Clip, CutClipsRequest, CutClipsResponse
from luthier.analysis.v1.analysis_pb2_grpc import AnalysisServiceStub
from luthier.common.v1.common_pb2 import ClipFacts, ClipSource, Lineage, Span
from luthier.curation.v1 import curation_pb2 as pb
from luthier_curation.clips import EDITABLE_FACTS, with_fact
from luthier_curation.mending import mended
from luthier_curation.rendered import rendering_of
from luthier_curation.tables import ClipRow
from luthier_kit.rpc import Channel, Checks, FailedPrecondition
from luthier_kit.store import Store, canonical_json
from luthier_music.audio import SAMPLE_RATE_HZ

TIMEOUT_S: Final = 300.0
"""For all parts of one clip."""
RETRY_BUDGET_S: Final = 10.0
MIN_PART_S: Final = 1.0
MAX_PARTS: Final = 8
EDGE_S: Final = 0.0015  # spans are identified to the millisecond: an end this near the clip's is the clip's


@dataclass(frozen=True)
class Cut:
    """New clips, and what analysis left out and why, one line each."""

    clips: list[pb.NewClip]
    notes: list[str]


class Cutter:
    """Asks the analysis service at an address, host:port; empty = there is none. Threads may share it."""

    def __init__(self, address: str = "") -> None:
        self._channel = Channel(address, slots_hint=1, retry_budget_s=RETRY_BUDGET_S) if address else None
        self._analysis = AnalysisServiceStub(self._channel) if self._channel else None

    @property
    def known(self) -> bool:
        """Whether there is an analysis service."""
        return self._analysis is not None

    def cut(self, store: Store, row: ClipRow, parts: Sequence[Span]) -> Cut:
        """These parts of a clip, in seconds from its first sample, as clips. FailedPrecondition where no analysis
        service is known, or nothing is left that is not nearly silent; what analysis raises."""
        if self._analysis is None:
            text = "this server knows no analysis service (LUTHIER_ANALYSIS_ADDRESS), which cuts clips"
            raise FailedPrecondition(text, reason="ANALYSIS_NOT_CONFIGURED")
        request, offset_s = _request(store, row, parts)
        answer: CutClipsResponse = self._analysis.CutClips(request, timeout=TIMEOUT_S)
        if not answer.clips:
            raise FailedPrecondition(f"no part is left: {'; '.join(answer.notes)}", reason="NOTHING_LEFT")
        exact = request.HasField("timeline")
        return Cut([_new_clip(row, clip, offset_s, answer, exact=exact) for clip in answer.clips], list(answer.notes))

    def close(self) -> None:
        """Ends the calls that are under way."""
        if self._channel:
            self._channel.close()


def check_parts(checks: Checks, parts: Sequence[Span], duration_s: float) -> None:
    """Parts are in order, disjoint, within the clip, MIN_PART_S long or longer, and not the whole of it."""
    end_s = 0.0
    for field, part in checks.items("parts", parts, 1, MAX_PARTS):
        checks.within(f"{field}.start_s", part.start_s, end_s, duration_s)
        checks.within(f"{field}.end_s", part.end_s, part.start_s + MIN_PART_S, duration_s + EDGE_S)
        end_s = part.end_s
    whole = len(parts) == 1 and parts[0].start_s < EDGE_S and parts[0].end_s > duration_s - EDGE_S
    checks.that(not whole, "parts", "must not be the whole clip")


def _request(store: Store, row: ClipRow, parts: Sequence[Span]) -> tuple[CutClipsRequest, float]:
    """What analysis is asked for, and where second 0 of what it cuts lies in the song."""
    rendered = rendering_of(store, row.lineage) if not row.facts.solo else None
    if rendered and rendered.timeline.bars and store.blobs.exists(rendered.mix):
        begin_s = row.source.span.start_s
        spans = [Span(start_s=_in_song(begin_s, part.start_s), end_s=_in_song(begin_s, part.end_s)) for part in parts]
        return CutClipsRequest(mix=rendered.mix, timeline=rendered.timeline, spans=spans), 0.0
    return CutClipsRequest(mix=row.audio, spans=parts), row.source.span.start_s


def _in_song(begin_s: float, at_s: float) -> float:
    """Where a place in a clip lies in its song, in seconds: at the same sample, though both are rounded to samples."""
    return (round(begin_s * SAMPLE_RATE_HZ) + round(at_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ


def _new_clip(row: ClipRow, clip: Clip, offset_s: float, answer: CutClipsResponse, *, exact: bool) -> pb.NewClip:
    source = ClipSource()
    source.CopyFrom(row.source)
    source.span.start_s, source.span.end_s = clip.span.start_s + offset_s, clip.span.end_s + offset_s
    facts = _facts(row, clip.facts, exact=exact)
    tags = list(row.tags)
    return pb.NewClip(
        source=source,
        audio=clip.audio,
        facts=facts,
        tags=tags,
        prompts=mended(f"{row.clip_id}/{clip.span.start_s:.3f}", row.prompts, facts, tags),
        lineage=_lineage(row, answer, clip.span),
    )


def _facts(row: ClipRow, measured: ClipFacts, *, exact: bool) -> ClipFacts:
    """What was measured of a part, under what a person stated of the clip; of one part alone, who plays is known."""
    facts = ClipFacts()
    facts.CopyFrom(measured)
    for name in EDITABLE_FACTS:
        if f"facts.{name}" in row.edited_fields:
            facts = with_fact(facts, name, row.facts)
    if not exact:
        facts.solo = row.facts.solo
        if row.facts.solo:
            facts = with_fact(facts, "instruments", row.facts)
        if not row.facts.HasField("voice"):  # it was rendered from notes: there is none
            facts.ClearField("voice")
    return facts


def _lineage(row: ClipRow, answer: CutClipsResponse, span: Span) -> Lineage:
    """The clip's lineage, the clip itself and the cut."""
    lineage = Lineage()
    lineage.CopyFrom(row.lineage)
    lineage.inputs.extend([row.audio.sha256, *([answer.action.action_key] if answer.action.action_key else [])])
    lineage.versions.update(answer.action.lineage.versions)
    said = {"cut_from": {"clip_id": row.clip_id, "revision": row.revision, "span_s": [span.start_s, span.end_s]}}
    lineage.parameters_json = canonical_json(said).decode()
    return lineage
