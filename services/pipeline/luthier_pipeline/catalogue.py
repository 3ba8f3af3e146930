"""The series `corpora/<collection>`: what each ingest of a collection came to; shards find their manifest here.

An entry names its run. The first entry of a run that is DONE holds for all its shards, so that an ingest which was
repeated cannot split them.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import ParseDict

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.artifacts import Artifacts
from luthier_kit.errors import DeadlineExceeded, FailedPrecondition, LuthierError, Unavailable
from luthier_pipeline.board import LONG_DEAD_S, silent_s
from luthier_pipeline.corpus import Corpus
from luthier_pipeline.diary import DONE, FAILED, INGEST, RUNNING, series_of
from luthier_pipeline.resources import MAX_MANIFEST_BYTES, plain

ROOT = "corpora/"
LOOK_EVERY_S = 2.0
ANOTHER_TRY_S = 420.0  # how long a failed ingest has to begin anew: the Job's next Pod waits 10, 20, 40 … 360 s


@dataclass(frozen=True)
class Written:
    """A corpus that ingest has written. `sheet` is the sheet of tags that lay beside it."""

    run: str
    corpus: Corpus
    manifest: ArtifactRef
    sheet: ArtifactRef | None = None


def publish(store: Artifacts, collection: str, run: str, found: Corpus, sheet: ArtifactRef | None) -> ArtifactRef:
    """Writes the manifest and says where it is."""
    manifest = store.put_bytes("manifests", found.to_json(), "json", "application/json")
    document = {
        "state": DONE,
        "run": run,
        "at": time.time(),
        "manifest": plain(manifest),
        "sheet": plain(sheet) if sheet else None,
        **found.counts,
    }
    store.append(ROOT + collection, document)
    return manifest


def publish_failure(store: Artifacts, collection: str, run: str, error: LuthierError) -> None:
    """Says that there is no corpus, so that nobody waits for it. `permanent`: another try would end the same way."""
    document = {
        "state": FAILED,
        "run": run,
        "at": time.time(),
        "reason": error.reason,
        "message": str(error),
        "permanent": error.permanent,
    }
    store.append(ROOT + collection, document)


def wait_for(store: Artifacts, collection: str, run: str, wait_s: float, say: Callable[[str], None]) -> Written:
    """The corpus of a run (any run's newest where none is named), waiting until ingest has written it.

    Raises FailedPrecondition CORPUS_FAILED when ingest could not do it, DeadlineExceeded when `wait_s` is over. `say`
    gets a line now and then.
    """
    give_up, told = time.monotonic() + wait_s, ""
    entries: list[dict[str, Any]] = []
    while True:
        try:
            entries += [document for _, document in store.series(ROOT + collection, after=len(entries))]
            entry, state = _look(store, collection, run, entries)
        except Unavailable as error:
            entry, state = None, f"the store does not answer ({error.reason})"
        if entry:
            return _read(store, entry)
        if time.monotonic() >= give_up:
            text = f"corpora/{collection}: no manifest after {wait_s:g} s (--wait): {state}"
            raise DeadlineExceeded(text, reason="CORPUS_MISSING")
        if state != told:
            say(f"waiting for corpora/{collection}: {state}")
            told = state
        time.sleep(min(LOOK_EVERY_S, max(0.0, give_up - time.monotonic())))


def _look(
    store: Artifacts, collection: str, run: str, entries: list[dict[str, Any]]
) -> tuple[dict[str, Any] | None, str]:
    """The entry to take, or why there is none yet."""
    if not run and entries:
        run = entries[-1]["run"]
    own = [document for document in entries if document["run"] == run]
    if done := next((document for document in own if document["state"] == DONE), None):
        return done, ""
    going = store.latest(series_of(collection, run, INGEST)) if run else None
    if going and going[1]["state"] == RUNNING:
        if (quiet_s := silent_s(going[1], time.time())) > LONG_DEAD_S:
            text = f"corpora/{collection} was not written: its ingest has said nothing for {quiet_s / 3600:.1f} h"
            raise FailedPrecondition(text, reason="CORPUS_FAILED")
        quiet = f", silent for {quiet_s:.0f} s" if quiet_s else ""
        return None, f"{going[1].get('inspected', 0)} of {going[1].get('files', '?')} files inspected{quiet}"
    if own and (own[-1]["permanent"] or time.time() - own[-1]["at"] > ANOTHER_TRY_S):
        text = f"corpora/{collection} could not be written: {own[-1]['reason']}: {own[-1]['message']}"
        raise FailedPrecondition(text, reason="CORPUS_FAILED")
    return None, f"ingest failed, it may try again: {own[-1]['reason']}" if own else "ingest has not begun"


def _read(store: Artifacts, entry: dict[str, Any]) -> Written:
    manifest = ParseDict(entry["manifest"], ArtifactRef())
    corpus = Corpus.from_json(store.read(manifest, max_bytes=MAX_MANIFEST_BYTES))
    sheet = ParseDict(entry["sheet"], ArtifactRef()) if entry["sheet"] else None
    return Written(entry["run"], corpus, manifest, sheet)
