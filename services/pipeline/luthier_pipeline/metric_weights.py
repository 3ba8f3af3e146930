"""metric-weights: brings the weights of an embedder, by which evaluation computes distances, divergences and adherence.

A published checkpoint is first made safetensors by `luthier_evaluation.conversion`, in a Python that has torch; the
service opens the result before it counts.
"""

import json as json_text
import os
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Final

import typer

from luthier.evaluation.v1.evaluation_pb2 import (
    ListMetricWeightsRequest,
    RegisterMetricWeightsRequest,
    RegisterMetricWeightsResponse,
)
from luthier_kit.rpc import InvalidRequest
from luthier_pipeline.console import UsageError, plain, table
from luthier_pipeline.convert_checkpoint import python_of, run_python
from luthier_pipeline.files import put
from luthier_pipeline.options import USER, Json, Reviewer, begin

MODULE: Final = "luthier_evaluation.conversion"
OURS: Final = b"luthier.embedder"
"""In the header of the safetensors that the conversion writes."""
HEADER_BYTES: Final = 1 << 20  # of a file, among which the header's marker is
REGISTER_TIMEOUT_S: Final = 600.0


def metric_weights(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="Embedder; none: list them, and whose weights are there.")
    ] = "",
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="Its published checkpoint, or a file that this command made; none: what evaluation's packages ship.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Also keep the file there, for LUTHIER_METRIC_WEIGHTS of other machines."),
    ] = None,
    reviewer: Reviewer = USER,
    json: Json = False,
) -> RegisterMetricWeightsResponse | None:
    """Bring the weights of an embedder, or list the embedders."""
    context = begin(ctx, json)
    evaluation = context.clients.evaluation
    known = evaluation.ListMetricWeights(ListMetricWeightsRequest())
    if not name:
        rows = [
            [state.name, state.title, state.weights_sha256[:16] or "absent", ", ".join(state.scores), state.bring]
            for state in known.embedders
        ]
        context.answer(plain(known), table(rows, ["embedder", "of", "weights", "scores", "to bring it"]))
        return None
    names = [state.name for state in known.embedders]
    if name not in names:
        raise UsageError(f"no embedder {name!r}: {', '.join(names)}")
    with tempfile.TemporaryDirectory() as folder:
        weights, told = (source, source.name) if source and _is_ours(source) else _converted(name, source, Path(folder))
        if out:
            out.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(weights, out / f"{name}.safetensors")
        request = RegisterMetricWeightsRequest(
            name=name,
            weights=put(context.clients.store, "metric-weights", weights, "application/octet-stream"),
            source=told[:500],
            created_by=reviewer,
        )
    answer = evaluation.RegisterMetricWeights(request, timeout=REGISTER_TIMEOUT_S)
    known_already = ", which counted already" if answer.unchanged else ""
    context.answer(
        plain(answer),
        f"{name}: {told}, {answer.weights.weights.sha256[:16]}{known_already}\n"
        "next: luthier evaluate or luthier score computes its scores",
    )
    return answer


def _is_ours(path: Path) -> bool:
    if path.is_dir():
        return False
    try:
        with path.open("rb") as file:
            return OURS in file.read(HEADER_BYTES)
    except OSError as error:
        bound = f"cannot be read: {error.strerror or error}"
        raise InvalidRequest(reason="FILE_UNREADABLE", violations=[(str(path), bound)]) from None


def _converted(name: str, source: Path | None, folder: Path) -> tuple[Path, str]:
    """The safetensors made of a published checkpoint, and where that is from. Exits as the conversion does."""
    command = [
        str(python_of(os.environ, ("evaluation",), MODULE)),
        "-m",
        MODULE,
        name,
        *([str(source)] if source else []),
    ]
    code, said = run_python([*command, "--out", str(folder), "--json"])
    if code:
        raise typer.Exit(code)  # it has said why
    report = json_text.loads(said)
    return Path(report["written"]), report["source"]
