"""Words and labels of clips in an inverted index: what is found by text, tag, key, instrument and the like.

PostgreSQL holds them as `tsvector` below a GIN index, SQLite in an FTS5 table; the terms are made here, so that both
find the same. A word is a run of letters and digits without case and accents. A label says a fact in one term, such as
`:tag:slow%20blues`; no word begins with a colon.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from sqlalchemy import ColumnElement, TextClause, bindparam, column, false, select, table, text
from sqlalchemy.orm import Session

from luthier.common.v1.common_pb2 import FactSource, Mode
from luthier_curation.doubt import key_disagreement, tempo_disagreement
from luthier_curation.tables import ClipRow

WORD: Final = re.compile(r"[^\W_]+")
MAX_TERM_CHARS: Final = 200
"""Longer ones are cut (words) or digested (labels): PostgreSQL takes lexemes of 2046 bytes."""
CLIP_TERMS: Final = table("clip_terms", column("clip_id"), column("terms"))
WAITING: Final = "clip terms to keep"


def plain(text: str) -> str:
    """Without case, accents and compatibility forms."""
    spread = unicodedata.normalize("NFKD", text.casefold())
    return unicodedata.normalize("NFKC", "".join(char for char in spread if not unicodedata.combining(char)))


def words(text: str) -> list[str]:
    """The words of a text."""
    return [word[:MAX_TERM_CHARS] for word in WORD.findall(plain(text))]


def label(kind: str, value: str) -> str:
    """The term of a fact; case and accents of the value do not matter."""
    spelled = quote(plain(value), safe="")
    if len(spelled) > MAX_TERM_CHARS:
        spelled = hashlib.sha256(spelled.encode()).hexdigest()
    return f":{kind}:{spelled}"


def terms_of(row: ClipRow) -> list[str]:
    """All terms of a clip, sorted."""
    instruments = [name for fact in row.facts.instruments for name in (fact.instrument, fact.family)]
    texts = [
        row.source.song.artist,
        row.source.song.title,
        *(prompt.text for prompt in row.prompts),
        *(tag.text for tag in row.tags),
        *instruments,
    ]
    found = {word for text in texts for word in words(text)}
    found |= {label("instrument", name) for name in instruments}
    found |= {label("tag", tag.text) for tag in row.tags}
    found |= {label("provider", tag.source) for tag in row.tags}
    found |= {label("composer", prompt.composer) for prompt in row.prompts}
    found.add(label("artist", row.source.song.artist))
    found.add(label("checked", str(row.checked)))
    found.add(label("tonic", row.facts.key.tonic))
    found.add(label("mode", Mode.Name(row.facts.key.mode) if row.facts.key.mode in Mode.values() else ""))
    found |= {label("source", FactSource.Name(fact.source)) for fact in (row.facts.tempo, row.facts.key)
              if fact.source in FactSource.values()}  # fmt: skip
    tempo, key = tempo_disagreement(row.facts) > 0, key_disagreement(row.facts) > 0
    found |= {label("disagreement", name) for name, there in (("tempo", tempo), ("key", key), ("any", tempo or key),
                                                              ("none", not (tempo or key))) if there}  # fmt: skip
    related = row.source.related_fingerprints
    found.add(label("near-duplicates", str(bool(related))))
    found |= {label("related", song) for song in (row.song_fingerprint, *related)}
    return sorted(found)


# --- asking


def asked(text: str) -> list[tuple[str, bool]]:
    """The words of a question, each with whether it stands for any end (`word*`)."""
    found = []
    for piece in text.split():
        pieces = words(piece)
        found += [(word, piece.endswith("*") and word is pieces[-1]) for word in pieces]
    return found


def condition(session: Session, question_text: str, labels: Iterable[str]) -> ColumnElement[bool] | None:
    """That a clip has all these words and labels; None = nothing is asked for. A text without a word finds nothing."""
    wanted = asked(question_text)
    if question_text.strip() and not wanted:
        return false()
    wanted += [(name, False) for name in labels]
    if not wanted:
        return None
    if session.get_bind().dialect.name == "postgresql":
        question = " & ".join(f"'{term}'" + (":*" if open_end else "") for term, open_end in wanted)
        found = select(CLIP_TERMS.c.clip_id).where(_text("clip_terms.terms @@ CAST(:terms AS tsquery)", question))
    else:
        question = " AND ".join(f'"{term}"' + (" *" if open_end else "") for term, open_end in wanted)
        found = select(CLIP_TERMS.c.clip_id).where(_text("clip_terms MATCH :terms", question))
    return ClipRow.clip_id.in_(found)


def _text(sql: str, question: str) -> TextClause:
    return text(sql).bindparams(bindparam("terms", question, unique=True))


# --- keeping


def wait(session: Session, row: ClipRow) -> None:
    """Remember that a clip's terms have changed; `settle` writes them."""
    session.info.setdefault(WAITING, {})[row.clip_id] = terms_of(row)


def settle(session: Session) -> None:
    """Write the terms that changed in this transaction, all at once."""
    waiting: dict[str, list[str]] = session.info.pop(WAITING, {})
    if not waiting:
        return
    session.flush()
    if session.get_bind().dialect.name == "postgresql":
        keep = """INSERT INTO clip_terms (clip_id, terms) VALUES (:clip_id, array_to_tsvector(CAST(:terms AS text[])))
                  ON CONFLICT (clip_id) DO UPDATE SET terms = excluded.terms"""
        session.execute(text(keep), [{"clip_id": name, "terms": found} for name, found in waiting.items()])
        return
    rows = [{"number": _number(name), "clip_id": name, "terms": " ".join(found)} for name, found in waiting.items()]
    session.execute(text("DELETE FROM clip_terms WHERE rowid = :number"), rows)
    session.execute(text("INSERT INTO clip_terms (rowid, clip_id, terms) VALUES (:number, :clip_id, :terms)"), rows)


def _number(clip_id: str) -> int:
    """Row number of a clip in the FTS5 table, which finds rows by number alone: 60 bits of its id."""
    return int(hashlib.sha256(clip_id.encode()).hexdigest()[:15], 16)
