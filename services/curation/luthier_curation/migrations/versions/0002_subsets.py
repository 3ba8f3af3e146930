"""Subset, part and variation are in a clip's identity. Defaults on the server: pods of Luthier 0.1 may still write."""

import hashlib
import json

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
    _rename_named()


def _rename_named() -> None:
    """A caller may have named a subset before there was a column: such a clip gets the id that it has now."""
    connection = op.get_bind()
    clips, changes = (sa.Table(name, sa.MetaData(), autoload_with=connection) for name in ("clips", "changes"))
    subset = clips.c.source["subset"].as_string()
    named = sa.select(clips).where(subset.is_not(None), subset.not_in(["", "polyphonic"]))
    for row in connection.execute(named).mappings().all():
        identity = [*(row[name] for name in BEFORE), row["source"]["subset"], -1, 0]
        clip_id = "clip-" + hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:24]
        rest = "\x1f".join(map(str, identity[4:]))
        moved = {"clip_id": clip_id, "subset": identity[4], "sort_key": f"{row['sort_key']}\x1f{rest}"}
        connection.execute(sa.insert(clips).values({**row, **moved}))
        connection.execute(sa.update(changes).where(changes.c.clip_id == row["clip_id"]).values(clip_id=clip_id))
        connection.execute(sa.delete(clips).where(clips.c.clip_id == row["clip_id"]))


def downgrade() -> None:
    op.drop_index("clips_identity", "clips")
    for name in ("subset", "part", "variation"):
        op.drop_column("clips", name)  # not in a batch: a copy of the table would take the history with it
    op.create_index("clips_identity", "clips", BEFORE, unique=True)
