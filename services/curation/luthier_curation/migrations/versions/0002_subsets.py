"""Subset, part and variation are in a clip's identity. Defaults on the server: pods of Luthier 0.1 may still write."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

BEFORE = ["collection", "song_fingerprint", "start_ms", "end_ms"]


def upgrade() -> None:
    op.add_column("clips", sa.Column("subset", sa.String(64), nullable=False, server_default="polyphonic"))
    op.add_column("clips", sa.Column("part", sa.Integer, nullable=False, server_default="-1"))
    op.add_column("clips", sa.Column("variation", sa.Integer, nullable=False, server_default="0"))
    op.drop_index("clips_identity", "clips")
    op.create_index("clips_identity", "clips", [*BEFORE, "subset", "part", "variation"], unique=True)
    clips = sa.table("clips", sa.column("clip_id"), sa.column("source", sa.JSON), sa.column("subset"))
    connection = op.get_bind()
    rows: list[Any] = list(connection.execute(sa.select(clips.c.clip_id, clips.c.source)))
    for name, source in rows:
        if subset := source.get("subset"):  # a caller may have named it before there was a column
            connection.execute(sa.update(clips).where(clips.c.clip_id == name).values(subset=subset))


def downgrade() -> None:
    op.drop_index("clips_identity", "clips")
    with op.batch_alter_table("clips") as clips:
        for name in ("subset", "part", "variation"):
            clips.drop_column(name)
    op.create_index("clips_identity", "clips", BEFORE, unique=True)
