"""`luthier experiment`: the paper's claim in small, by the commands that anyone can type.

Songs that the project composes go all the way through the services; three seeds of one small model are fine-tuned on
what came out, a fourth on the same clips with the tempi of their captions shuffled. All of them and the untrained base
are measured on prompts in words that they never saw. What was done is found again: after Ctrl-C, a kill or a power cut
the same command goes on.
"""

import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from luthier.curation.v1.curation_pb2 import ExportDatasetResponse
from luthier.curation.v1.dataset_pb2 import DatasetManifest, DatasetVersion
from luthier.evaluation.v1.evaluation_pb2 import Evaluation, EvaluationResults
from luthier.training.v1.training_pb2 import TrainingRun
from luthier_kit.rpc import TRAIN, FailedPrecondition
from luthier_kit.store import Store
from luthier_pipeline.console import clock
from luthier_pipeline.experiment.control import control_dataset
from luthier_pipeline.experiment.report import Measured, Sample, write_report
from luthier_pipeline.experiment.songs import TEMPI_BPM, songs
from luthier_pipeline.files import save
from luthier_pipeline.nested import command
from luthier_pipeline.options import Json, Reviewer, begin
from luthier_pipeline.run import RunSummary
from luthier_pipeline.songbook.compose import write_songs

NAME: Final = "experiment"
WINDOW_S: Final = 4.096  # of the small model: what it is asked for, and enough to hear a tempo
CLIP_S: Final = 8.0  # aimed for, so that no clip is shorter than the window
PROMPTS: Final = 12  # of a clip: the more wordings, the better one that was never seen is understood
SPLIT: Final = "--validation-share 0.05 --test-share 0"
AUTOENCODER_STEPS: Final = 1500
STEPS, WARMUP = 5000, 50  # of fine-tuning
FINE_TUNE: Final = (
    "--cut-to-window --batch-size 16 --learning-rate 0.002 --ema-decay 0.995"
    " --timestep-mean 1.5 --timestep-deviation 1.5"
)
MOST_HELD_OUT: Final = 0.2  # share of the songs; asked for is a twentieth
HEARD_EVERY: Final = 43  # of the rows of a tempo suite one is kept to listen to
DENOISING_STEPS: Final = 50
GUIDANCE: Final = 3.0
TEMPO, KEY = "paper-tempo", "paper-key"


@dataclass(frozen=True)
class Arm:
    """A model of the experiment: what it is called in the report, its data set and its seed."""

    title: str
    name: str
    dataset: str
    seed: int


def experiment(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the results go.")] = Path("experiment"),
    seeds: Annotated[int, typer.Option(metavar="N", min=1, max=20, help="Models trained on true captions.")] = 3,
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Optimiser steps of each model.")] = STEPS,
    autoencoder_steps: Annotated[
        int, typer.Option(metavar="N", min=1, help="Optimiser steps of the autoencoder.")
    ] = AUTOENCODER_STEPS,
    every_tempo: Annotated[
        int, typer.Option(metavar="BPM", min=1, max=30, help="Songs at every so many BPM; default: at each.")
    ] = 1,
    rows: Annotated[int | None, typer.Option(metavar="N", min=1, help="Only the first rows of each suite.")] = None,
    reviewer: Reviewer = NAME,
    json: Json = False,
) -> None:
    """Train small models whose captions state true tempi, and one whose captions lie, and measure them.

    Two and a half hours on two cores; done again where it was interrupted.
    """
    context, began = begin(ctx, json), time.monotonic()
    who, store = shlex.quote(reviewer), context.clients.store

    planned, name = songs(TEMPI_BPM[::every_tempo]), NAME if every_tempo == 1 else f"{NAME}-every-{every_tempo}-bpm"
    folder = out / f"songs-every-{every_tempo}-bpm"
    write_songs(folder, planned)
    line = f"run {shlex.quote(str(folder))} --collection {name} --licence Apache-2.0 --mix-only"
    ran = command(context, f"{line} --clip-seconds {CLIP_S:g} --prompts {PROMPTS}", RunSummary)
    if ran.failures or ran.songs != len(planned):
        text = f"{ran.songs} of {len(planned)} songs are there, {len(ran.failures)} failed"
        text += "".join(f"; {failure.path}: {failure.message}" for failure in ran.failures[:1])
        raise FailedPrecondition(text, reason="SONGS_MISSING")
    command(context, f"review --collection {name} --accept checked --as {who}", type(None))
    exported = command(context, f"export --collection {name} --as {who} {SPLIT}", ExportDatasetResponse)
    true = f"{exported.name}@{exported.version}"
    entry = store.series(DatasetVersion, f"datasets/{exported.name}").entry(exported.version)
    assert entry is not None  # it was just exported
    check_splits(store.get(DatasetManifest, entry.manifest), len(planned))
    lying = control_dataset(context.clients, entry, f"{name}-control")

    line = f"train --tiny-base --size small --dataset {true} --name {name}-base --seed 1 --as {who}"
    base = command(context, f"{line} --steps {autoencoder_steps}", TrainingRun)
    arms = [Arm(f"true captions, seed {seed}", f"{name}-seed-{seed}", true, seed) for seed in range(1, seeds + 1)]
    arms.append(Arm("shuffled tempi (control)", f"{name}-control", lying, 1))
    lines = [
        f"train --base {base.model} --dataset {arm.dataset} --name {arm.name} --seed {arm.seed} --steps {steps}"
        f" --warmup {min(WARMUP, steps)} {FINE_TUNE} --as {who}"
        for arm in arms
    ]
    for line in lines:
        command(context, f"{line} --detach", TrainingRun)  # as many at once as the service has runners
    trained = [command(context, line, TrainingRun) for line in lines]

    measured = []
    for arm, run in zip(arms, trained, strict=True):
        for suite in (TEMPO, KEY):
            report = out / f"{arm.name}-{suite}.html"
            line = f"evaluate --model {run.model} --baseline {base.model} --suite {suite} --seconds {WINDOW_S:g}"
            line += f" --steps {DENOISING_STEPS} --guidance-scale {GUIDANCE:g} --as {who}"
            line += f" --report {shlex.quote(str(report))}" + (f" --max-rows {rows}" if rows else "")
            done = command(context, line, Evaluation)
            measured.append(Measured(arm.title, suite, run, done, store.get(EvaluationResults, done.results), report))
    page = write_report(out, base, measured, kept_samples(store, measured, out))
    context.answer(
        {"report": str(page), "base": base.model, "models": [run.model for run in trained]},
        f"\ndone in {clock(time.monotonic() - began)}\nreport {page}",
    )


def check_splits(manifest: DatasetManifest, songs: int) -> None:
    """Raises FailedPrecondition unless every song gave clips and validation holds few of them: songs that are taken for
    one fall into one split together, and a genre that is not trained on is asked for in vain."""
    held_out = {row.song_fingerprint for row in manifest.rows if row.split != TRAIN}
    known = {row.song_fingerprint for row in manifest.rows}
    if len(known) != songs or len(held_out) > max(MOST_HELD_OUT * songs, 2):
        text = f"the data set holds {len(known)} of {songs} songs, {len(held_out)} of them not for training"
        raise FailedPrecondition(text, reason="SPLITS_LOPSIDED")


def kept_samples(store: Store, measured: list[Measured], out: Path) -> list[Sample]:
    """Some rows of every model, their audio saved below `out`, to listen to."""
    samples = []
    for number, one in enumerate(one for one in measured if one.suite == TEMPO):
        rows = one.results.plan.suite.rows
        for result in one.results.rows:
            if result.model != one.evaluation.candidate or result.row % HEARD_EVERY or not result.audio.key:
                continue
            file = f"audio/{number}-{result.row}.flac"
            save(store, result.audio, out / file)
            heard = f"{result.tempo.tempo_bpm:.1f} BPM" if result.tempo.tempo_bpm else "no tempo"
            samples.append(Sample(one.title, rows[result.row].prompt, heard, file))
    return samples
