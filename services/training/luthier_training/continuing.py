"""Runs that begin from a kept checkpoint of another run: what can be continued, and from where. Free of torch."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1.dataset_pb2 import DatasetManifest
from luthier.training.v1.training_pb2 import (
    KEPT_REASON_BEST,
    Adapter,
    ContinueFrom,
    CreateTrainingRunRequest,
    KeptCheckpoint,
    TrainingProgress,
)
from luthier_kit.registry import ModelVersion, RunLog, resolve
from luthier_kit.rpc import FailedPrecondition, InvalidRequest, NotFound, in_field
from luthier_kit.store import Store
from luthier_training.dataset import read_manifest, registered_name
from luthier_training.kept import add, best_of, kept_of
from luthier_training.plan import Plan, check_held_out, held_out_songs, plan_of
from luthier_training.runs import KIND, TrainingRun

FINE_TUNE, AUTOENCODER = "fine_tune", "autoencoder"
CONTINUED = {FINE_TUNE: "a run that fine-tunes", AUTOENCODER: "a run that trains an autoencoder"}
"""What can be continued, by recipe."""
FIELD = f"{FINE_TUNE}.continue_from"
FREE = (
    "continue_from", "validate_every", "checkpoint_every", "keep_every", "keep_best", "export", "sample_prompts",
    "samples", "sample_steps",
)  # fmt: skip
"""Fields of the recipe that may differ between a run and one that goes on with its plan: none changes a weight."""
FREE_OF_AUTOENCODER = ("continue_from", "validate_every", "checkpoint_every", "export")
"""The same of a run that trains an autoencoder."""
MAX_CHAIN = 100
"""Runs that continue one another."""


def check_source(
    store: Store, asked: CreateTrainingRunRequest, base: ModelVersion, manifests: Sequence[DatasetManifest]
) -> None:
    """Refuses what cannot be continued; does nothing for a run that begins from its base.

    NotFound RUN_NOT_FOUND, CHECKPOINT_NOT_KEPT; FailedPrecondition RUN_NOT_ENDED, CONTINUES_ANOTHER_BASE;
    InvalidRequest names what must be as in the run that it goes on with, and a song of the validation splits that was
    trained on.
    """
    recipe = asked.fine_tune
    if not recipe.HasField("continue_from"):
        return
    source = read_source(store, recipe.continue_from)
    checkpoint_of(source, recipe.continue_from)
    _check_base(store, source, base)
    if recipe.continue_from.same_plan:
        _check_plan(source, asked, FINE_TUNE, FREE)
        return
    if _adapter_of(source.request) != _adapter_of(asked):
        bound = f"must be as in {source.id}, but for its dropout, or train another on the version that it registered"
        raise InvalidRequest(violations=[("fine_tune.adapter", bound)])
    held_out = held_out_songs(manifests)
    for run in chain(store, recipe.continue_from):
        for ref in plan_of(run.request).datasets:
            with in_field(FIELD):
                check_held_out(held_out, read_manifest(store, ref), f"by {run.id}")


def check_autoencoder(store: Store, asked: CreateTrainingRunRequest, base: ModelVersion) -> None:
    """The same of a run that trains an autoencoder, which can go on with the plan of another alone."""
    recipe = asked.autoencoder
    if not recipe.HasField("continue_from"):
        return
    source = read_source(store, recipe.continue_from, AUTOENCODER)
    checkpoint_of(source, recipe.continue_from)
    _check_base(store, source, base)
    _check_plan(source, asked, AUTOENCODER, FREE_OF_AUTOENCODER)


def begin(store: Store, asked: ContinueFrom, progress: TrainingProgress, recipe: str = FINE_TUNE) -> None:
    """Notes in the progress of a run that has not begun where it begins, and what it keeps of that run: the best of a
    plan may lie before the step at which another run goes on with it.
    """
    if progress.HasField("continued_from"):
        return
    source = read_source(store, asked, recipe)
    progress.continued_from.CopyFrom(checkpoint_of(source, asked))
    best = best_of(source.progress.kept)
    if asked.same_plan and best and best.step <= progress.continued_from.step:
        add(progress, best.checkpoint, best.step, best.validation_loss, [KEPT_REASON_BEST])


def read_source(store: Store, asked: ContinueFrom, recipe: str = FINE_TUNE) -> TrainingRun:
    """The run that is continued, which has ended and is one of the same recipe."""
    if not asked.run_id.startswith(f"{KIND.name}-"):
        raise NotFound(f"no training run {asked.run_id[:80]!r}", reason="RUN_NOT_FOUND")
    run = RunLog(store, KIND, asked.run_id).read()
    if run.request.WhichOneof("recipe") != recipe:
        raise InvalidRequest(violations=[(f"{recipe}.continue_from.run_id", f"must be {CONTINUED[recipe]}")])
    if not run.ended:
        text = f"{run.id} has not ended: it goes on by itself, or cancel it first"
        raise FailedPrecondition(text, reason="RUN_NOT_ENDED")
    return run


def checkpoint_of(run: TrainingRun, asked: ContinueFrom) -> KeptCheckpoint:
    """The kept checkpoint that is asked for. NotFound CHECKPOINT_NOT_KEPT names those that are."""
    kept = {each.step: each for each in kept_of(run.progress)}
    step = asked.step if asked.HasField("step") else run.progress.checkpoint_step
    if step not in kept:
        there = f"kept are those of step {', '.join(map(str, kept))}" if kept else "it has none: begin it again"
        raise NotFound(f"{run.id} has no checkpoint of step {step}; {there}", reason="CHECKPOINT_NOT_KEPT")
    return kept[step]


def base_of(store: Store, run: TrainingRun) -> ModelVersion:
    """The version of its base that a run trained; of a run of an earlier release, what its base's name means now."""
    recipe = getattr(run.request, str(run.request.WhichOneof("recipe")))
    return resolve(store, run.progress.base or recipe.base_model)


def chain(store: Store, asked: ContinueFrom) -> Iterator[TrainingRun]:
    """The run that is continued, the one that it continued, and so on."""
    for _ in range(MAX_CHAIN):
        run = read_source(store, asked)
        yield run
        if not run.request.fine_tune.HasField("continue_from"):
            return
        asked = run.request.fine_tune.continue_from


@dataclass(frozen=True)
class NamedDataset:
    """A data set that a run trained on: `name@n`, and the digest of its manifest."""

    name: str
    sha256: str


@dataclass(frozen=True)
class MadeOf:
    """What a run's weights were made of besides its base, of the runs that it continues, too. `notes` say it."""

    datasets: list[NamedDataset]
    licences: set[str]
    notes: dict[str, Any]


def made_of(store: Store, asked: CreateTrainingRunRequest, manifests: Sequence[DatasetManifest]) -> MadeOf:
    """The data sets of a run, then those of the runs before it, and what is noted of plan and origin."""
    plan, recipe = plan_of(asked), asked.fine_tune
    earlier = list(chain(store, recipe.continue_from)) if recipe.HasField("continue_from") else []
    refs = {ref.sha256: ref for ref in plan.datasets}
    licences = {licence for manifest in manifests for licence in manifest.licences}
    for run in earlier:
        for ref in plan_of(run.request).datasets:
            if ref.sha256 not in refs:
                refs[ref.sha256] = ref
                licences.update(store.get(DatasetManifest, ref).licences)
    named = [NamedDataset(name_of(store, ref), ref.sha256) for ref in refs.values()]
    notes: dict[str, Any] = {"datasets": [asdict(each) for each in named]}
    if recipe.stages:
        notes["stages"] = [
            {
                "name": stage.name,
                "steps": stage.steps,
                "batch_size": stage.batch_size,
                "learning_rate": stage.learning_rate,
                "warmup_steps": stage.warmup_steps,
                "data": [
                    {"dataset": named[each.dataset].name, "subset": each.subset, "share": float(each.share)}
                    for each in stage.sources
                ],
            }
            for stage in plan.stages
        ]
    if earlier:
        step = checkpoint_of(earlier[0], recipe.continue_from).step
        notes["continued_from"] = [{"run": earlier[0].id, "step": step}, *({"run": run.id} for run in earlier[1:])]
    return MadeOf(named, licences, notes)


def names_of(store: Store, plan: Plan) -> list[str]:
    """What people call the data sets of a plan; of a single one there is no need to tell it apart."""
    return [name_of(store, ref) for ref in plan.datasets] if len(plan.datasets) > 1 else [""]


def name_of(store: Store, ref: ArtifactRef) -> str:
    """What people call a data set, see `dataset.registered_name`."""
    return registered_name(store, store.get(DatasetManifest, ref).name, ref.sha256)


def _adapter_of(asked: CreateTrainingRunRequest) -> Adapter:
    """What decides how an adapter's weights act; a default one where all weights are trained."""
    adapter = Adapter()
    adapter.CopyFrom(asked.fine_tune.adapter)
    adapter.ClearField("dropout")
    return adapter


def _check_base(store: Store, source: TrainingRun, base: ModelVersion) -> None:
    trained = base_of(store, source)
    if trained.digest != base.digest:
        text = f"{source.id} trains {trained.label}, not {base.label}: name that base"
        raise FailedPrecondition(text, reason="CONTINUES_ANOTHER_BASE")


def _check_plan(source: TrainingRun, asked: CreateTrainingRunRequest, recipe: str, free: Sequence[str]) -> None:
    if differing := sorted(_differences(source.request, asked, recipe, free)):
        bound = f"must be as in {source.id} to go on with its plan"
        raise InvalidRequest(violations=[(field, bound) for field in differing])


def _differences(
    one: CreateTrainingRunRequest, other: CreateTrainingRunRequest, recipe: str, free: Sequence[str]
) -> Iterator[str]:
    """Fields that make another plan of a request."""
    if one.seed != other.seed:
        yield "seed"
    if one.dataset.sha256 != other.dataset.sha256:
        yield "dataset"
    recipes = []
    for request in (one, other):
        part = getattr(request, recipe)
        copied = type(part)()
        copied.CopyFrom(part)
        for name in (*free, "base_model"):  # the base is compared by digest
            copied.ClearField(name)
        recipes.append(copied)
    for field in recipes[0].DESCRIPTOR.fields:
        values = [getattr(each, field.name) for each in recipes]
        if values[0] != values[1]:
            yield f"{recipe}.{field.name}"
