"""lineage: everything behind a file, by the steps that the store knows of, from digests to digests.

A step is an action, a frozen data set, a model version or a run. Records and runs of every service are read as JSON,
whatever their messages hold; the same names served Luthier 0.1.
"""

import hashlib
import json as json_text
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1.dataset_pb2 import DatasetManifest, DatasetRow, DatasetVersion
from luthier.pipeline.v1.pipeline_pb2 import CorpusManifest
from luthier.store.v1.store_pb2 import ActionRecord
from luthier_kit.registry import model_names, versions
from luthier_kit.rpc import FailedPrecondition, Internal, LuthierError, NotFound, Unavailable
from luthier_kit.store import MAX_ENTRY_BYTES, MAX_RECORD_BYTES, Store, is_blob_key
from luthier_pipeline.corpus import ROOT as CORPORA
from luthier_pipeline.corpus import ingest_series
from luthier_pipeline.options import Json, begin

M = TypeVar("M", bound=Message)
ACTION, DATASET, MODEL, RUN = "action", "dataset", "model", "run"
MIDI, RECORDING, BLOB, TEXT = "midi", "recording", "blob", "text"
RUNS: Final = ("runs/training-", "runs/evaluation-")
READS_AT_ONCE: Final = 16
SHOWN: Final = 20
"""Branches of one node that the printed tree shows; the JSON has all."""
_DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


def digests_in(text: bytes) -> list[str]:
    """Every SHA-256 that a document names, as hexadecimal digits."""
    return [match.decode() for match in _DIGEST.findall(text)]


def digest_in_key(key: str) -> str:
    """The digest in a blob's key."""
    return key.rsplit("/", 1)[1].split(".", 1)[0]


@dataclass(frozen=True)
class Step:
    """Something that was done; what does not apply to its kind is empty.

    `name` is an action's key, `name@n` of a data set or model, or a run's id. `inputs` and `outputs` are digests.
    `clips` are the rows of a data set by the digest of their audio. `beneath` are what a model version with an adapter
    has of others: the checkpoint and the adapters that its own changes.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    stage: str = ""
    version: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    tools: Mapping[str, str] = field(default_factory=dict)
    dataset_name: str = ""
    evaluation: str = ""
    created_by: str = ""
    reason: str = ""
    licences: tuple[str, ...] = ()
    run: str = ""
    state: str = ""
    clips: Mapping[str, DatasetRow] = field(default_factory=dict)
    beneath: tuple[str, ...] = ()


@dataclass(frozen=True)
class Song:
    """Where a MIDI file or a recording lay in a corpus, and its licence: its own where it states one, else the one that
    the corpus's operator stated.

    `corpus` is `corpora/<collection>@n`, or the manifest's key where it was never announced.
    """

    path: str
    licence: str
    corpus: str
    is_recording: bool = False


class LineageIndex:
    """All steps of a store, read once: for an installation's operator, not for a request."""

    def __init__(self, store: Store) -> None:
        self.store = store
        keys = list(store.objects.keys(""))
        self.blobs = {digest_in_key(key): key for key in keys if is_blob_key(key)}
        self._listed = list(self._songs([key for key in keys if key.startswith("manifests/")]))
        self.songs = dict(self._listed)
        with ThreadPoolExecutor(READS_AT_ONCE) as pool:
            found = pool.map(self._action, [key for key in keys if key.startswith("actions/")])
            self.steps = [step for step in found if step]
        self.steps += [*self._datasets(), *self._models(), *self._runs(keys)]
        self.makers: dict[str, list[Step]] = defaultdict(list)
        self.users: dict[str, list[Step]] = defaultdict(list)
        for step in self.steps:
            for digest in step.outputs:
                self.makers[digest].append(step)
            for digest in step.inputs:
                self.users[digest].append(step)

    def resolve(self, name: str) -> str:
        """The digest that a key, a digest, `sha256:…`, `name@n` or a path in a corpus means.

        NotFound; FailedPrecondition NAME_AMBIGUOUS when it means several.
        """
        text = name.removeprefix("sha256:")
        if is_blob_key(text):
            text = digest_in_key(text)
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

    def resolve_file(self, name: str) -> str:
        """As `resolve`, of a file only. FailedPrecondition NOT_A_FILE names the files of a step or a model version."""
        digest = name.removeprefix("sha256:")
        for step in self.steps:
            if step.name == name or (step.kind == MODEL and step.outputs[0] == digest):
                files = ", ".join(self.blobs[one] for one in step.outputs if one in self.blobs) or "none is stored"
                text = f"{name} is no file but {step.kind} {step.name}; its files: {files}"
                raise FailedPrecondition(text, reason="NOT_A_FILE")
        return self.resolve(name)

    def _songs(self, manifests: list[str]) -> Iterator[tuple[str, Song]]:
        announced: dict[str, str] = {}
        for name in self.store.names(CORPORA):
            for number, outcome in ingest_series(self.store, name).entries():
                announced[outcome.corpus.manifest.key] = f"{CORPORA}{name}@{number}"
        for key in manifests:
            manifest = self._document(CorpusManifest, ArtifactRef(key=key, sha256=digest_in_key(key)))
            for file in manifest.files:
                if file.sha256:
                    licence = file.recording.licence or manifest.licence
                    song = Song(file.path, licence, announced.get(key, key), file.HasField("recording"))
                    yield file.sha256, song

    def _document(self, kind: type[M], ref: ArtifactRef) -> M:
        """A stored document; empty when it is gone, taken down, corrupt or something else. Unavailable, Internal."""
        try:
            return self.store.get(kind, ref)
        except (Unavailable, Internal):  # the store's trouble, not the document's
            raise
        except LuthierError:
            return kind()

    def _action(self, key: str) -> Step | None:
        """What a record says of its action, None for a void record."""
        data = self.store.objects.get(key, MAX_RECORD_BYTES)
        try:
            value = json_text.loads(data or b"")
            known = {"stage": value["stage"], "lineage": value["lineage"], "blobs": value.get("blobs", [])}
            record = ParseDict(known, ActionRecord(), ignore_unknown_fields=True)
            parameters = json_text.loads(record.lineage.parameters_json or "{}")
        except (ValueError, KeyError, TypeError, AttributeError, ParseError):
            return None
        tools = dict(record.lineage.versions)
        return Step(
            ACTION,
            key,
            tuple(record.lineage.inputs),
            tuple(blob.sha256 for blob in record.blobs),
            stage=record.stage,
            version=tools.pop(record.stage, ""),
            parameters=parameters,
            seed=record.lineage.seed,
            tools=tools,
            licences=tuple(record.lineage.licences),
        )

    def _datasets(self) -> Iterator[Step]:
        for name in self.store.names("datasets/"):
            for number, version in self.store.series(DatasetVersion, f"datasets/{name}").entries():
                clips = {row.audio.sha256: row for row in self._document(DatasetManifest, version.manifest).rows}
                metadata = [split.metadata.sha256 for split in version.splits if split.metadata.sha256]
                outputs = (version.manifest.sha256, *metadata)
                yield Step(DATASET, f"{name}@{number}", tuple(clips), outputs, clips=clips)

    def _models(self) -> Iterator[Step]:
        for version in (version for name in model_names(self.store) for version in versions(self.store, name)):
            dataset = version.dataset.sha256 if version.dataset else ""
            datasets = [each.get("sha256", "") for each in version.notes.get("datasets", ())]  # of several, all of them
            text_encoder = [ref.sha256 for _, ref in version.text_encoder]
            *beneath, own = [version.checkpoint.sha256, *(adapter.artifact.sha256 for adapter in version.adapters)]
            inputs = (
                dataset,
                *datasets,
                version.notes.get("base_digest", ""),
                version.configuration.sha256,
                *text_encoder,
                *beneath,
            )
            yield Step(
                MODEL,
                version.label,
                tuple(dict.fromkeys(filter(None, inputs))),
                (version.digest, own, *([version.card.sha256] if version.card else [])),
                dataset_name=version.dataset_name,
                evaluation=version.evaluation,
                created_by=version.created_by,
                reason=version.reason,
                licences=tuple(version.notes.get("licences", ())),
                run=version.notes.get("run", ""),
                beneath=tuple(beneath),
            )

    def _runs(self, keys: list[str]) -> Iterator[Step]:
        for key in newest_entries(keys):
            data = self.store.objects.get(key, MAX_ENTRY_BYTES)
            try:
                run = json_text.loads(data or b"")["document"]
                inputs = dict.fromkeys(digests_in(json_text.dumps(run.get("request")).encode()))
                samples = [each.get("audio") for each in (run.get("progress") or {}).get("samples", ())]
                outputs = dict.fromkeys(digests_in(json_text.dumps([run.get("result"), samples]).encode()))
                state = run.get("state", "").removeprefix("RUN_STATE_")
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            made = tuple(digest for digest in outputs if digest not in inputs)
            yield Step(RUN, key.rpartition("/")[0].removeprefix("runs/"), tuple(inputs), made, state=state)


def newest_entries(keys: Iterable[str]) -> list[str]:
    """Of the keys of a store, the newest entry of each training and evaluation: all that is known of it."""
    newest: dict[str, int] = {}
    for key in keys:
        series, _, entry = key.rpartition("/")
        number = entry.removesuffix(".json")
        if key.startswith(RUNS) and number.isdecimal():
            newest[series] = max(newest.get(series, 0), int(number))
    return [f"{series}/{number}.json" for series, number in newest.items()]


@dataclass(frozen=True)
class File:
    """Bytes of a lineage: a MIDI file, a recording, another blob, or a text that was only digested.

    `behind` are the names of the steps that made it. `clip` is what a data set says of it.
    """

    digest: str
    kind: str
    key: str
    behind: tuple[str, ...]
    song: Song | None = None
    clip: DatasetRow | None = None

    @property
    def licences(self) -> list[str]:
        if self.clip:
            return list(self.clip.licences)
        return [self.song.licence] if self.song and self.song.licence else []


@dataclass
class Lineage:
    """Everything behind a digest: files by digest and steps by name, each with the names that it came from."""

    root: str
    nodes: dict[str, File | Step] = field(default_factory=dict)

    def document(self) -> Mapping[str, object]:
        """The graph as JSON, and what a person asks for first."""
        files = [node for node in self.nodes.values() if isinstance(node, File)]
        steps = [node for node in self.nodes.values() if isinstance(node, Step)]
        prompts = [prompt for node in self.nodes.values() for prompt in _prompts(node)]
        return {
            "sha256": self.root,
            "midi": [_song_document(file) for file in files if file.kind == MIDI],
            "recordings": [_song_document(file) for file in files if file.kind == RECORDING],
            "tools": {name: version for step in steps for name, version in step.tools.items()},
            "prompts": list(dict.fromkeys(prompts)),
            "datasets": [step.name for step in steps if step.kind == DATASET],
            "models": [step.name for step in steps if step.kind == MODEL],
            "licences": sorted({licence for node in self.nodes.values() for licence in node.licences}),
            "nodes": [{"name": name, **_node_document(node)} for name, node in self.nodes.items()],
        }

    def tree(self) -> str:
        """For people: each node once with its branches, later ones as `…`."""
        return "\n".join(self._lines(self.root, "", set()))

    def _lines(self, name: str, indent: str, shown: set[str]) -> Iterator[str]:
        node = self.nodes[name]
        branches = [other for other in _behind(node) if self.nodes[other].kind != TEXT]
        again = name in shown and bool(branches)
        yield f"{indent}{_title(node)}{'  …' if again else ''}"
        if again:
            return
        shown.add(name)
        for branch in branches[:SHOWN]:
            yield from self._lines(branch, indent + "  ", shown)
        if len(branches) > SHOWN:
            yield f"{indent}  and {len(branches) - SHOWN} more (--json has all)"


def lineage_of(index: LineageIndex, digest: str) -> Lineage:
    """Everything behind a digest."""
    found, waiting = Lineage(digest), [digest]
    clips: dict[str, DatasetRow] = {}  # what data sets on the way say of them
    while waiting:
        if (name := waiting.pop()) in found.nodes:
            continue
        makers, clip = index.makers.get(name, []), clips.get(name)
        key, song = index.blobs.get(name, ""), index.songs.get(name)
        origin = clip.source.midi_sha256 if clip and not makers else ""
        kind = BLOB if key or makers else TEXT
        if song or key.startswith("midi/"):
            kind = RECORDING if song and song.is_recording else MIDI
        behind = tuple(step.name for step in makers) or tuple(filter(None, [origin]))
        found.nodes[name] = File(name, kind, key, behind, song, clip)
        waiting += [origin] if origin else []
        for step in (step for step in makers if step.name not in found.nodes):
            clips |= step.clips
            found.nodes[step.name] = step
            waiting += step.inputs
    return found


def _behind(node: File | Step) -> tuple[str, ...]:
    return node.behind if isinstance(node, File) else node.inputs


def _prompts(node: File | Step) -> list[str]:
    if isinstance(node, File):
        return list(node.clip.prompts) if node.clip else []
    prompt = node.parameters.get("prompt")
    return [prompt] if prompt else []


def _song_document(file: File) -> Mapping[str, str]:
    song = file.song or Song("", "", "")
    return {"sha256": file.digest, "path": song.path, "licence": song.licence}


def _node_document(node: File | Step) -> Mapping[str, object]:
    """A node as JSON: what is empty is left out, but a file's digest and key."""
    facts: dict[str, object]
    if isinstance(node, File):
        inputs = node.clip.lineage.inputs if node.clip else ()
        facts = {
            "path": node.song.path if node.song else "",
            "licence": node.song.licence if node.song else "",
            "clip_id": node.clip.clip_id if node.clip else "",
            "records": [name for name in inputs if name.startswith("actions/")],
        }
        always: dict[str, object] = {"kind": node.kind, "sha256": node.digest, "key": node.key}
    else:
        facts = {
            "stage": node.stage,
            "version": node.version,
            "parameters": node.parameters,
            "seed": node.seed,
            "tools": node.tools,
            "dataset_name": node.dataset_name,
            "evaluation": node.evaluation,
            "created_by": node.created_by,
            "reason": node.reason,
            "run": node.run,
            "state": node.state,
        }
        always = {"kind": node.kind}
    facts |= {"prompts": _prompts(node), "licences": list(node.licences)}
    return {
        **always,
        **{name: value for name, value in facts.items() if value not in ("", None, [], {})},
        "from": list(_behind(node)),
    }


def _title(node: File | Step) -> str:
    """One line: what it is, and the facts by which a person knows it."""
    if isinstance(node, File):
        song = node.song or Song("", "", "")
        parts = [node.key or f"sha256:{node.digest}", song.path, song.licence]
    elif node.kind == ACTION:
        tools = ", ".join(f"{tool} {version[:16]}" for tool, version in sorted(node.tools.items()))
        parts = [node.stage, f"seed {node.seed}" if node.seed else "", tools]
    else:
        parts = [node.kind, node.name, node.reason]
    prompts = [f'"{prompt[:80]}"' for prompt in _prompts(node)[:1]]
    return "  ".join(part for part in (*parts, *prompts) if part)


def digest_of_ref(ref: str, known: Callable[[str], str]) -> str:
    """The digest of a file on this machine, else of what `known` resolves in the store."""
    path = Path(ref)
    if not path.is_file():
        return known(ref)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    try:
        return known(digest)
    except NotFound:
        raise NotFound(f"the store knows no file with the bytes of {ref}", reason="ARTIFACT_NOT_FOUND") from None


def lineage(
    ctx: typer.Context,
    ref: Annotated[
        str,
        typer.Argument(metavar="REF|FILE", help="Key, sha256, name@n, path in a corpus, or a file on this machine."),
    ],
    json: Json = False,
) -> None:
    """Walk back from a file to every MIDI file, recording, plugin, prompt, data set and model behind it."""
    context = begin(ctx, json)
    index = LineageIndex(context.clients.store)
    found = lineage_of(index, digest_of_ref(ref, index.resolve))
    context.answer(found.document(), found.tree())
