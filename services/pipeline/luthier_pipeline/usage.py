"""usage: what callers had of their quotas today."""

from typing import Annotated, Final

import typer

from luthier.inference.v1.inference_pb2 import GetUsageRequest, ListUsageRequest, Usage
from luthier_pipeline.console import plain, table
from luthier_pipeline.options import Json, begin

COLUMNS: Final = ("caller", "calls", "audio seconds", "steps")


def usage(
    ctx: typer.Context,
    everyone: Annotated[bool, typer.Option("--all", help="Of every caller; needs the permission to operate.")] = False,
    json: Json = False,
) -> None:
    """Show what you had of inference today (UTC), and what you may have."""
    context = begin(ctx, json)
    inference = context.clients.inference
    answer = inference.ListUsage(ListUsageRequest()) if everyone else inference.GetUsage(GetUsageRequest())
    rows = [answer.usage] if hasattr(answer, "usage") else list(answer.callers)
    until = answer.renewed_at.ToDatetime().strftime("%Y-%m-%d %H:%M UTC")
    shown = table([_row(each) for each in rows], COLUMNS)
    context.answer(plain(answer), f"{shown}\nrenewed at {until}")


def _row(each: Usage) -> list[str]:
    return [each.caller, *(_part(each, name) for name in ("calls", "audio_seconds", "steps"))]


def _part(each: Usage, name: str) -> str:
    """What was had, and what there may be."""
    had, bound = f"{getattr(each, name):.12g}", f"max_{name}"
    return f"{had} of {getattr(each, bound):.12g}" if each.HasField(bound) else had
