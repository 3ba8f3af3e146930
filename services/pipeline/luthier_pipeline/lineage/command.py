"""lineage: the command."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from luthier_kit.rpc import NotFound
from luthier_pipeline.lineage.graph import lineage_of
from luthier_pipeline.lineage.index import open_index
from luthier_pipeline.options import Json, begin


def digest_of_ref(ref: str, known: Callable[[str], str]) -> str:
    """The digest of a file on this machine, else of what `known` resolves in the store."""
    path = Path(ref)
    if not path.is_file():
        return known(ref)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    try:
        return known(digest)
    except NotFound:
        raise NotFound(f"the store knows no file with the bytes of {ref}", reason="ARTIFACT_NOT_FOUND") from None


def lineage(
    ctx: typer.Context,
    ref: Annotated[
        str,
        typer.Argument(metavar="REF|FILE", help="Key, sha256, name@n, path in a corpus, or a file on this machine."),
    ],
    json: Json = False,
) -> None:
    """Walk back from a file to every MIDI file, recording, plugin, prompt, data set and model behind it."""
    context = begin(ctx, json)
    index = open_index(context.clients.store, context.clients.environ, context.say)
    found = lineage_of(index, digest_of_ref(ref, index.resolve))
    context.answer(found.document(), found.tree())
