"""Sweeps blobs that nothing reaches.

A blob is reached when a document names its digest: an action record, an entry of a series (models, data sets, runs,
corpora), a manifest that is reached itself, or a clip in curation. Documents of other buckets are not read.

Running work is safe: what is younger than the grace stays, and a blob that is written again is young again. Each age is
read just before the blob goes, and what is reached is looked at again before each batch. Generated audio is held by
what was made of it (an evaluation), not by the record of its making, which is void without it: asked again, it is made
again.
"""

import re
import time
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from luthier_kit.artifacts import Artifacts, Stored
from luthier_kit.artifacts.refs import is_blob_key
from luthier_kit.errors import NotFound

GENERATED = "generated/"
MAKING = "actions/generate/"
MANIFESTS = ("manifests/", "evaluations/")  # blobs that name other blobs
NO_DOCUMENTS = ("heartbeats/", "proofs/", "quarantine/", "tombstones/")
READS_AT_ONCE = 16
DELETES_AT_A_LOOK = 1000  # some seconds of deletes
DIGEST_CHARS = 64
_DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


@dataclass(frozen=True)
class Rule:
    """What may go: unreached blobs older than `grace_s`, generated audio older than `generated_s`; seconds."""

    grace_s: float
    generated_s: float


@dataclass
class Swept:
    """What went, by reason and kind: `{"unreferenced": {"mixes": [blobs, bytes]}}`."""

    kept: int = 0
    went: dict[str, dict[str, list[int]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(lambda: [0, 0]))
    )

    def count(self, reason: str, blob: Stored) -> None:
        row = self.went[reason][blob.key.split("/", 1)[0]]
        row[0] += 1
        row[1] += blob.size_bytes

    @property
    def blobs(self) -> int:
        return sum(row[0] for kinds in self.went.values() for row in kinds.values())

    @property
    def size_bytes(self) -> int:
        return sum(row[1] for kinds in self.went.values() for row in kinds.values())


class Reached:
    """Digests that documents name. Documents never change, so each is read once; `look` again reads the new ones."""

    def __init__(self, store: Artifacts, held: Iterable[str] = ()) -> None:
        self.store = store
        self.held = set(held)
        self.made: set[str] = set()
        """Digests that only records of generating name."""
        self._read: set[str] = set()

    def look(self) -> None:
        """Read every document that was not read yet."""
        keys = list(self.store.objects.keys(""))
        documents = [key for key in keys if not is_blob_key(key) and not key.startswith((*NO_DOCUMENTS, "."))]
        self._learn(documents)
        manifests = [key for key in keys if key.startswith(MANIFESTS)]
        while named := [key for key in manifests if key not in self._read and digest_of(key) in self.held]:
            self._learn(named)

    def _learn(self, keys: list[str]) -> None:
        new = [key for key in keys if key not in self._read]
        with ThreadPoolExecutor(READS_AT_ONCE) as pool:
            for key, found in zip(new, pool.map(self._digests, new), strict=True):
                (self.made if key.startswith(MAKING) else self.held).update(found)
        self._read.update(new)

    def _digests(self, key: str) -> set[str]:
        found: set[str] = set()
        rest = b""
        try:
            for chunk in self.store.objects.chunks(key):
                text = rest + chunk
                found.update(digests_in(text))
                rest = text[-DIGEST_CHARS - 1 :]
        except NotFound:  # swept or moved since it was listed
            return set()
        return found


def digests_in(text: bytes) -> list[str]:
    """Every digest that a document names."""
    return [match.decode() for match in _DIGEST.findall(text)]


def digest_of(key: str) -> str:
    """The digest in a blob's key."""
    return key.rsplit("/", 1)[1].split(".", 1)[0]


def sweep(store: Artifacts, rule: Rule, clips: Iterable[str] = (), *, dry_run: bool = False) -> Swept:
    """Delete what nothing reaches and what was taken down. `clips` are digests that curation holds."""
    blobs = [found for found in store.objects.stored("") if is_blob_key(found.key)]
    reached = Reached(store, clips)
    reached.look()
    down = {digest_of(key) for key in store.objects.keys("tombstones/")}
    doomed = [(reason, blob) for blob in blobs if (reason := _reason(blob, rule, reached, down))]
    swept = Swept(kept=len(blobs))
    for first in range(0, len(doomed), DELETES_AT_A_LOOK):
        batch = doomed[first : first + DELETES_AT_A_LOOK]
        for reason, blob in batch if dry_run else _deleted(store, rule, reached, down, [blob.key for _, blob in batch]):
            swept.count(reason, blob)
    swept.kept -= swept.blobs
    return swept


def _deleted(
    store: Artifacts, rule: Rule, reached: Reached, down: set[str], keys: list[str]
) -> list[tuple[str, Stored]]:
    """Look again, delete those of a batch that may still go, and say why each went."""
    reached.look()

    def deleted(key: str) -> tuple[str, Stored] | None:
        blob = store.objects.stat(key)
        reason = _reason(blob, rule, reached, down) if blob else ""
        if not blob or not reason:
            return None
        store.objects.delete(key)
        return reason, blob

    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        return [gone for gone in pool.map(deleted, keys) if gone]


def _reason(blob: Stored, rule: Rule, reached: Reached, down: set[str]) -> str:
    """Why a blob may go; empty when it stays."""
    digest, age_s = digest_of(blob.key), time.time() - blob.written_at
    if digest in down:
        return "taken down"
    if digest in reached.held:
        return ""
    if blob.key.startswith(GENERATED):
        return "expired" if age_s > rule.generated_s else ""
    return "unreferenced" if age_s > rule.grace_s and digest not in reached.made else ""
