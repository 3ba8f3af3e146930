"""Reads what the processes of runs publish (diary.py) and sums it: one document for each run of a collection."""

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from luthier_kit.artifacts import Artifacts
from luthier_pipeline.diary import DONE, FAILED, INGEST, INTERRUPTED, ROOT, RUNNING

Document = dict[str, Any]
SILENT_S = 60.0
"""A running part that says nothing for so long is silent: dead, or cut off from the store."""
LONG_DEAD_S = 3600.0
WAITING = "WAITING"


@dataclass(frozen=True)
class Run:
    """All that is known of one run: its ingest, if it has one, and the shards that have reported."""

    collection: str
    name: str
    ingest: Document | None = None
    shards: list[Document] = field(default_factory=list)

    @property
    def parts(self) -> list[Document]:
        """Every part that has reported."""
        return [*([self.ingest] if self.ingest else []), *self.shards]

    @property
    def at(self) -> float:
        """When anything was last heard of it, seconds since the epoch."""
        return max(float(part["at"]) for part in self.parts)

    @property
    def songs(self) -> int:
        """Songs of the whole corpus; 0 until it is known."""
        return max([int(part.get("corpus_songs", 0)) for part in self.parts])

    @property
    def unclaimed(self) -> int:
        """Songs of shards that have not begun."""
        return max(0, self.songs - self.total("songs"))

    @property
    def count(self) -> int:
        """Shards of the run; 0 until one has begun."""
        return max([int(shard["shards"]) for shard in self.shards], default=0)

    def total(self, number: str) -> int:
        """A number summed over all shards."""
        return sum(int(shard.get(number, 0)) for shard in self.shards)

    @property
    def state(self) -> str:
        """RUNNING while any part runs; WAITING for shards that have not begun; else how it ended."""
        states = {str(part["state"]) for part in self.parts}
        if RUNNING in states:
            return RUNNING
        for state in (FAILED, INTERRUPTED):
            if state in states:
                return state
        return DONE if self.shards and len(self.shards) >= self.count else WAITING

    @property
    def eta_s(self) -> float | None:
        """Seconds until the slowest shard that runs is done; None while unknown."""
        known = [
            shard["eta_s"] for shard in self.shards if shard["state"] == RUNNING and shard.get("eta_s") is not None
        ]
        return max(known, default=None)

    def document(self) -> Document:
        """Plain JSON, with every part."""
        sums = {name: self.total(name) for name in ("rendered", "failed", "in_flight", "clips", "need_render")}
        failures = {(f["path"], f["stage"]): f for part in self.parts for f in part.get("failures", [])}
        return {
            "run": self.name,
            "state": self.state,
            "at": self.at,
            "songs": self.songs,
            "waiting": self.total("waiting") + self.unclaimed,
            **sums,
            "eta_s": self.eta_s,
            "shard_count": self.count,
            "ingest": self.ingest,
            "shards": self.shards,
            "failures": list(failures.values()),
        }


def silent_s(part: Document, now: float) -> float:
    """Seconds for which a part that runs has said nothing, 0 while it talks."""
    quiet = now - float(part["at"])
    return quiet if part["state"] == RUNNING and quiet > SILENT_S else 0.0


class Board:
    """Reads all runs; again and again for little: one listing a collection, one read for each entry that is new."""

    def __init__(self, store: Artifacts) -> None:
        self.store = store
        self._known: dict[str, tuple[int, Document]] = {}

    def runs(self, collection: str = "") -> list[Run]:
        """Every run (of one collection), the one last heard of first. Raises Unavailable when the store is down."""
        folder = ROOT.rpartition("/")[0]
        names = [ROOT + collection] if collection else [f"{folder}/{name}" for name in self.store.names(ROOT)]
        found = [run for name in names for run in self._of(name)]
        return sorted(found, key=lambda run: run.at, reverse=True)

    def _of(self, folder: str) -> Iterable[Run]:
        parts: dict[str, list[Document]] = defaultdict(list)
        newest = self._newest(folder)
        for series in [known for known in self._known if known.startswith(f"{folder}/") and known not in newest]:
            del self._known[series]  # swept
        for series, number in newest.items():
            if document := self._read(series, number):
                parts[document["run"]].append(document)
        for name, documents in parts.items():
            ingest = next((part for part in documents if part["part"] == INGEST), None)
            shards = sorted((part for part in documents if part["part"] != INGEST), key=lambda part: part["at"])
            split = [part for part in shards if part["shards"] == shards[-1]["shards"]]  # as it was split last
            yield Run(documents[0]["collection"], name, ingest, sorted(split, key=lambda part: part["shard"]))

    def _newest(self, folder: str) -> dict[str, int]:
        """The number of the newest entry of each series below a folder `runs/pipeline-<collection>`."""
        newest: dict[str, int] = {}
        for key in self.store.objects.keys(f"{folder}/"):
            series, _, name = key.rpartition("/")
            if series.count("/") == folder.count("/") + 2 and (number := name.removesuffix(".json")).isdecimal():
                newest[series] = max(newest.get(series, 0), int(number))
        return newest

    def _read(self, series: str, number: int) -> Document | None:
        known = self._known.get(series)
        if known is None or known[0] != number:
            document = self.store.entry(series, number)
            known = (number, document) if document is not None else self.store.latest(series)  # swept since the listing
            if known:
                self._known[series] = known
        return known[1] if known else None


def work_waiting(run: Run, forget_s: float, now: float | None = None) -> int:
    """Songs and files of a run that still need a render worker.

    A part that is interrupted or failed asks for nothing until its Job starts it again. A part that is silent still
    counts, because its Job will replace it, but not beyond `forget_s`. Songs of shards that have not begun count where
    shards are sure to come: the run was submitted, or other shards of it are alive.
    """
    now = time.time() if now is None else now
    live = [part for part in run.parts if part["state"] == RUNNING and now - part["at"] < forget_s]
    waiting = sum(int(part.get("need_render", 0)) for part in live)
    to_come = run.ingest and run.ingest["state"] == DONE and run.ingest.get("submitted") and now - run.at < forget_s
    if to_come or any(part["part"] != INGEST for part in live):
        waiting += run.unclaimed
    return waiting


def sweep(store: Artifacts, collection: str, keep: str) -> None:
    """Deletes what a collection's runs published that ended or fell silent long ago; `keep` is the one that begins."""
    for run in Board(store).runs(collection):
        if run.name != keep and all(p["state"] != RUNNING or silent_s(p, time.time()) > LONG_DEAD_S for p in run.parts):
            for key in list(store.objects.keys(f"{ROOT}{collection}/{run.name}/")):
                store.objects.delete(key)
