"""verify: what a file says of what made it, and whether it still holds."""

from pathlib import Path
from typing import Annotated, Final

import typer

from luthier.inference.v1.inference_pb2 import (
    CREDENTIALS_FINDING_CHANGED,
    CREDENTIALS_FINDING_INTACT,
    CREDENTIALS_FINDING_NONE,
    CREDENTIALS_FINDING_UNREADABLE,
    WATERMARK_FINDING_KNOWN,
    WATERMARK_FINDING_NONE,
    WATERMARK_FINDING_NOT_LOOKED_FOR,
    DetectMarksRequest,
    DetectMarksResponse,
    FoundCredentials,
    KnownOutput,
)
from luthier_pipeline.console import plain
from luthier_pipeline.files import put
from luthier_pipeline.options import Json, begin

_TOLD: Final = {
    CREDENTIALS_FINDING_INTACT: "content credentials: intact, signed by {}",
    CREDENTIALS_FINDING_CHANGED: "content credentials: the file was changed after {} signed it; what they say does not "
    "hold",
    CREDENTIALS_FINDING_NONE: "content credentials: none. Somebody else made it, or it was encoded anew since",
    CREDENTIALS_FINDING_UNREADABLE: "content credentials: the file is damaged",
}

_WATERMARK: Final = {
    WATERMARK_FINDING_KNOWN: "watermark: found, it leads to {}",
    WATERMARK_FINDING_NONE: "watermark: none of this installation's key",
    WATERMARK_FINDING_NOT_LOOKED_FOR: "watermark: not looked for",
}


def verify(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, readable=True)],
    json: Json = False,
) -> None:
    """Say whether a model made a file, which, by its content credentials, and whether it was changed since; whether it
    holds a watermark of this installation, and which of its outputs are heard in it.

    Exit code 0 where the credentials are intact, else 1. Who signed is the certificate's word: C2PA's readers check it
    against the certificates that they trust.
    """
    context = begin(ctx, json)
    audio = put(context.clients.store, "audio", file, "application/octet-stream")
    found = context.clients.inference.DetectMarks(DetectMarksRequest(audio=audio))
    credentials = found.credentials
    lines = [_TOLD[credentials.finding].format(credentials.issuer or "an unnamed signer"), *_statement(credentials)]
    lines += [f"fault: {fault}" for fault in credentials.faults]
    if found.output_key:
        lines.append(f"an output of this installation: luthier lineage {found.output_key}")
    else:
        lines.append("no output of this installation has these bytes")
    lines += _by_sound(found)
    context.answer({"file": str(file), **plain(found)}, "\n".join(lines))
    if credentials.finding != CREDENTIALS_FINDING_INTACT:
        raise typer.Exit(1)


def _statement(found: FoundCredentials) -> list[str]:
    """What intact credentials say."""
    if found.finding != CREDENTIALS_FINDING_INTACT:
        return []
    lines = ["made by a model" if found.made_by_model else "nothing is said of a model"]
    if found.model:
        lines.append(f"model {found.model} ({found.model_digest}), seed {found.seed}, record {found.action_key}")
    elif found.claim_generator:
        lines.append(f"claimed by {found.claim_generator}")
    return lines


def _by_sound(found: DetectMarksResponse) -> list[str]:
    """What samples tell: nothing from a server that knows no watermark and no log."""
    told = _WATERMARK.get(found.watermark.finding)
    lines = [told.format(found.watermark.action_key)] if told else []
    lines += [_passage(known) for known in found.known]
    if found.listened_for and not found.known:
        lines.append(f"known output by sound: none of {found.listened_for}")
    return [*lines, *(f"note: {note}" for note in found.notes)]


def _passage(known: KnownOutput) -> str:
    """Where an output is heard."""
    end_s, model = known.at_s + known.duration_s, f" of {known.model}" if known.model else ""
    return (
        f"known output by sound: {known.at_s:.1f} to {end_s:.1f} s is {known.output_key}{model} "
        f"from {known.output_at_s:.1f} s on, score {known.score:.2f} of 1"
    )
