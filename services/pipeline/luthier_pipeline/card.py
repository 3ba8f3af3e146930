"""card: what a model was trained on, as its training wrote it down."""

from pathlib import Path
from typing import Annotated

import typer

from luthier.training.v1.model_card_pb2 import ModelCard
from luthier_kit.registry import resolve
from luthier_kit.rpc import NotFound
from luthier_pipeline.console import plain
from luthier_pipeline.options import Json, begin


def card(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="name, name@n or sha256:…")],
    out: Annotated[Path | None, typer.Option(metavar="FILE.md", help="Where the card goes; default: shown.")] = None,
    json: Json = False,
) -> None:
    """Show what a model was trained on: minutes per instrument, genre, tempo, key; songs, licences, settings.

    Markdown with the front matter of the Hugging Face hub, README.md of a model; --json has all figures.
    """
    context = begin(ctx, json)
    store = context.clients.store
    version = resolve(store, model)
    if version.card is None:
        text = f"{version.label} has no card: bases and weights of others have none, nor what earlier releases trained"
        raise NotFound(text, reason="CARD_NOT_FOUND")
    found = store.get(ModelCard, version.card)
    if out:
        out.write_text(found.markdown)
    text = f"{out}: the card of {version.label}" if out else found.markdown
    context.answer({"model": version.label, **plain(found)}, text)
