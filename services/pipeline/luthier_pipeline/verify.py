"""verify: what a file says of what made it, whether it still holds, and who is trusted to say so."""

from datetime import UTC
from pathlib import Path
from typing import Annotated, Final

import typer

from luthier.inference.v1.inference_pb2 import (
    CREDENTIALS_FINDING_CHANGED,
    CREDENTIALS_FINDING_INTACT,
    CREDENTIALS_FINDING_NONE,
    CREDENTIALS_FINDING_UNREADABLE,
    CREDENTIALS_TRUST_EXPIRED,
    CREDENTIALS_TRUST_NOT_ASKED,
    CREDENTIALS_TRUST_NOT_LISTED,
    CREDENTIALS_TRUST_TRUSTED,
    CREDENTIALS_TRUST_UNFIT,
    CREDENTIALS_TRUST_UNSPECIFIED,
    WATERMARK_FINDING_KNOWN,
    WATERMARK_FINDING_NONE,
    WATERMARK_FINDING_NOT_LOOKED_FOR,
    DetectMarksRequest,
    DetectMarksResponse,
    FoundCredentials,
    KnownOutput,
)
from luthier_kit.rpc import InvalidRequest
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

_TRUST: Final = {
    CREDENTIALS_TRUST_NOT_ASKED: "signer: nobody was asked whether it is trusted; --trust names a list of certificates",
    CREDENTIALS_TRUST_TRUSTED: "signer: trusted by {}",
    CREDENTIALS_TRUST_NOT_LISTED: "signer: not on {}",
    CREDENTIALS_TRUST_EXPIRED: "signer: its certificate has expired, and no trusted stamp shows that it signed before",
    CREDENTIALS_TRUST_UNFIT: "signer: its certificate was revoked, or is none that may sign content credentials",
}
_ENOUGH: Final = (CREDENTIALS_TRUST_UNSPECIFIED, CREDENTIALS_TRUST_NOT_ASKED, CREDENTIALS_TRUST_TRUSTED)
DEVELOPMENT: Final = "Luthier development"
"""Whom certificates name that a service makes for itself."""
MAX_LIST_BYTES: Final = 1 << 20

_WATERMARK: Final = {
    WATERMARK_FINDING_KNOWN: "watermark: found, it leads to {}",
    WATERMARK_FINDING_NONE: "watermark: none of this installation's key",
    WATERMARK_FINDING_NOT_LOOKED_FOR: "watermark: not looked for",
}


def verify(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, readable=True)],
    trust: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.pem",
            exists=True,
            dir_okay=False,
            readable=True,
            help="Trusted certificates, of signers and time-stamping authorities, in place of the service's list.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Say whether a model made a file, which, by its content credentials, and whether it was changed since; whether it
    holds a watermark of this installation, and which of its outputs are heard in it.

    Exit code 0 where the credentials are intact, and where a list of trusted certificates was asked, the signer is on
    it; else 1. Without a list, who signed is the certificate's word.
    """
    context = begin(ctx, json)
    anchors = _list(trust) if trust else b""
    audio = put(context.clients.store, "audio", file, "application/octet-stream")
    found = context.clients.inference.DetectMarks(DetectMarksRequest(audio=audio, trust_anchors=anchors))
    credentials = found.credentials
    lines = [_TOLD[credentials.finding].format(credentials.issuer or "an unnamed signer"), *_statement(credentials)]
    lines += _signer(credentials, str(trust) if trust else "the service's list")
    unasked = trust and credentials.trust == CREDENTIALS_TRUST_UNSPECIFIED
    if unasked and credentials.finding == CREDENTIALS_FINDING_INTACT:
        lines.append("signer: the service is of a release that asks no list, so nobody was asked")
    lines += [f"fault: {fault}" for fault in credentials.faults]
    if found.output_key:
        lines.append(f"an output of this installation: luthier lineage {found.output_key}")
    else:
        lines.append("no output of this installation has these bytes")
    lines += _by_sound(found)
    context.answer({"file": str(file), **plain(found)}, "\n".join(lines))
    if credentials.finding != CREDENTIALS_FINDING_INTACT or credentials.trust not in _ENOUGH or unasked:
        raise typer.Exit(1)


def _list(path: Path) -> bytes:
    """The bytes of a list, which the service checks. InvalidRequest for one that it would not take for its size."""
    with path.open("rb") as file:
        data = file.read(MAX_LIST_BYTES + 1)
    if not 0 < len(data) <= MAX_LIST_BYTES:
        text = f"must have 1 to {MAX_LIST_BYTES} bytes, {path} has {'none' if not data else 'more'}"
        raise InvalidRequest(violations=[("--trust", text)])
    return data


def _signer(found: FoundCredentials, asked: str) -> list[str]:
    """Who is trusted, and when it was signed: nothing from a server that does not say so."""
    told = _TRUST.get(found.trust)
    if found.finding != CREDENTIALS_FINDING_INTACT or not told:
        return []  # of a release of before
    lines = [told.format(asked)]
    if found.issuer == DEVELOPMENT and found.trust != CREDENTIALS_TRUST_TRUSTED:
        lines.append("it names itself a certificate for development, which a service makes for itself")
    if found.HasField("stamped_at"):
        at = found.stamped_at.ToDatetime(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        listed = "on the list" if found.time_authority_trusted else "on no list that was asked"
        who = found.time_authority or "an unnamed authority"
        lines.append(f"time stamp: it was signed by {at}, says {who}, which is {listed}")
    else:
        lines.append("time stamp: none")
    return lines


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
