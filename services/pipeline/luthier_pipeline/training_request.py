"""What `luthier train` asks for: options, a plan, or a run that is gone on with.

`--continue RUN[@STEP]` goes on where another training stands, or trains on from its weights.
"""

import re
from pathlib import Path
from typing import Final

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1.dataset_pb2 import DatasetVersion
from luthier.training.v1.training_pb2 import (
    RUN_STATE_SUCCEEDED,
    ContinueFrom,
    CreateTrainingRunRequest,
    FineTune,
    GetTrainingRunRequest,
    KeptCheckpoint,
    KeptReason,
    TrainAutoencoder,
    TrainingRun,
    TrainingStage,
)
from luthier_kit.rpc import NotFound
from luthier_kit.store import Store
from luthier_pipeline.clients import Clients
from luthier_pipeline.console import UsageError
from luthier_pipeline.training_plan import TrainingPlan, read_plan

SAME_PLAN: Final = ("validate_every", "checkpoint_every", "keep_every", "keep_best", "export")
"""Options that change no weight: with these alone a run goes on with the other's plan."""
ENDED_WITH: Final = ("keep_every", "keep_best", "export")
"""What a finished run can be asked for again."""
_RUN: Final = re.compile(r"(training-[0-9a-f]{4,})(?:@([1-9][0-9]{0,6}))?")


def complete(
    request: CreateTrainingRunRequest, clients: Clients, dataset: str, plan: Path | None, continued: str
) -> tuple[list[str], TrainingPlan | None]:
    """Puts a data set, a plan and the run that is continued into a request of options. Returns which data sets, and the
    plan. UsageError, NotFound, PlanFault.
    """
    versions, read = list[str](), None
    if dataset:
        manifest, version = find_dataset(clients.store, dataset)
        request.dataset.CopyFrom(manifest)
        versions.append(version)
    if plan:
        read = _planned(request, plan, clients.store, needs_base=not continued)
        versions += read.datasets
    if continued:
        run, step = run_to_continue(clients, continued)
        continue_run(request, run, step, planned=plan is not None)
    return versions, read


def find_dataset(store: Store, name: str) -> tuple[ArtifactRef, str]:
    """The manifest of `name` (its newest version) or `name@n`, and which version that is. Raises NotFound."""
    base, _, number = name.partition("@")
    entries = store.series(DatasetVersion, f"datasets/{base}").entries()
    chosen = [(n, version) for n, version in entries if not number or str(n) == number]
    if not chosen:
        known = ", ".join(store.names("datasets/")) or "none"
        raise NotFound(f"no data set {name}; there are: {known}", reason="DATASET_NOT_FOUND")
    n, version = chosen[-1]
    return version.manifest, f"{base}@{n}"


def _planned(request: CreateTrainingRunRequest, path: Path, store: Store, *, needs_base: bool) -> TrainingPlan:
    """Puts a plan into a request that holds at most a name beside it."""
    if request.fine_tune.ListFields() or request.HasField("dataset") or request.HasField("seed"):
        raise UsageError("--plan holds data sets, base, steps and all else: beside it only --name and --continue")
    try:
        read = read_plan(path, lambda name: find_dataset(store, name), needs_base=needs_base)
    except OSError as error:
        raise UsageError(f"--plan {path}: {error.strerror or error}") from None
    name = request.model_name or read.request.model_name
    request.MergeFrom(read.request)
    request.model_name = name
    return read


def run_to_continue(
    clients: Clients, text: str, recipe: str = "fine_tune", command: str = "luthier train"
) -> tuple[TrainingRun, int | None]:
    """The run that `RUN[@STEP]` names, or how its id begins, and the step. NotFound RUN_NOT_FOUND, UsageError."""
    match = _RUN.fullmatch(text)
    if not match:
        raise UsageError(f"--continue {text!r} must be training- and four digits of the id or more, and @STEP after it")
    found = [name for name in clients.store.names("runs/") if name.startswith(match[1])]
    if not found:
        raise NotFound(f"no training {match[1]!r}; luthier status lists them", reason="RUN_NOT_FOUND")
    if len(found) > 1:
        raise UsageError(f"--continue {match[1]} is the beginning of {len(found)}: {', '.join(found[:4])}")
    run = clients.training.GetTrainingRun(GetTrainingRunRequest(run_id=found[0])).run
    if run.request.WhichOneof("recipe") != recipe:
        raise UsageError(f"{run.run_id} is no run of {command}, which continues its own alone")
    return run, int(match[2]) if match[2] else None


def continue_run(request: CreateTrainingRunRequest, run: TrainingRun, step: int | None, *, planned: bool) -> None:
    """Completes a request of options, or of a plan (`planned`), to one that continues a run.

    What the request leaves open is as in that run. With nothing asked for that changes a weight it goes on at the
    checkpoint's step of that run's plan; else the checkpoint is the start of the request's own plan.
    """
    asked, before, base = request.fine_tune, run.request.fine_tune, request.fine_tune.base_model
    own = [field.name for field, _ in asked.ListFields() if field.name not in SAME_PLAN]
    anew = planned or request.HasField("dataset") or request.HasField("seed") or bool(own)
    source = ContinueFrom(run_id=run.run_id, step=step, same_plan=True if not anew else None)
    if not planned:
        asked.CopyFrom(_on(asked, before, request) if anew else _same(asked, before, run, step))
    asked.base_model = base or run.base or before.base_model  # its version: the name may mean another by now
    if anew and not planned and not request.HasField("dataset"):
        request.dataset.CopyFrom(run.request.dataset)
    elif not anew:
        request.dataset.CopyFrom(run.request.dataset)
        request.seed = run.request.seed
    request.model_name = request.model_name or run.request.model_name
    asked.continue_from.CopyFrom(source)


def continue_autoencoder(request: CreateTrainingRunRequest, run: TrainingRun, step: int | None) -> None:
    """Completes a request of options to one that goes on with the plan of a run that trains an autoencoder."""
    asked, before = request.autoencoder, run.request.autoencoder
    other = [field.name for field, _ in asked.ListFields() if field.name not in SAME_PLAN]
    if other or request.HasField("dataset") or request.HasField("seed"):
        text = "--continue goes on with the run's own plan: beside it only --name, --export, --validate-every and "
        raise UsageError(text + "--checkpoint-every; to train on, name what it made as --base")
    if run.state == RUN_STATE_SUCCEEDED and step is None:
        raise UsageError(f"{run.run_id} has finished: to train on from {run.model}, name it as --base")
    recipe = TrainAutoencoder()
    recipe.CopyFrom(before)
    recipe.MergeFrom(asked)
    recipe.base_model = run.base or before.base_model  # its version: the name may mean another by now
    recipe.continue_from.CopyFrom(ContinueFrom(run_id=run.run_id, step=step, same_plan=True))
    asked.CopyFrom(recipe)
    request.dataset.CopyFrom(run.request.dataset)
    request.seed = run.request.seed
    request.model_name = request.model_name or run.request.model_name


def kept_text(kept: KeptCheckpoint) -> str:
    """`400 (newest, best)`."""
    names = [KeptReason.Name(why).removeprefix("KEPT_REASON_").lower() for why in kept.reasons]
    return f"{kept.step} ({', '.join(names)})"


def _same(asked: FineTune, before: FineTune, run: TrainingRun, step: int | None) -> FineTune:
    """The run's own recipe, with what is asked for besides."""
    if run.state == RUN_STATE_SUCCEEDED and step is None and not any(asked.HasField(name) for name in ENDED_WITH):
        text = f"{run.run_id} has finished: --steps N or --plan FILE trains on from it, --export best takes its best"
        raise UsageError(text)
    recipe = FineTune()
    recipe.CopyFrom(before)
    recipe.MergeFrom(asked)
    return recipe


def _on(asked: FineTune, before: FineTune, request: CreateTrainingRunRequest) -> FineTune:
    """As many steps as asked for, otherwise as the run's last stage."""
    if not asked.HasField("steps"):
        raise UsageError("--continue with other data or another recipe takes --steps N: how many steps from there on")
    recipe = FineTune()
    recipe.CopyFrom(before)
    stages = list(recipe.stages)
    for name in ("stages", "steps", "validate_every", "checkpoint_every", "keep_every"):
        recipe.ClearField(name)  # they were chosen for another number of steps
    if stages and not request.HasField("dataset"):
        last = recipe.stages.add()
        last.CopyFrom(stages[-1])
        last.steps = asked.steps
    parts: list[FineTune | TrainingStage] = [recipe, *recipe.stages]
    for part in parts:
        if part.warmup_steps > asked.steps:
            part.ClearField("warmup_steps")  # but what is asked for now is the service's to refuse
    recipe.MergeFrom(asked)
    for stage in recipe.stages:
        for name in ("batch_size", "learning_rate", "warmup_steps"):
            if asked.HasField(name):
                setattr(stage, name, getattr(asked, name))
    return recipe
