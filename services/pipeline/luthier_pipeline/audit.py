"""audit: who registered, promoted, took down and deleted what, and what was forced."""

from datetime import UTC, date
from typing import Annotated, Final, Literal

import typer

from luthier.registry.v1.registry_pb2 import (
    AUDITED_ACTION_DELETE,
    AUDITED_ACTION_PROMOTE,
    AUDITED_ACTION_REGISTER,
    AUDITED_ACTION_TAKE_DOWN,
)
from luthier_kit.registry import audited
from luthier_pipeline.console import plain, table
from luthier_pipeline.options import Json, begin

ACTIONS: Final = {
    AUDITED_ACTION_REGISTER: "register",
    AUDITED_ACTION_PROMOTE: "promote",
    AUDITED_ACTION_TAKE_DOWN: "takedown",
    AUDITED_ACTION_DELETE: "delete",
}


def _day(text: str) -> str:
    """A typer callback: a day as 2026-11-30, or nothing."""
    try:
        return date.fromisoformat(text).isoformat() if text else ""
    except ValueError:
        raise typer.BadParameter(f"must be a day as 2026-11-30, got {text[:40]!r}") from None


def audit(
    ctx: typer.Context,
    since: Annotated[str, typer.Option(metavar="DAY", callback=_day, help="First day, as 2026-11-30, in UTC.")] = "",
    until: Annotated[str, typer.Option(metavar="DAY", callback=_day, help="Last day.")] = "",
    action: Annotated[
        Literal["register", "promote", "takedown", "delete"] | None, typer.Option(help="Only this was done.")
    ] = None,
    actor: Annotated[str, typer.Option(metavar="TEXT", help="Only who has this in the name.")] = "",
    subject: Annotated[str, typer.Option(metavar="TEXT", help="Only what has this in its name.")] = "",
    forced: Annotated[bool, typer.Option("--forced", help="Only what a rule forbade.")] = False,
    json: Json = False,
) -> None:
    """List who registered, promoted, took down and deleted what, oldest first, and what was forced."""
    context = begin(ctx, json)
    first, last = date.fromisoformat(since or "0001-01-01"), date.fromisoformat(until or "9999-12-31")
    found = [
        (key, entry)
        for key, entry in audited(context.clients.store, first, last)
        if (action is None or ACTIONS.get(entry.action) == action)
        and actor.casefold() in entry.actor.casefold()
        and subject.casefold() in entry.subject.casefold()
        and (entry.overruled or not forced)
    ]
    rows = [
        [
            entry.at.ToDatetime(UTC).strftime("%Y-%m-%d %H:%M:%S"),
            entry.actor,
            f"{ACTIONS.get(entry.action, 'unknown')}{' by force' if entry.overruled else ''}",
            entry.subject,
            "; ".join(filter(None, [entry.reason, *(f"against: {rule}" for rule in entry.overruled)])),
        ]
        for key, entry in found
    ]
    document = {
        "entries": [{"key": key, "done": ACTIONS.get(entry.action, ""), **plain(entry)} for key, entry in found]
    }
    text = table(rows, ["when (UTC)", "who", "did", "to", "why"]) if rows else "nothing was done"
    context.answer(document, text)
