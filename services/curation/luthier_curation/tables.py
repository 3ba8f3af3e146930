"""Tables of the curation database. Their migrations live in `migrations/`; a test holds the two together.

JSON columns hold the contract's messages in protobuf's JSON form with the names of the .proto file; rows give and take
messages. A message of a row is never changed in place: a changed copy is assigned. Times are milliseconds since 1970
UTC. Columns derived from messages (`checked`, `tempo_bpm`, `loudness_lufs`, `doubt`, `sort_key`, …) exist to filter and
to sort by; `derived` says which version of the code derived them. Beside these tables the migrations make `clip_terms`,
words and labels of clips (`terms.py`), which is made of each database's own full-text search.
"""

from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar, cast

from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import TypeDecorator

from luthier.common.v1.common_pb2 import ArtifactRef, ClipFacts, ClipSource, Lineage, Prompt, Tag
from luthier.curation.v1.curation_pb2 import (
    VERDICT_ACCEPTED,
    VERDICT_OPEN,
    VERDICT_REJECTED,
    VERDICT_UNSPECIFIED,
    BadPassage,
    Opinion,
    RejectReason,
    ReviewClipsRequest,
    Skip,
    Verdict,
)
from luthier.curation.v1.listening_pb2 import ListeningPlan, ListeningTest

OPEN, ACCEPTED, REJECTED = "open", "accepted", "rejected"
VERDICTS = (OPEN, ACCEPTED, REJECTED)
VERDICT_NAMES: dict[Verdict, str] = {
    VERDICT_UNSPECIFIED: "",
    VERDICT_OPEN: OPEN,
    VERDICT_ACCEPTED: ACCEPTED,
    VERDICT_REJECTED: REJECTED,
}
"""The contract's verdicts as the database has them."""
VERDICT_NUMBERS = {name: number for number, name in VERDICT_NAMES.items()}
REASON_NAMES: dict[RejectReason, str] = {
    cast("RejectReason", number): name.removeprefix("REJECT_REASON_").lower() if number else ""
    for name, number in RejectReason.items()
}
"""The contract's reasons as the database has them; none is empty."""
REASON_NUMBERS = {name: number for number, name in REASON_NAMES.items()}
NEVER = 0
"""A time that has not come."""
BINARY_ORDER = Text().with_variant(Text(collation="C"), "postgresql")
"""Text compared byte by byte on both databases, so that paging is the same on both."""
M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class ClipValues:
    """Values of some fields of a clip; None = not one of them."""

    source: ClipSource | None = None
    audio: ArtifactRef | None = None
    facts: ClipFacts | None = None
    tags: list[Tag] | None = None
    prompts: list[Prompt] | None = None
    lineage: Lineage | None = None
    edited_fields: list[str] | None = None
    verdict: str | None = None
    reviewer: str | None = None
    automatic: bool | None = None
    remark: str | None = None
    reason: str | None = None
    rating: int | None = None
    conflict: bool | None = None
    settled: bool | None = None
    skipped_at_ms: int | None = None
    opinions: list[Opinion] | None = None
    bad_passages: list[BadPassage] | None = None
    skips: list[Skip] | None = None


MESSAGES: dict[str, type[Message]] = {
    "source": ClipSource, "audio": ArtifactRef, "facts": ClipFacts, "tags": Tag, "prompts": Prompt, "lineage": Lineage,
    "opinions": Opinion, "bad_passages": BadPassage, "skips": Skip,
}  # fmt: skip


def _to_json(value: Any) -> Any:
    if isinstance(value, Message):
        return MessageToDict(value, preserving_proto_field_name=True)
    return [_to_json(item) for item in value] if isinstance(value, list) else value


def _from_json(kind: type[M], value: Any) -> Any:
    if isinstance(value, list):
        return [ParseDict(item, kind(), ignore_unknown_fields=True) for item in value]
    return ParseDict(value, kind(), ignore_unknown_fields=True)


class MessageColumn(TypeDecorator[Any], Generic[M]):
    """A JSON column of one message, or of a list of them."""

    impl = JSON
    cache_ok = True

    def __init__(self, kind: type[M]) -> None:
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return _to_json(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return _from_json(self.kind, value)


class ValuesColumn(TypeDecorator[ClipValues]):
    """A JSON column of ClipValues: an object of the fields that are not None."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: ClipValues | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        found = {field.name: getattr(value, field.name) for field in fields(value)}
        return {name: _to_json(item) for name, item in found.items() if item is not None}

    def process_result_value(self, value: Any, dialect: Dialect) -> ClipValues:
        known = {field.name for field in fields(ClipValues)}
        return ClipValues(
            **{
                name: _from_json(MESSAGES[name], item) if name in MESSAGES else item
                for name, item in value.items()
                if name in known
            }
        )


class Base(DeclarativeBase):
    """Root of the tables."""


IDENTITY = ("collection", "song_fingerprint", "start_ms", "end_ms", "subset", "part", "variation")


SORTED_BY = ("created_at_ms", "disagreement", "loudness_lufs", "duration_s", "priority")
"""What lists are sorted by beside artist, title and time: an index each, below collection and verdict."""
SILENCE_LUFS = -70.0
"""Stands for the loudness that a silent clip has not: the absolute gate of BS.1770-4."""


class OpinionRow(Base):
    """What one person thinks of a clip. `verdict` empty = was asked and has not answered; `asked` = was asked at
    all."""

    __tablename__ = "opinions"
    __table_args__ = (Index("opinions_reviewer", "reviewer", "verdict", "clip_id"),)

    clip_id: Mapped[str] = mapped_column(String(32), ForeignKey("clips.clip_id", ondelete="CASCADE"), primary_key=True)
    reviewer: Mapped[str] = mapped_column(String(100), primary_key=True)
    asked: Mapped[bool] = mapped_column(Boolean)
    verdict: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(String(32))
    rating: Mapped[int] = mapped_column(Integer)
    remark: Mapped[str] = mapped_column(Text)
    at_ms: Mapped[int] = mapped_column(BigInteger)

    def message(self) -> Opinion:
        """The same as the contract has it."""
        opinion = Opinion(
            reviewer=self.reviewer, verdict=VERDICT_NUMBERS[self.verdict], reason=REASON_NUMBERS[self.reason],
            rating=self.rating, remark=self.remark,
        )  # fmt: skip
        opinion.at.FromMilliseconds(self.at_ms)
        return opinion

    def take(self, opinion: Opinion | None) -> None:
        """Become this opinion; None = it is withdrawn."""
        given = opinion or Opinion()
        self.verdict, self.reason = VERDICT_NAMES[given.verdict], REASON_NAMES[given.reason]
        self.rating, self.remark, self.at_ms = given.rating, given.remark, given.at.ToMilliseconds()


class SkipRow(Base):
    """A reviewer's wish to judge a clip later."""

    __tablename__ = "skips"
    __table_args__ = (Index("skips_reviewer", "reviewer", "at_ms", "clip_id"),)

    clip_id: Mapped[str] = mapped_column(String(32), ForeignKey("clips.clip_id", ondelete="CASCADE"), primary_key=True)
    reviewer: Mapped[str] = mapped_column(String(100), primary_key=True)
    at_ms: Mapped[int] = mapped_column(BigInteger)

    def message(self) -> Skip:
        """The same as the contract has it."""
        skip = Skip(reviewer=self.reviewer)
        skip.at.FromMilliseconds(self.at_ms)
        return skip


class ClipRow(Base):
    """A clip in its newest revision. Identity: collection, song fingerprint, span in milliseconds, subset, part (-1 =
    all), variation (0 = as written)."""

    __tablename__ = "clips"
    __table_args__ = (
        Index("clips_identity", *IDENTITY, unique=True),
        *(Index(f"clips_{name}", "collection", "verdict", name, "clip_id") for name in SORTED_BY),
        Index("clips_song_order", "collection", "verdict", "sort_key"),
        Index("clips_tempo", "collection", "tempo_bpm"),
        Index("clips_reviewer", "collection", "reviewer"),
        Index(
            "clips_rating", "collection", "rating", sqlite_where=text("rating > 0"), postgresql_where=text("rating > 0")
        ),
        Index("clips_conflict", "collection", sqlite_where=text("conflict = 1"), postgresql_where=text("conflict")),
    )

    clip_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    collection: Mapped[str] = mapped_column(String(64))
    song_fingerprint: Mapped[str] = mapped_column(String(64))
    start_ms: Mapped[int] = mapped_column(BigInteger)
    end_ms: Mapped[int] = mapped_column(BigInteger)
    subset: Mapped[str] = mapped_column(String(64), server_default="polyphonic")
    part: Mapped[int] = mapped_column(Integer, server_default="-1")
    variation: Mapped[int] = mapped_column(Integer, server_default="0")
    revision: Mapped[int] = mapped_column(Integer)

    source: Mapped[ClipSource] = mapped_column(MessageColumn(ClipSource))
    audio: Mapped[ArtifactRef] = mapped_column(MessageColumn(ArtifactRef))
    facts: Mapped[ClipFacts] = mapped_column(MessageColumn(ClipFacts))
    tags: Mapped[list[Tag]] = mapped_column(MessageColumn(Tag))
    prompts: Mapped[list[Prompt]] = mapped_column(MessageColumn(Prompt))
    lineage: Mapped[Lineage] = mapped_column(MessageColumn(Lineage))
    incoming: Mapped[ClipValues] = mapped_column(ValuesColumn, deferred=True)
    """The facts and prompts that the pipeline last sent, beside what people made of them. Read where it is asked for:
    lists do not show it, and a third of their time would go into it."""
    edited_fields: Mapped[list[str]] = mapped_column(JSON)
    bad_passages: Mapped[list[BadPassage]] = mapped_column(MessageColumn(BadPassage), server_default="[]")

    verdict: Mapped[str] = mapped_column(String(16))
    reviewer: Mapped[str] = mapped_column(String(100))
    automatic: Mapped[bool] = mapped_column(Boolean)
    remark: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(String(32), server_default="")
    rating: Mapped[int] = mapped_column(Integer, server_default="0")
    conflict: Mapped[bool] = mapped_column(Boolean, server_default=false())
    """As many opinions as were asked for are there, and differ."""
    settled: Mapped[bool] = mapped_column(Boolean, server_default=false())
    """The verdict holds whatever the opinions say."""
    skipped_at_ms: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Of the newest of `skips`."""
    skip_rows: Mapped[list[SkipRow]] = relationship(
        lazy="selectin", cascade="all, delete-orphan", order_by=SkipRow.reviewer
    )
    opinion_rows: Mapped[list[OpinionRow]] = relationship(
        lazy="selectin", cascade="all, delete-orphan", order_by=OpinionRow.reviewer
    )

    checked: Mapped[bool] = mapped_column(Boolean)
    tempo_bpm: Mapped[float | None] = mapped_column(Float)
    duration_s: Mapped[float] = mapped_column(Float)
    instruments: Mapped[str] = mapped_column(Text)
    search: Mapped[str] = mapped_column(Text)
    sort_key: Mapped[str] = mapped_column(BINARY_ORDER, unique=True)
    created_at_ms: Mapped[int] = mapped_column(BigInteger, server_default="0")
    updated_at_ms: Mapped[int] = mapped_column(BigInteger)
    loudness_lufs: Mapped[float] = mapped_column(Float, server_default=str(SILENCE_LUFS))
    disagreement: Mapped[float] = mapped_column(Float, server_default="0")
    doubt: Mapped[float] = mapped_column(Float, server_default="0")
    priority: Mapped[float] = mapped_column(Float, server_default="0")
    """Place in the order to judge in, highest first: see `doubt.priority`."""
    derived: Mapped[int] = mapped_column(Integer, server_default="0")

    @property
    def opinions(self) -> list[Opinion]:
        """The opinions that were given, by reviewer."""
        return [row.message() for row in sorted(self.opinion_rows, key=lambda row: row.reviewer) if row.verdict]

    @opinions.setter
    def opinions(self, wanted: list[Opinion]) -> None:
        """Who was asked and whose opinion is not among them is asked still."""
        by_name = {opinion.reviewer: opinion for opinion in wanted}
        known = {row.reviewer for row in self.opinion_rows}
        for row in self.opinion_rows:
            row.take(by_name.get(row.reviewer))
        self.opinion_rows = [row for row in self.opinion_rows if row.asked or row.verdict]
        for name in sorted(by_name.keys() - known):
            added = OpinionRow(clip_id=self.clip_id, reviewer=name, asked=False)
            added.take(by_name[name])
            self.opinion_rows.append(added)

    @property
    def skips(self) -> list[Skip]:
        """Who wants to judge the clip later, by reviewer."""
        return [row.message() for row in sorted(self.skip_rows, key=lambda row: row.reviewer)]

    @skips.setter
    def skips(self, wanted: list[Skip]) -> None:
        known = {row.reviewer: row for row in self.skip_rows}
        kept = []
        for skip in wanted:
            row = known.get(skip.reviewer) or SkipRow(clip_id=self.clip_id, reviewer=skip.reviewer)
            row.at_ms = skip.at.ToMilliseconds()
            kept.append(row)
        self.skip_rows = kept

    @property
    def assigned_to(self) -> list[str]:
        """Who was asked and has not answered, by name."""
        return sorted(row.reviewer for row in self.opinion_rows if not row.verdict)


class VectorSetRow(Base):
    """Vectors by the same weights of an embedder; `changes` = the number of the newest one, see `vectors`."""

    __tablename__ = "vector_sets"

    weights_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    embedder: Mapped[str] = mapped_column(String(64))
    changes: Mapped[int] = mapped_column(BigInteger)


class ClipVectorRow(Base):
    """The vector of a clip's audio: float32 numbers, little-endian, of length 1. `change` is its number in the set."""

    __tablename__ = "clip_vectors"
    __table_args__ = (Index("clip_vectors_change", "weights_sha256", "change"),)

    clip_id: Mapped[str] = mapped_column(String(32), ForeignKey("clips.clip_id", ondelete="CASCADE"), primary_key=True)
    weights_sha256: Mapped[str] = mapped_column(String(64))
    change: Mapped[int] = mapped_column(BigInteger)
    vector: Mapped[bytes] = mapped_column(LargeBinary)


class ClipCount(Base):
    """Clips by verdict, kept by triggers of the database. What `shard` numbers adds up: writers at the same time seldom
    wait for the same row."""

    __tablename__ = "clip_counts"

    collection: Mapped[str] = mapped_column(String(64), primary_key=True)
    subset: Mapped[str] = mapped_column(String(64), primary_key=True)
    verdict: Mapped[str] = mapped_column(String(16), primary_key=True)
    shard: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    clips: Mapped[int] = mapped_column(BigInteger)


class CollectionRow(Base):
    """What a collection's curators decided about it; one without a row has the defaults."""

    __tablename__ = "collections"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    opinions_per_clip: Mapped[int] = mapped_column(Integer)


class BatchRow(Base):
    """A change of many clips that goes on in the background, a transaction for each chunk, which locks this row:
    whichever replica finds it free goes on behind `last_clip_id`."""

    __tablename__ = "batches"

    batch_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    request: Mapped[ReviewClipsRequest] = mapped_column(MessageColumn(ReviewClipsRequest))
    """What to do about which clips; of an undo its reviewer."""
    undoes: Mapped[str] = mapped_column(String(32))
    state: Mapped[str] = mapped_column(String(16))
    total: Mapped[int] = mapped_column(BigInteger)
    seen: Mapped[int] = mapped_column(BigInteger)
    changed: Mapped[int] = mapped_column(BigInteger)
    last_clip_id: Mapped[str] = mapped_column(String(32))
    error: Mapped[str] = mapped_column(Text)
    begun_at_ms: Mapped[int] = mapped_column(BigInteger)
    updated_at_ms: Mapped[int] = mapped_column(BigInteger)


class ChangeRow(Base):
    """One change of one clip: who, when, and the values of what changed before and after. Never updated."""

    __tablename__ = "changes"
    __table_args__ = (
        Index("changes_clip", "clip_id", "revision", unique=True),
        Index("changes_batch", "batch_id"),
    )

    change_id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    clip_id: Mapped[str] = mapped_column(String(32), ForeignKey("clips.clip_id", ondelete="CASCADE"))
    revision: Mapped[int] = mapped_column(Integer)
    batch_id: Mapped[str] = mapped_column(String(32))
    kind: Mapped[str] = mapped_column(String(16))
    who: Mapped[str] = mapped_column(String(100))
    automatic: Mapped[bool] = mapped_column(Boolean)
    at_ms: Mapped[int] = mapped_column(BigInteger)
    before: Mapped[ClipValues] = mapped_column(ValuesColumn)
    after: Mapped[ClipValues] = mapped_column(ValuesColumn)


class ListeningTestRow(Base):
    """A listening test, never changed. `results_key` opens its results page."""

    __tablename__ = "listening_tests"

    test_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    plan: Mapped[ListeningPlan] = mapped_column(MessageColumn(ListeningPlan))
    summary: Mapped[ListeningTest] = mapped_column(MessageColumn(ListeningTest))
    """What lists show, without what changes: listeners, and how many came to the end."""
    results_key: Mapped[str] = mapped_column(String(64))
    created_at_ms: Mapped[int] = mapped_column(BigInteger)


class ListeningSessionRow(Base):
    """One listener in one test. All that is random follows from `seed`; `position` counts the steps that are done. Of
    the token, which is the listener's alone, only the digest is kept."""

    __tablename__ = "listening_sessions"
    __table_args__ = (Index("listening_sessions_listener", "test_id", "listener", unique=True),)

    session_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    test_id: Mapped[str] = mapped_column(String(40), ForeignKey("listening_tests.test_id", ondelete="CASCADE"))
    listener: Mapped[str] = mapped_column(String(64))
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    seed: Mapped[str] = mapped_column(String(64))
    position: Mapped[int] = mapped_column(Integer)
    begun_at_ms: Mapped[int] = mapped_column(BigInteger)
    updated_at_ms: Mapped[int] = mapped_column(BigInteger)
    finished_at_ms: Mapped[int | None] = mapped_column(BigInteger)


class ListeningRatingRow(Base):
    """What a listener said last about one sound. It counts once `step` is done. `question` is a ListeningQuestion,
    `condition` the index of a sound in its trial."""

    __tablename__ = "listening_ratings"

    session_id: Mapped[str] = mapped_column(
        String(32), ForeignKey("listening_sessions.session_id", ondelete="CASCADE"), primary_key=True
    )
    trial: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    condition: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    question: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    step: Mapped[int] = mapped_column(Integer)
    value: Mapped[int] = mapped_column(Integer)
    at_ms: Mapped[int] = mapped_column(BigInteger)
