"""Listening tests, their sessions and ratings."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "listening_tests",
        sa.Column("test_id", sa.String(40), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False, unique=True),
        sa.Column("plan", sa.JSON, nullable=False),
        sa.Column("summary", sa.JSON, nullable=False),
        sa.Column("results_key", sa.String(64), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
    )
    of_test = sa.ForeignKey("listening_tests.test_id", ondelete="CASCADE")
    op.create_table(
        "listening_sessions",
        sa.Column("session_id", sa.String(32), primary_key=True),
        sa.Column("test_id", sa.String(40), of_test, nullable=False),
        sa.Column("listener", sa.String(64), nullable=False),
        sa.Column("token_sha256", sa.String(64), nullable=False, unique=True),
        sa.Column("seed", sa.String(64), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("begun_at_ms", sa.BigInteger, nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger, nullable=False),
        sa.Column("finished_at_ms", sa.BigInteger),
    )
    op.create_index("listening_sessions_listener", "listening_sessions", ["test_id", "listener"], unique=True)
    of_session = sa.ForeignKey("listening_sessions.session_id", ondelete="CASCADE")
    op.create_table(
        "listening_ratings",
        sa.Column("session_id", sa.String(32), of_session, primary_key=True),
        *(
            sa.Column(name, sa.Integer, primary_key=True, autoincrement=False)
            for name in ("trial", "condition", "question")
        ),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("value", sa.Integer, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    for name in ("listening_ratings", "listening_sessions", "listening_tests"):
        op.drop_table(name)
