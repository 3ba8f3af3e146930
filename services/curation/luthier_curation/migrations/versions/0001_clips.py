"""Clips and their history."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

BINARY_ORDER = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "clips",
        sa.Column("clip_id", sa.String(32), primary_key=True),
        sa.Column("collection", sa.String(64), nullable=False),
        sa.Column("song_fingerprint", sa.String(64), nullable=False),
        sa.Column("start_ms", sa.BigInteger, nullable=False),
        sa.Column("end_ms", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        *(
            sa.Column(name, sa.JSON, nullable=False)
            for name in (
                "source",
                "audio",
                "facts",
                "tags",
                "prompts",
                "lineage",
                "incoming",
                "edited_fields",
            )
        ),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("reviewer", sa.String(100), nullable=False),
        sa.Column("automatic", sa.Boolean, nullable=False),
        sa.Column("remark", sa.Text, nullable=False),
        sa.Column("checked", sa.Boolean, nullable=False),
        sa.Column("tempo_bpm", sa.Float),
        sa.Column("duration_s", sa.Float, nullable=False),
        sa.Column("instruments", sa.Text, nullable=False),
        sa.Column("search", sa.Text, nullable=False),
        sa.Column("sort_key", BINARY_ORDER, nullable=False, unique=True),
        sa.Column("updated_at_ms", sa.BigInteger, nullable=False),
    )
    identity = ["collection", "song_fingerprint", "start_ms", "end_ms"]
    op.create_index("clips_identity", "clips", identity, unique=True)
    op.create_index("clips_verdict", "clips", ["collection", "verdict"])
    op.create_table(
        "changes",
        sa.Column("change_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("clip_id", sa.String(32), sa.ForeignKey("clips.clip_id", ondelete="CASCADE"), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("batch_id", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("who", sa.String(100), nullable=False),
        sa.Column("automatic", sa.Boolean, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("before", sa.JSON, nullable=False),
        sa.Column("after", sa.JSON, nullable=False),
    )
    op.create_index("changes_clip", "changes", ["clip_id", "revision"], unique=True)
    op.create_index("changes_batch", "changes", ["batch_id"])


def downgrade() -> None:
    op.drop_table("changes")
    op.drop_table("clips")
