"""What a model was made of: its versions back to the first base, and the data sets of each, from the registry."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1.dataset_pb2 import DatasetManifest, DatasetRow
from luthier.training.v1.model_card_pb2 import ModelCard
from luthier_kit.licences import UNSTATED, licences_of, rule_of
from luthier_kit.registry import ModelVersion, resolve
from luthier_kit.rpc import TRAIN, NotFound
from luthier_kit.store import Store
from luthier_pipeline.export.columns import subset

MAX_BASES = 100
"""Versions that one is followed back by; a longer chain is a fault of the registry."""


@dataclass(frozen=True)
class Ancestor:
    """A version that the model goes back to, itself the first; `card` None where none tells what it heard."""

    version: ModelVersion
    card: ModelCard | None


@dataclass(frozen=True)
class UsedDataset:
    """A data set that a version heard: its name, `name@n` where it has a number, and the SHA-256 of its manifest."""

    name: str
    digest: str
    heard_by: str
    manifest: DatasetManifest

    @cached_property
    def rows(self) -> Sequence[DatasetRow]:
        """The clips that are trained on; those to validate and test with teach a model nothing."""
        return [row for row in self.manifest.rows if row.split == TRAIN]

    @property
    def folder(self) -> str:
        """A name for files of it."""
        return f"{self.name.replace('@', '-v')}-{self.digest[:8]}"


@dataclass(frozen=True)
class Amount:
    """Clips of a licence in a subset, and their length in seconds."""

    clips: int
    seconds: float
    songs: int


@dataclass
class Behind:
    """All that the registry tells of a model. `unknown`: what of its making nobody wrote down, one sentence each."""

    ancestors: list[Ancestor] = field(default_factory=list)
    datasets: list[UsedDataset] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @property
    def version(self) -> ModelVersion:
        """The model itself."""
        return self.ancestors[0].version

    @property
    def card(self) -> ModelCard | None:
        """What its training wrote down."""
        return self.ancestors[0].card

    def rows(self) -> Iterator[DatasetRow]:
        """Every clip to train on once, whichever data sets it is in."""
        seen = set[str]()
        for dataset in self.datasets:
            for row in dataset.rows:
                if row.audio.sha256 not in seen:
                    seen.add(row.audio.sha256)
                    yield row

    def base_licences(self) -> list[str]:
        """Licences that its bases state of themselves, sorted."""
        notes = (ancestor.version.notes.get("licences", ()) for ancestor in self.ancestors[1:])
        cards = (ancestor.card.base_licences for ancestor in self.ancestors if ancestor.card)
        return sorted({str(licence) for told in (*notes, *cards) for licence in told} - UNSTATED)


def behind(store: Store, model: str) -> Behind:
    """What a registered model goes back to. NotFound; errors of the store where a data set cannot be read."""
    found, waiting = Behind(), resolve(store, model)
    while len(found.ancestors) < MAX_BASES:
        card = store.get(ModelCard, waiting.card) if waiting.card else None
        found.ancestors.append(Ancestor(waiting, card))
        _add_datasets(store, found, waiting, card)
        base = card.base_digest if card else str(waiting.notes.get("base_digest", ""))
        if not base:
            if not card and not waiting.dataset:
                found.unknown.append(f"what {waiting.label} was trained on: it was brought, and has no card")
            break
        try:
            waiting = resolve(store, f"sha256:{base}")
        except NotFound:
            found.unknown.append(f"the base of {waiting.label}, sha256:{base}: the registry has it no longer")
            break
    return found


def _add_datasets(store: Store, found: Behind, version: ModelVersion, card: ModelCard | None) -> None:
    """The data sets of one version, those of its card first."""
    named = {dataset.digest: dataset.name for dataset in card.datasets} if card else {}
    if version.dataset:
        named.setdefault(version.dataset.sha256, version.dataset_name or "a data set")
    for each in version.notes.get("datasets", ()):
        if digest := each.get("sha256", ""):
            named.setdefault(digest, each.get("name", "") or "a data set")
    known = {dataset.digest for dataset in found.datasets}
    for digest, name in named.items():
        if digest in known:
            continue
        try:
            manifest = store.get(DatasetManifest, ArtifactRef(key=f"manifests/{digest}.json", sha256=digest))
        except NotFound:
            found.unknown.append(f"data set {name} of {version.label}: its manifest, sha256:{digest}, is gone")
            continue
        found.datasets.append(UsedDataset(name, digest, version.label, manifest))


def by_licence(rows: Iterable[DatasetRow]) -> dict[tuple[str, str], Amount]:
    """Of each licence and subset how much there is; a clip counts for each of its licences."""
    clips, seconds = defaultdict[tuple[str, str], int](int), defaultdict[tuple[str, str], float](float)
    songs = defaultdict[tuple[str, str], set[str]](set)
    for row in rows:
        for licence in licences_of(row):
            key = licence, subset(row)
            clips[key] += 1
            seconds[key] += row.facts.duration_s
            songs[key].add(row.song_fingerprint)
    ordered = sorted(clips, key=lambda key: (-clips[key], key))
    return {key: Amount(clips[key], seconds[key], len(songs[key])) for key in ordered}


def obligations(licence: str) -> list[str]:
    """What a licence asks for, in words."""
    rule = rule_of(licence)
    if rule is None:
        return ["not in the table of rules: a person has to read it"]
    said = ["name the makers"] if rule.attribution else []
    said += ["pass on under the same licence"] if rule.share_alike else []
    return [*said, *([rule.note] if rule.note else [])]
