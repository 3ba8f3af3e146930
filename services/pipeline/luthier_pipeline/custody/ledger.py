"""Every step that the store knows of, from digests to digests: action records, data sets, model versions, runs."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.artifacts import Artifacts
from luthier_kit.artifacts.record import MAX_RECORD_BYTES
from luthier_kit.artifacts.refs import is_blob_key
from luthier_kit.errors import FailedPrecondition, Internal, LuthierError, NotFound, Unavailable
from luthier_pipeline.custody.sweep import READS_AT_ONCE, digest_of, digests_in
from luthier_pipeline.resources import MAX_MANIFEST_BYTES

ACTION, DATASET, MODEL, RUN = "action", "dataset", "model", "run"
RUNS = ("runs/training-", "runs/evaluation-")


@dataclass(frozen=True)
class Step:
    """Something that was done. `name` is an action's key, `name@n` of a data set or model, or a run's id."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Song:
    """Where a MIDI file lay in a corpus, and the licence that its operator stated.

    `corpus` is `corpora/<collection>@n`, or the manifest's key where it was never announced.
    """

    path: str
    licence: str
    corpus: str


class Ledger:
    """All steps, read once: for an installation's operator, not for a request."""

    def __init__(self, store: Artifacts) -> None:
        self.store = store
        keys = list(store.objects.keys(""))
        self.blobs = {digest_of(key): key for key in keys if is_blob_key(key)}
        self._listed = list(self._songs([key for key in keys if key.startswith("manifests/")]))
        self.songs = dict(self._listed)
        actions = [key for key in keys if key.startswith("actions/")]
        with ThreadPoolExecutor(READS_AT_ONCE) as pool:
            self.steps = [step for step in pool.map(self._action, actions) if step]
        self.steps += [*self._datasets(), *self._models(), *self._runs()]
        self.makers: dict[str, list[Step]] = defaultdict(list)
        self.users: dict[str, list[Step]] = defaultdict(list)
        for step in self.steps:
            for digest in step.outputs:
                self.makers[digest].append(step)
            for digest in step.inputs:
                self.users[digest].append(step)

    def digest(self, name: str) -> str:
        """The digest that a key, a digest, `sha256:…`, `name@n` or a path in a corpus means.

        NotFound; FailedPrecondition NAME_AMBIGUOUS when it means several.
        """
        text = name.removeprefix("sha256:")
        if is_blob_key(text):
            text = digest_of(text)
        if text in self.blobs or text in self.makers or text in self.users:
            return text
        named = [(step.outputs[0], step.kind) for step in self.steps if step.name == name and step.outputs]
        songs = [(digest, song.corpus) for digest, song in self._listed if song.path == name]
        found: dict[str, list[str]] = defaultdict(list)
        for digest, place in (*named, *songs):
            found[digest].append(place)
        if not found:
            raise NotFound(f"nothing in the store is or names {name[:200]!r}", reason="ARTIFACT_NOT_FOUND")
        if len(found) > 1:
            which = "; ".join(f"{digest} ({', '.join(places)})" for digest, places in found.items())
            raise FailedPrecondition(f"{name[:200]!r} means several, give a digest: {which}", reason="NAME_AMBIGUOUS")
        return next(iter(found))

    def file(self, name: str) -> str:
        """As `digest`, of a file only. FailedPrecondition NOT_A_FILE names the files of a step or a model's version."""
        digest = name.removeprefix("sha256:")
        for step in self.steps:
            if step.name == name or (step.kind == MODEL and step.outputs[0] == digest):
                files = ", ".join(self.blobs[one] for one in step.outputs if one in self.blobs) or "none is stored"
                text = f"{name} is no file but {step.kind} {step.name}; its files: {files}"
                raise FailedPrecondition(text, reason="NOT_A_FILE")
        return self.digest(name)

    def _songs(self, manifests: list[str]) -> Iterator[tuple[str, Song]]:
        entries = [(f"corpora/{name}@{n}", entry.get("manifest")) for name, n, entry in self._entries("corpora/")]
        announced = {manifest["key"]: corpus for corpus, manifest in entries if manifest}
        for key in manifests:
            document = self._json(ArtifactRef(key=key, sha256=digest_of(key)))
            for row in document.get("files", ()):
                if row.get("sha256"):
                    yield row["sha256"], Song(row["path"], document.get("licence", ""), announced.get(key, key))

    def _json(self, ref: ArtifactRef) -> dict[str, Any]:
        """A JSON blob; empty when it is gone, taken down, corrupt or something else. Unavailable, Internal."""
        try:
            document = json.loads(self.store.read(ref, max_bytes=MAX_MANIFEST_BYTES))
        except (Unavailable, Internal):  # the store's trouble, not the document's
            raise
        except (LuthierError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}

    def _action(self, key: str) -> Step | None:
        data = self.store.objects.get(key, MAX_RECORD_BYTES)
        try:
            record = json.loads(data or b"")
            outputs = tuple(blob["sha256"] for blob in record["blobs"])
            names = ("stage", "version", "parameters", "seed", "tools")
            facts = {name: record[name] for name in names} | {"licences": record["lineage"].get("licences", [])}
            return Step(ACTION, key, tuple(record["inputs"]), outputs, facts)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None  # a void record

    def _datasets(self) -> Iterator[Step]:
        for name, number, entry in self._entries("datasets/"):
            manifest = entry["manifest"]
            rows = self._json(ArtifactRef(key=manifest["key"], sha256=manifest["sha256"])).get("rows", [])
            clips = {row["audio"]["sha256"]: _clip(row) for row in rows}
            metadata = [split["metadata"]["sha256"] for split in entry["splits"] if split.get("metadata")]
            outputs = (manifest["sha256"], *metadata)
            yield Step(DATASET, f"{name}@{number}", tuple(clips), outputs, {"clips": clips})

    def _models(self) -> Iterator[Step]:
        for name, number, entry in self._entries("models/"):
            notes = entry["notes"]
            text = [file["artifact"]["sha256"] for file in entry["text_encoder"]]
            dataset = entry["dataset"]["sha256"] if entry["dataset"] else ""
            inputs = (dataset, notes.get("base_digest", ""), entry["configuration"]["sha256"], *text)
            facts = {key: entry[key] for key in ("dataset_name", "evaluation", "created_by", "reason")}
            facts |= {"licences": notes.get("licences", []), "run": notes.get("run", "")}
            outputs = (entry["digest"], entry["checkpoint"]["sha256"])
            yield Step(MODEL, f"{name}@{number}", tuple(filter(None, inputs)), outputs, facts)

    def _runs(self) -> Iterator[Step]:
        for prefix in RUNS:
            for run_id in self.store.names(prefix):
                newest = self.store.latest(f"runs/{run_id}")
                document = newest[1] if newest else {}
                inputs = dict.fromkeys(digests_in(json.dumps(document.get("request", {})).encode()))
                outputs = dict.fromkeys(digests_in(json.dumps(document.get("result", {})).encode()))
                made = tuple(digest for digest in outputs if digest not in inputs)
                yield Step(RUN, run_id, tuple(inputs), made, {"state": document.get("state", "")})

    def _entries(self, root: str) -> Iterator[tuple[str, int, dict[str, Any]]]:
        for name in self.store.names(root):
            for number, entry in self.store.series(root + name):
                yield name, number, entry


def _clip(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a data set says of a clip: its prompts, its MIDI file and the records behind it."""
    return {
        "clip_id": row["clip_id"],
        "prompts": row["prompts"],
        "midi_sha256": row.get("source", {}).get("midi_sha256", ""),
        "licences": row.get("licences", []),
        "records": [text for text in row.get("lineage", {}).get("inputs", []) if text.startswith("actions/")],
    }
