"""Tables of the curation database. Their migrations live in `migrations/`; a test holds the two together.

JSON columns hold the contract's messages in protobuf's JSON form with snake_case names. Times are milliseconds since
1970 UTC. Columns derived from JSON (`checked`, `tempo_bpm`, `instruments`, `search`, `sort_key`) exist to filter by.
"""

from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Float, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

OPEN, ACCEPTED, REJECTED = "open", "accepted", "rejected"
VERDICTS = (OPEN, ACCEPTED, REJECTED)
BINARY_ORDER = Text().with_variant(Text(collation="C"), "postgresql")
"""Text compared byte by byte on both databases, so that paging is the same on both."""


class Base(DeclarativeBase):
    """Root of the tables."""


class ClipRow(Base):
    """A clip in its newest revision. Identity: collection, song fingerprint, span in milliseconds."""

    __tablename__ = "clips"
    __table_args__ = (
        Index("clips_identity", "collection", "song_fingerprint", "start_ms", "end_ms", unique=True),
        Index("clips_verdict", "collection", "verdict"),
    )

    clip_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    collection: Mapped[str] = mapped_column(String(64))
    song_fingerprint: Mapped[str] = mapped_column(String(64))
    start_ms: Mapped[int] = mapped_column(BigInteger)
    end_ms: Mapped[int] = mapped_column(BigInteger)
    revision: Mapped[int] = mapped_column(Integer)

    source: Mapped[dict[str, Any]] = mapped_column(JSON)
    audio: Mapped[dict[str, Any]] = mapped_column(JSON)
    facts: Mapped[dict[str, Any]] = mapped_column(JSON)
    tags: Mapped[list[Any]] = mapped_column(JSON)
    prompts: Mapped[list[Any]] = mapped_column(JSON)
    lineage: Mapped[dict[str, Any]] = mapped_column(JSON)
    incoming: Mapped[dict[str, Any]] = mapped_column(JSON)
    """The facts and prompts that the pipeline last sent, beside what people made of them."""
    edited_fields: Mapped[list[Any]] = mapped_column(JSON)

    verdict: Mapped[str] = mapped_column(String(16))
    reviewer: Mapped[str] = mapped_column(String(100))
    automatic: Mapped[bool] = mapped_column(Boolean)
    remark: Mapped[str] = mapped_column(Text)

    checked: Mapped[bool] = mapped_column(Boolean)
    tempo_bpm: Mapped[float | None] = mapped_column(Float)
    duration_s: Mapped[float] = mapped_column(Float)
    instruments: Mapped[str] = mapped_column(Text)
    search: Mapped[str] = mapped_column(Text)
    sort_key: Mapped[str] = mapped_column(BINARY_ORDER, unique=True)
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
    before: Mapped[dict[str, Any]] = mapped_column(JSON)
    after: Mapped[dict[str, Any]] = mapped_column(JSON)
