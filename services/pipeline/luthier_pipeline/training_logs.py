"""logs: a training's TensorBoard log and its audio samples, as files in a folder."""

from pathlib import Path
from typing import Annotated

import typer

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.training.v1.training_pb2 import TrainingRun
from luthier_kit.rpc import NotFound
from luthier_pipeline.console import plain
from luthier_pipeline.files import save
from luthier_pipeline.options import Json, begin
from luthier_pipeline.training_status import training_named

EVENTS = "events.out.tfevents."
"""How TensorBoard knows event files; it reads those of a folder in the order of their names."""
DIGITS = 12
"""Of a part's digest in its file's name: a run that went on from a checkpoint may have replaced the part."""


def logs(
    ctx: typer.Context,
    run_id: Annotated[str, typer.Argument(metavar="ID", help="Training, or how its id begins.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where a folder of the run's name goes.")],
    json: Json = False,
) -> None:
    """Fetch a training's TensorBoard log and its audio samples into a folder; called again, only what is new.

    FOLDER/ID gets event files (losses, losses by timestep, learning rate, norm of the gradient, samples to listen to)
    and samples/ the samples as FLAC. Works while the run goes on, and for runs that failed.
    """
    context = begin(ctx, json)
    store, run = context.clients.store, training_named(context.clients, run_id)
    if not run.logs:
        raise NotFound(f"{run.run_id} has no log yet: it gets one at its first validation", reason="LOG_NOT_FOUND")
    target, wanted = folder / run.run_id, files_of(run)
    for old in target.glob(f"{EVENTS}*"):
        if old.name not in wanted:
            old.unlink()  # else its steps would be there twice
    fetched = [name for name in wanted if not (target / name).exists()]
    for name in fetched:
        save(store, wanted[name], target / name)
    last = run.logs[-1].last_step
    document = {"folder": str(target), "last_step": last, "files": list(wanted), **plain(run)}
    text = f"{target}: steps 0 to {last}, {len(run.samples)} samples; {len(fetched)} files are new"
    context.answer(document, f"{text}\ntensorboard --logdir {folder}")


def files_of(run: TrainingRun) -> dict[str, ArtifactRef]:
    """Every file of a run's log by its path below the run's folder."""
    files = {f"{EVENTS}{part.first_step:08}.{part.events.sha256[:DIGITS]}": part.events for part in run.logs}
    numbers: dict[int, int] = {}
    for sample in run.samples:
        number = numbers[sample.step] = numbers.get(sample.step, 0) + 1
        files[f"samples/step-{sample.step:07}-{number}.{sample.audio.sha256[:DIGITS]}.flac"] = sample.audio
    return files
