"""Vectors of clips' sounds, and skips of each reviewer's own.

What somebody had skipped was put behind for everybody; from now on it is for who skipped it. A pod of the version
before may still write such a skip: it lasts until the clip changes.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "vector_sets",
        sa.Column("weights_sha256", sa.String(64), primary_key=True),
        sa.Column("embedder", sa.String(64), nullable=False),
        sa.Column("changes", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "clip_vectors",
        _clip_id(),
        sa.Column("weights_sha256", sa.String(64), nullable=False),
        sa.Column("change", sa.BigInteger, nullable=False),
        sa.Column("vector", sa.LargeBinary, nullable=False),
    )
    op.create_index("clip_vectors_change", "clip_vectors", ["weights_sha256", "change"])
    if op.get_bind().dialect.name == "postgresql":  # random numbers do not shrink: no time is spent on it
        op.execute("ALTER TABLE clip_vectors ALTER COLUMN vector SET STORAGE EXTERNAL")
    op.create_table(
        "skips",
        _clip_id(),
        sa.Column("reviewer", sa.String(100), primary_key=True),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("skips_reviewer", "skips", ["reviewer", "at_ms", "clip_id"])
    op.execute("""INSERT INTO skips (clip_id, reviewer, at_ms)
        SELECT clips.clip_id, MIN(changes.who), clips.skipped_at_ms FROM clips
        JOIN changes ON changes.clip_id = clips.clip_id AND changes.at_ms = clips.skipped_at_ms
        WHERE clips.skipped_at_ms > 0 AND changes.kind = 'skipped'
        GROUP BY clips.clip_id, clips.skipped_at_ms""")
    op.execute("""UPDATE clips SET priority = doubt + CASE WHEN conflict THEN 4.0 ELSE 0.0 END
        WHERE skipped_at_ms > 0""")


def _clip_id() -> "sa.Column[str]":
    """The key; the row goes with its clip."""
    return sa.Column("clip_id", sa.String(32), sa.ForeignKey("clips.clip_id", ondelete="CASCADE"), primary_key=True)


def downgrade() -> None:
    op.execute("UPDATE clips SET priority = -skipped_at_ms WHERE skipped_at_ms > 0")
    for name in ("skips", "clip_vectors", "vector_sets"):
        op.drop_table(name)
