"""What a run is to do, step by step: its stages, and the data that each draws from, with which shares.

Free of torch: the service refuses with it what cannot be, before a runner exists.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1.dataset_pb2 import DatasetManifest
from luthier.training.v1.training_pb2 import (
    EXPORTED_WEIGHTS_BEST_BY_VALIDATION,
    EXPORTED_WEIGHTS_LAST,
    ContinueFrom,
    CreateTrainingRunRequest,
    FineTune,
    StageData,
    SubsetShare,
    TrainingStage,
)
from luthier_kit.rpc import TRAIN, VALIDATION, Checks, InvalidRequest, in_field
from luthier_kit.store import MAX_DOCUMENT_BYTES, Store
from luthier_training.dataset import MAX_ROWS, REASON, read_manifest, rows_of, subset_of
from luthier_training.seeds import seed_of

MAX_STEPS, MAX_BATCH, MAX_STAGES = 1_000_000, 256, 20
MAX_DATA = 20
"""Data sets of a stage, and of a plan; subsets of each."""
MAX_SHARE = 1e6
MAX_RUN_ID_CHARS = 128
_SHOWN = 8
"""Subsets that an error names."""


@dataclass(frozen=True)
class Source:
    """Clips that are drawn with one share of a stage's places: of a subset ("" = all) of the plan's data set with this
    number.
    """

    dataset: int
    subset: str
    share: Fraction


@dataclass(frozen=True)
class Stage:
    """One stage; `first` steps were done before it, `number` stages came before."""

    number: int
    name: str
    first: int
    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    sources: tuple[Source, ...]

    @property
    def end(self) -> int:
        """Steps that are done when it is."""
        return self.first + self.steps

    def seed(self, seed: int) -> int:
        """What its draws follow from. The first stage's are those of a run without stages."""
        return seed_of(seed, "stage", self.number) if self.number else seed


@dataclass(frozen=True)
class Plan:
    """The stages of a run; its data sets, in the order in which the request first names them, and where it does."""

    stages: tuple[Stage, ...]
    datasets: tuple[ArtifactRef, ...]
    fields: tuple[str, ...]

    @property
    def steps(self) -> int:
        return self.stages[-1].end

    def at(self, step: int) -> Stage:
        """The stage whose step comes after `step` steps; the last one at the end."""
        return next((stage for stage in self.stages if step < stage.end), self.stages[-1])

    def subsets(self, dataset: int) -> set[str]:
        """The subsets of a data set that any stage draws from; "" is among them where one draws from all alike."""
        return {each.subset for stage in self.stages for each in stage.sources if each.dataset == dataset}


def settle_stages(asked: FineTune, checks: Checks) -> bool:
    """Fills in `steps` from the stages, and checks what does not depend on other fields; whether `steps` can be."""
    at, total = "fine_tune.stages", sum(stage.steps for stage in asked.stages)
    if not checks.count(at, asked.stages, 1, MAX_STAGES):
        return False
    names = [stage.name for stage in asked.stages]
    good = True
    for index, stage in enumerate(asked.stages):
        good = checks.within(f"{at}[{index}].steps", stage.steps, 1, MAX_STEPS) and good
        if checks.name(f"{at}[{index}].name", stage.name):
            checks.that(names.index(stage.name) == index, f"{at}[{index}].name", f"{stage.name!r} stands twice")
        for where, data in checks.items(f"{at}[{index}].data", stage.data, 0, MAX_DATA):
            _check_data(where, data, checks)
    refs = {data.dataset.sha256 for stage in asked.stages for data in stage.data}
    checks.that(len(refs) <= MAX_DATA, at, f"must draw from at most {MAX_DATA} data sets together, got {len(refs)}")
    good = good and checks.that(total <= MAX_STEPS, at, f"must have at most {MAX_STEPS} steps together, got {total}")
    if not good:
        return False
    if asked.HasField("steps"):
        bound = f"must be absent or the sum of the stages' steps, {total}, got {asked.steps}"
        checks.that(asked.steps == total, "fine_tune.steps", bound)
    asked.steps = total
    return True


def fill_stages(asked: FineTune, checks: Checks) -> None:
    """Fills in the stages' fields from the run's, once those are settled."""
    for index, stage in enumerate(asked.stages):
        at = f"fine_tune.stages[{index}]"
        if not stage.HasField("batch_size"):
            stage.batch_size = asked.batch_size
        if not stage.HasField("learning_rate"):
            stage.learning_rate = asked.learning_rate
        if not stage.HasField("warmup_steps"):
            stage.warmup_steps = min(asked.warmup_steps, stage.steps)
        checks.within(f"{at}.batch_size", stage.batch_size, 1, MAX_BATCH)
        checks.within(f"{at}.learning_rate", stage.learning_rate, 1e-8, 0.1)
        checks.within(f"{at}.warmup_steps", stage.warmup_steps, 0, stage.steps)


def settle_keeping(asked: FineTune, checks: Checks) -> None:
    """What is kept, what is exported, and what is begun from."""
    checks.within("fine_tune.keep_every", asked.keep_every, 0, asked.steps)
    if asked.HasField("export"):
        known = asked.export in (EXPORTED_WEIGHTS_LAST, EXPORTED_WEIGHTS_BEST_BY_VALIDATION)
        checks.that(known, "fine_tune.export", f"must be the last or the best by validation, got {asked.export}")
    if asked.export == EXPORTED_WEIGHTS_BEST_BY_VALIDATION and asked.HasField("keep_best"):
        checks.that(asked.keep_best, "fine_tune.keep_best", "must not be false where the best is exported")
    if asked.HasField("continue_from"):
        check_continue_from(asked.continue_from, checks, "fine_tune.")


def keeps_best(recipe: FineTune) -> bool:
    """Whether the checkpoint of the lowest validation loss is kept."""
    return recipe.keep_best or recipe.export == EXPORTED_WEIGHTS_BEST_BY_VALIDATION


def plan_of(request: CreateTrainingRunRequest) -> Plan:
    """The plan of a settled request to fine-tune; one without stages, of whatever release, is one stage."""
    recipe, found = request.fine_tune, dict[str, int]()
    refs, fields = list[ArtifactRef](), list[str]()

    def number_of(ref: ArtifactRef, field: str) -> int:
        if ref.sha256 not in found:
            found[ref.sha256] = len(refs)
            refs.append(ref)
            fields.append(field)
        return found[ref.sha256]

    asked = list(recipe.stages) or [
        TrainingStage(
            steps=recipe.steps,
            batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
            warmup_steps=recipe.warmup_steps,
        )
    ]
    stages, first = list[Stage](), 0
    for index, stage in enumerate(asked):
        shares = dict[tuple[int, str], Fraction]()
        data = list(stage.data) or [StageData()]
        whole = sum(_share(each) for each in data)
        for place, each in enumerate(data):
            own = each.HasField("dataset")
            field = f"fine_tune.stages[{index}].data[{place}].dataset" if own else "dataset"
            dataset = number_of(each.dataset if own else request.dataset, field)
            subsets = [(part.subset, _share(part)) for part in each.subsets] or [("", Fraction(1))]
            of_all = sum(share for _, share in subsets)
            for name, share in subsets:  # a data set that is named twice is one, with both shares
                shares.setdefault((dataset, name), Fraction(0))
                shares[dataset, name] += _share(each) / whole * share / of_all
        sources = tuple(Source(dataset, name, share) for (dataset, name), share in shares.items())
        numbers = (index, stage.name, first, stage.steps, stage.batch_size, stage.learning_rate, stage.warmup_steps)
        stages.append(Stage(*numbers, sources))
        first += stage.steps
    return Plan(tuple(stages), tuple(refs), tuple(fields))


def main_dataset(asked: FineTune) -> ArtifactRef:
    """The data set of which the last stage draws most: what a request that names none of its own is about."""
    return max(asked.stages[-1].data, key=_share).dataset


def needs_dataset(asked: FineTune) -> bool:
    """Whether anything is drawn from the request's own data set."""
    return not asked.stages or any(
        not stage.data or any(not each.HasField("dataset") for each in stage.data) for stage in asked.stages
    )


def read_data(store: Store, plan: Plan) -> list[DatasetManifest]:
    """The data sets of a plan, verified, without the training clips that no stage draws.

    InvalidRequest DATASET_INVALID names the data set that is not one, a subset of which it has no clip to train on, and
    a song that one trains on and another validates with.
    """
    manifests = []
    for number, (ref, field) in enumerate(zip(plan.datasets, plan.fields, strict=True)):
        with in_field(field):
            manifest = read_manifest(store, ref)
            known = sorted({subset_of(row) for row in rows_of(manifest, TRAIN)})
            wanted = plan.subsets(number)
            for name in sorted(wanted - {"", *known}):
                text = f"{manifest.name} has no clip of the subset {name!r} to train on; it has "
                raise InvalidRequest(text + ", ".join(known[:_SHOWN]), reason=REASON)
        if "" not in wanted and set(known) - wanted:
            rows = [row for row in manifest.rows if row.split != TRAIN or subset_of(row) in wanted]
            del manifest.rows[:]
            manifest.rows.extend(rows)
        manifests.append(manifest)
    if (together := sum(len(manifest.rows) for manifest in manifests)) > MAX_ROWS:
        raise InvalidRequest(f"the data sets must have at most {MAX_ROWS} rows together, got {together}", reason=REASON)
    held_out = held_out_songs(manifests)
    for number, manifest in enumerate(manifests):
        with in_field(plan.fields[number]):
            check_held_out(held_out, manifest, f"by {manifest.name}")
    return manifests


def held_out_songs(manifests: Iterable[DatasetManifest]) -> dict[str, str]:
    """Songs of the validation splits and their near-duplicates, each with a data set that validates with it."""
    return {
        song: manifest.name
        for manifest in manifests
        for row in rows_of(manifest, VALIDATION)
        for song in (row.song_fingerprint, *row.source.related_fingerprints)
    }


def check_held_out(held_out: Mapping[str, str], trained_on: DatasetManifest, whom: str) -> None:
    """InvalidRequest DATASET_INVALID when a song that is held out is trained on `whom`."""
    if shared := sorted({row.song_fingerprint for row in rows_of(trained_on, TRAIN)} & held_out.keys()):
        text = f"song {shared[0]} is trained on {whom}, and it or a near-duplicate is in the validation split of "
        raise InvalidRequest(text + held_out[shared[0]], reason=REASON)


def _check_data(where: str, data: StageData, checks: Checks) -> None:
    if data.HasField("dataset"):
        checks.artifact(f"{where}.dataset", data.dataset, max_bytes=MAX_DOCUMENT_BYTES)
    if data.HasField("share"):
        checks.above(f"{where}.share", data.share, 0, MAX_SHARE)
    names = [part.subset for part in data.subsets]
    for at, part in checks.items(f"{where}.subsets", data.subsets, 0, MAX_DATA):
        if checks.name(f"{at}.subset", part.subset):
            checks.that(names.count(part.subset) == 1, f"{at}.subset", f"{part.subset!r} stands twice")
        if part.HasField("share"):
            checks.above(f"{at}.share", part.share, 0, MAX_SHARE)


def check_continue_from(asked: ContinueFrom, checks: Checks, recipe: str) -> None:
    """Its bounds, as a field of `recipe`, such as `fine_tune.`."""
    at = f"{recipe}continue_from"
    checks.text(f"{at}.run_id", asked.run_id, max_chars=MAX_RUN_ID_CHARS, blank=False)
    if asked.HasField("step"):
        checks.within(f"{at}.step", asked.step, 1, MAX_STEPS)


def _share(part: StageData | SubsetShare) -> Fraction:
    """Its weight, exactly; 1 where none is given."""
    return Fraction(part.share) if part.HasField("share") else Fraction(1)
