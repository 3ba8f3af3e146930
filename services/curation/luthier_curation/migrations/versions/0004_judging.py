"""Reasons, ratings, opinions and what lists are sorted by; counts of clips, and words and labels to find them by.

Defaults on the server: pods of the version before may still write. Derived columns are filled after the migration.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

SORTED_BY = ("created_at_ms", "disagreement", "loudness_lufs", "duration_s", "priority")
COUNTED = "ON CONFLICT (collection, subset, verdict, shard) DO UPDATE SET clips = clip_counts.clips + excluded.clips"


def upgrade() -> None:
    for column in (
        sa.Column("reason", sa.String(32), nullable=False, server_default=""),
        sa.Column("rating", sa.Integer, nullable=False, server_default="0"),
        sa.Column("conflict", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("settled", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("skipped_at_ms", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("loudness_lufs", sa.Float, nullable=False, server_default="-70.0"),
        sa.Column("disagreement", sa.Float, nullable=False, server_default="0"),
        sa.Column("doubt", sa.Float, nullable=False, server_default="0"),
        sa.Column("priority", sa.Float, nullable=False, server_default="0"),
        sa.Column("derived", sa.Integer, nullable=False, server_default="0"),
    ):
        op.add_column("clips", column)
    op.execute("""UPDATE clips SET created_at_ms = COALESCE(
        (SELECT MIN(changes.at_ms) FROM changes WHERE changes.clip_id = clips.clip_id), updated_at_ms)""")
    op.drop_index("clips_verdict", "clips")
    for name in SORTED_BY:
        op.create_index(f"clips_{name}", "clips", ["collection", "verdict", name, "clip_id"])
    op.create_index("clips_song_order", "clips", ["collection", "verdict", "sort_key"])
    op.create_index("clips_tempo", "clips", ["collection", "tempo_bpm"])
    op.create_index("clips_reviewer", "clips", ["collection", "reviewer"])
    rated: dict[str, Any] = {"sqlite_where": sa.text("rating > 0"), "postgresql_where": sa.text("rating > 0")}
    op.create_index("clips_rating", "clips", ["collection", "rating"], **rated)
    of_conflict: dict[str, Any] = {"sqlite_where": sa.text("conflict = 1"), "postgresql_where": sa.text("conflict")}
    op.create_index("clips_conflict", "clips", ["collection"], **of_conflict)
    _tables()
    op.execute("""INSERT INTO opinions (clip_id, reviewer, asked, verdict, reason, rating, remark, at_ms)
        SELECT clip_id, reviewer, false, verdict, '', 0, remark, updated_at_ms FROM clips
        WHERE verdict <> 'open' AND NOT automatic AND reviewer <> ''""")
    op.execute("""INSERT INTO clip_counts (collection, subset, verdict, shard, clips)
        SELECT collection, subset, verdict, 0, count(*) FROM clips GROUP BY collection, subset, verdict""")
    if op.get_bind().dialect.name == "postgresql":
        _postgresql()
    else:
        _sqlite()


def _tables() -> None:
    of_clip = sa.ForeignKey("clips.clip_id", ondelete="CASCADE")
    op.create_table(
        "opinions",
        sa.Column("clip_id", sa.String(32), of_clip, primary_key=True),
        sa.Column("reviewer", sa.String(100), primary_key=True),
        sa.Column("asked", sa.Boolean, nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("rating", sa.Integer, nullable=False),
        sa.Column("remark", sa.Text, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("opinions_reviewer", "opinions", ["reviewer", "verdict", "clip_id"])
    op.create_table(
        "clip_counts",
        sa.Column("collection", sa.String(64), primary_key=True),
        sa.Column("subset", sa.String(64), primary_key=True),
        sa.Column("verdict", sa.String(16), primary_key=True),
        sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("clips", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "collections",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("opinions_per_clip", sa.Integer, nullable=False),
    )
    op.create_table(
        "batches",
        sa.Column("batch_id", sa.String(32), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("request", sa.JSON, nullable=False),
        sa.Column("undoes", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("total", sa.BigInteger, nullable=False),
        sa.Column("seen", sa.BigInteger, nullable=False),
        sa.Column("changed", sa.BigInteger, nullable=False),
        sa.Column("last_clip_id", sa.String(32), nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("begun_at_ms", sa.BigInteger, nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger, nullable=False),
    )


def _postgresql() -> None:
    """One statement counts once, however many clips it changes; ordered, so that two of them never wait for each
    other."""
    op.execute("""CREATE TABLE clip_terms (
        clip_id varchar(32) PRIMARY KEY REFERENCES clips ON DELETE CASCADE, terms tsvector NOT NULL)""")
    op.execute("CREATE INDEX clip_terms_terms ON clip_terms USING gin (terms)")
    op.execute("ALTER TABLE clip_terms ALTER COLUMN terms SET STATISTICS 1000")
    added = "SELECT collection, subset, verdict, 1 AS clips FROM added"
    removed = "SELECT collection, subset, verdict, -1 AS clips FROM removed"
    for event, rows, tables in (
        ("INSERT", added, "NEW TABLE AS added"),
        ("DELETE", removed, "OLD TABLE AS removed"),
        ("UPDATE", f"{added} UNION ALL {removed}", "NEW TABLE AS added OLD TABLE AS removed"),
    ):
        name = f"count_clips_{event.lower()}"
        op.execute(f"""CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO clip_counts (collection, subset, verdict, shard, clips)
            SELECT collection, subset, verdict, pg_backend_pid() % 16, sum(clips) FROM ({rows}) AS changed
            GROUP BY collection, subset, verdict HAVING sum(clips) <> 0 ORDER BY collection, subset, verdict
            {COUNTED};
            RETURN NULL; END $$""")  # noqa: S608
        op.execute(f"""CREATE TRIGGER {name} AFTER {event} ON clips REFERENCING {tables}
            FOR EACH STATEMENT EXECUTE FUNCTION {name}()""")


def _sqlite() -> None:
    tokens = "unicode61 remove_diacritics 0 tokenchars '':%._~-''"
    op.execute(
        f"CREATE VIRTUAL TABLE clip_terms USING fts5(clip_id UNINDEXED, terms, detail=none, tokenize='{tokens}')"
    )

    def count(row: str, step: int) -> str:
        """The clip that was, or that is, counted once less or more."""
        return f"""INSERT INTO clip_counts (collection, subset, verdict, shard, clips)
            VALUES ({row}.collection, {row}.subset, {row}.verdict, 0, {step}) {COUNTED};"""  # noqa: S608

    op.execute(f"CREATE TRIGGER count_clips_insert AFTER INSERT ON clips BEGIN {count('new', 1)} END")
    op.execute(f"CREATE TRIGGER count_clips_delete AFTER DELETE ON clips BEGIN {count('old', -1)} END")
    op.execute(f"""CREATE TRIGGER count_clips_update AFTER UPDATE OF collection, subset, verdict ON clips
        WHEN (new.collection, new.subset, new.verdict) <> (old.collection, old.subset, old.verdict)
        BEGIN {count("old", -1)} {count("new", 1)} END""")


def downgrade() -> None:
    for event in ("insert", "delete", "update"):
        if op.get_bind().dialect.name == "postgresql":
            op.execute(f"DROP TRIGGER count_clips_{event} ON clips")
            op.execute(f"DROP FUNCTION count_clips_{event}()")
        else:
            op.execute(f"DROP TRIGGER count_clips_{event}")
    for name in ("clip_terms", "batches", "collections", "clip_counts", "opinions"):
        op.drop_table(name)
    for name in ("conflict", "rating", "reviewer", "tempo", "song_order", *SORTED_BY):
        op.drop_index(f"clips_{name}", "clips")
    op.create_index("clips_verdict", "clips", ["collection", "verdict"])
    for name in (
        "reason", "rating", "conflict", "settled", "skipped_at_ms", "created_at_ms", "loudness_lufs", "disagreement",
        "doubt", "priority", "derived",
    ):  # fmt: skip
        op.drop_column("clips", name)
