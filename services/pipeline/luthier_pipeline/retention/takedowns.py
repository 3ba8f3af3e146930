"""takedowns: what was taken down, and whether the records are as they were signed."""

from pathlib import Path
from typing import Annotated

import typer

from luthier_kit.rpc import InvalidRequest
from luthier_pipeline.console import plain, table
from luthier_pipeline.options import Json, begin
from luthier_pipeline.retention.asked import KIND_NAMES
from luthier_pipeline.retention.signing import SignatureState, load_public_key, state_of
from luthier_pipeline.retention.takedown import takedowns as records


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
    """List what was taken down, oldest first, with the state of each record's signature.

    Exit code 1 where a record was changed since it was signed, and with --public-key where one is not signed by that
    key.
    """
    context = begin(ctx, json)
    try:
        key = load_public_key(public_key) if public_key else None
    except ValueError as error:
        raise InvalidRequest(violations=[("--public-key", str(error))]) from None
    found = [(number, record, state_of(record, key)) for number, record in records(context.clients.store).entries()]
    rows = [
        [
            str(number),
            record.taken_down_at.ToDatetime().strftime("%Y-%m-%d %H:%M"),
            record.taken_down_by,
            f"{KIND_NAMES.get(record.kind, 'unknown')} {record.name}",
            str(record.files),
            str(record.clips),
            record.reason,
            f"{state.value} ({record.public_key.hex()[:16]})" if record.signature else state.value,
        ]
        for number, record, state in found
    ]
    header = ["record", "when (UTC)", "who", "what", "files", "clips", "why", "signature"]
    document = {
        "takedowns": [
            {"record": number, "signature_state": state.name, **plain(record)} for number, record, state in found
        ]
    }
    context.answer(document, table(rows, header) if rows else "nothing was taken down")
    wrong = {SignatureState.BROKEN, *((SignatureState.OTHER_KEY, SignatureState.UNSIGNED) if key else ())}
    if any(state in wrong for _, _, state in found):
        raise typer.Exit(1)
