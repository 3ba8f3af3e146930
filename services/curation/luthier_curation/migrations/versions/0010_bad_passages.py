"""Passages of clips that people marked as bad.

A default on the server: pods of the version before may still write.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("clips", sa.Column("bad_passages", sa.JSON, nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("clips", "bad_passages")
