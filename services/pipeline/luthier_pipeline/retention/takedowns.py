"""takedowns: what was taken down, what was begun and not finished, and whether the records are as they were signed."""

from pathlib import Path
from typing import Annotated

import typer

from luthier.pipeline.v1.pipeline_pb2 import TAKEDOWN_STATE_STARTED
from luthier_kit.rpc import InvalidRequest
from luthier_pipeline.console import plain, table
from luthier_pipeline.options import Json, begin
from luthier_pipeline.retention.asked import KIND_NAMES
from luthier_pipeline.retention.records import Kept, command_that_finishes, unfinished
from luthier_pipeline.retention.records import takedowns as series
from luthier_pipeline.retention.signing import SignatureState, load_public_key, state_of


def takedowns(
    ctx: typer.Context,
    public_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.pem", exists=True, dir_okay=False, help="Records must be signed by this key, Ed25519 as PEM."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """List what was taken down, oldest first, with the state of each record's signature, and what was begun and cut
    off, with the command that finishes it.

    Exit code 1 where a record was changed since it was signed, and with --public-key where one is not signed by that
    key.
    """
    context = begin(ctx, json)
    try:
        key = load_public_key(public_key) if public_key else None
    except ValueError as error:
        raise InvalidRequest(violations=[("--public-key", str(error))]) from None
    records = [Kept(number, record) for number, record in series(context.clients.store).entries()]
    cut_off = unfinished(records)
    found = [(kept, state_of(kept.record, key)) for kept in records]
    rows = [
        [
            str(kept.number),
            kept.record.taken_down_at.ToDatetime().strftime("%Y-%m-%d %H:%M"),
            kept.record.taken_down_by,
            f"{KIND_NAMES.get(kept.record.kind, 'unknown')} {kept.record.name}",
            _progress(kept, records),
            str(kept.record.files),
            str(kept.record.clips),
            kept.record.reason,
            f"{state.value} ({kept.record.public_key.hex()[:16]})" if kept.record.signature else state.value,
        ]
        for kept, state in found
    ]
    header = ["record", "when (UTC)", "who", "what", "state", "files", "clips", "why", "signature"]
    document = {
        "takedowns": [
            {"record": kept.number, "signature_state": state.name, **plain(kept.record)} for kept, state in found
        ],
        "unfinished": [{"record": kept.number, "finish": command_that_finishes(kept.record)} for kept in cut_off],
    }
    text = [table(rows, header) if rows else "nothing was taken down"]
    text += [f"record {kept.number} is not finished: {command_that_finishes(kept.record)}" for kept in cut_off]
    context.answer(document, "\n".join(text))
    wrong = {SignatureState.BROKEN, *((SignatureState.OTHER_KEY, SignatureState.UNSIGNED) if key else ())}
    if any(state in wrong for _, state in found):
        raise typer.Exit(1)


def _progress(kept: Kept, records: list[Kept]) -> str:
    """How far the takedown of a record is."""
    if kept.record.state != TAKEDOWN_STATE_STARTED:
        return "done"
    by = [each.number for each in records if kept.number in each.record.completes]
    return f"begun, done by {by[0]}" if by else "begun, NOT FINISHED"
