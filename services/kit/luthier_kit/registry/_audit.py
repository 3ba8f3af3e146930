"""The audit trail: who registered, promoted, took down and deleted, and what was forced.

Append-only series `audit/<day>`, one for each day in UTC, so that neither writing nor reading a day grows with the
years. An entry is written right behind what it tells of.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Final

from luthier.registry.v1.registry_pb2 import AuditedAction, AuditEntry
from luthier_kit.store import Store

AUDIT: Final = "audit/"
"""Where the trail is in the store."""
MAX_SUBJECT_CHARS: Final = 1000
MAX_REASON_CHARS: Final = 2000
MAX_OVERRULED: Final = 100


def audit(
    store: Store,
    action: AuditedAction,
    *,
    actor: str,
    subject: str,
    reason: str = "",
    overruled: Sequence[str] = (),
    document: str = "",
) -> None:
    """Add to the trail that `actor` did this to `subject`.

    `overruled` are the rules that forbade it, `document` is the key of what tells more. What is longer than an entry
    holds is cut.
    """
    entry = AuditEntry(
        action=action,
        actor=actor,
        subject=subject[:MAX_SUBJECT_CHARS],
        reason=reason[:MAX_REASON_CHARS],
        overruled=overruled[:MAX_OVERRULED],
        document=document,
    )
    entry.at.GetCurrentTime()
    store.series(AuditEntry, f"{AUDIT}{entry.at.ToDatetime(UTC):%Y-%m-%d}").append(entry)


def audited(store: Store, since: date = date.min, until: date = date.max) -> Iterator[tuple[str, AuditEntry]]:
    """Key and entry of what was done from one day to another, both included, in UTC, oldest first."""
    for name in store.names(AUDIT):
        try:
            day = date.fromisoformat(name)
        except ValueError:  # nothing of ours
            continue
        if since <= day <= until:
            for number, entry in store.series(AuditEntry, f"{AUDIT}{name}").entries():
                yield f"{AUDIT}{name}/{number}.json", entry


def today() -> date:
    """The day to which an entry of now belongs."""
    return datetime.now(UTC).date()
