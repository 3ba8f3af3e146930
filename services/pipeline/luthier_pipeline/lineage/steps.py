"""Steps: what was done, as the store's documents tell it. A step goes from digests to digests.

A step is an action, a frozen data set, a model version or a run. Records and runs of every service are read as JSON,
whatever their messages hold; the same names served Luthier 0.1.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.curation.v1.dataset_pb2 import DatasetManifest, DatasetRow, DatasetVersion
from luthier.pipeline.v1.pipeline_pb2 import CorpusManifest
from luthier.store.v1.store_pb2 import ActionRecord
from luthier_kit.registry import resolve
from luthier_kit.rpc import Internal, LuthierError, NotFound, Unavailable
from luthier_kit.store import MAX_ENTRY_BYTES, MAX_RECORD_BYTES, Store

M = TypeVar("M", bound=Message)
ACTION, DATASET, MODEL, RUN = "action", "dataset", "model", "run"
RUNS: Final = ("runs/training-", "runs/evaluation-")
READS_AT_ONCE: Final = 16
RENDERING: Final = frozenset({"render", "render-stem"})
"""Stages whose records say what played each of their files."""
PLUGIN, SOUNDFONT, OTHER_TOOL = "vst3", "soundfont", ""
"""What played, as rendering's records name it; of records that do not say it, any tool with a digest is the last."""
_DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_HEX = re.compile(r"[0-9a-f]{64}")


def digests_in(text: bytes) -> list[str]:
    """Every SHA-256 that a document names, as hexadecimal digits."""
    return [match.decode() for match in _DIGEST.findall(text)]


def digest_in_key(key: str) -> str:
    """The digest in a blob's key."""
    return key.rsplit("/", 1)[1].split(".", 1)[0]


def is_digest(text: str) -> bool:
    """Whether a text is a SHA-256 as hexadecimal digits."""
    return bool(_HEX.fullmatch(text))


@dataclass(frozen=True)
class Sound:
    """What played a file: `kind` is PLUGIN, SOUNDFONT or OTHER_TOOL, `name` a plugin's or a SoundFont file's, `digest`
    its SHA-256; `output` is the digest of the file that it is in."""

    kind: str
    name: str
    digest: str
    output: str


@dataclass(frozen=True)
class Step:
    """Something that was done; what does not apply to its kind is empty.

    `name` is an action's key, `name@n` of a data set or model, or a run's id. `inputs` and `outputs` are digests.
    `clips` are the rows of a data set by the digest of their audio. `beneath` are what a model version with an adapter
    has of others: the checkpoint and the adapters that its own changes. `sounds` are what played the files of a
    rendering.
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
    sounds: tuple[Sound, ...] = ()


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
    fingerprint: str = ""


def read_document(store: Store, kind: type[M], ref: ArtifactRef) -> M:
    """A stored document; empty when it is gone, taken down, corrupt or something else. Unavailable, Internal."""
    try:
        return store.get(kind, ref)
    except (Unavailable, Internal):  # the store's trouble, not the document's
        raise
    except LuthierError:
        return kind()


def read_manifest(store: Store, key: str) -> CorpusManifest:
    """The corpus manifest of a key; one without files where it is another document, or none."""
    return read_document(store, CorpusManifest, ArtifactRef(key=key, sha256=digest_in_key(key)))


def read_action(store: Store, key: str) -> Step | None:
    """What a record says of its action, None for a void record."""
    data = store.objects.get(key, MAX_RECORD_BYTES)
    try:
        value = json.loads(data or b"")
        known = {"stage": value["stage"], "lineage": value["lineage"], "blobs": value.get("blobs", [])}
        record = ParseDict(known, ActionRecord(), ignore_unknown_fields=True)
        parameters = json.loads(record.lineage.parameters_json or "{}")
        tools = dict(record.lineage.versions)
        version = tools.pop(record.stage, "")
        inputs = tuple(record.lineage.inputs)
        outputs = tuple(
            blob.sha256 for blob in record.blobs if blob.sha256 not in inputs
        )  # an evaluation names what it heard
        sounds = tuple(_sounds(record.stage, value.get("result"), parameters, tools, outputs))
    except (ValueError, KeyError, TypeError, AttributeError, ParseError):
        return None
    return Step(
        ACTION,
        key,
        inputs,
        outputs,
        stage=record.stage,
        version=version,
        parameters=parameters,
        seed=record.lineage.seed,
        tools=tools,
        licences=tuple(record.lineage.licences),
        sounds=sounds,
    )


def _sounds(
    stage: str, result: Any, parameters: Any, tools: Mapping[str, str], outputs: tuple[str, ...]
) -> Iterator[Sound]:
    """What played each file of a rendering, by its record: each stem's own, and all of them in the mix."""
    played: list[tuple[Any, list[str]]] = []
    if stage == "render" and isinstance(result, dict):
        mix = result.get("mix", {}).get("sha256", "")
        stems = [(stem.get("sound"), stem.get("audio", {}).get("sha256", "")) for stem in result.get("stems", ())]
        played = [(sound, [audio, mix]) for sound, audio in stems if sound]
        played += [(sound, [mix]) for sound in result.get("sounds", ())]  # of stems that were not kept
    elif stage == "render-stem" and isinstance(parameters, dict):
        played = [(parameters.get("sound"), list(outputs))]
    told = False
    for sound, files in played:
        if isinstance(sound, dict) and sound.get("backend"):
            told = True
            for digest in dict.fromkeys(
                (sound.get("digest", ""), sound.get("presetDigest", sound.get("preset_digest", "")))
            ):
                for output in filter(None, dict.fromkeys(files)):
                    if digest:
                        yield Sound(str(sound["backend"]), str(sound.get("source", "")), str(digest), output)
    if stage in RENDERING and not told:
        for name, digest in tools.items():
            if is_digest(digest):
                yield from (Sound(OTHER_TOOL, name, digest, output) for output in outputs)


def read_dataset(store: Store, name: str, number: int) -> Step | None:
    """A version of a data set; None where there is none."""
    version = store.series(DatasetVersion, f"datasets/{name}").entry(number)
    if version is None:
        return None
    clips = {row.audio.sha256: row for row in read_document(store, DatasetManifest, version.manifest).rows}
    metadata = [split.metadata.sha256 for split in version.splits if split.metadata.sha256]
    return Step(DATASET, f"{name}@{number}", tuple(clips), (version.manifest.sha256, *metadata), clips=clips)


def read_model(store: Store, label: str) -> Step | None:
    """A version of a model, `name@n`; None where there is none."""
    try:
        version = resolve(store, label)
    except NotFound:
        return None
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
    return Step(
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


def read_run(store: Store, key: str) -> Step | None:
    """A training or an evaluation by the key of its newest entry; None where it is none."""
    data = store.objects.get(key, MAX_ENTRY_BYTES)
    try:
        run = json.loads(data or b"")["document"]
        inputs = dict.fromkeys(digests_in(json.dumps(run.get("request")).encode()))
        samples = [each.get("audio") for each in (run.get("progress") or {}).get("samples", ())]
        outputs = dict.fromkeys(digests_in(json.dumps([run.get("result"), samples]).encode()))
        state = run.get("state", "").removeprefix("RUN_STATE_")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    made = tuple(digest for digest in outputs if digest not in inputs)
    return Step(RUN, key.rpartition("/")[0].removeprefix("runs/"), tuple(inputs), made, state=state)


def newest_entries(keys: Iterable[str]) -> list[str]:
    """Of the keys of a store, the newest entry of each training and evaluation: all that is known of it."""
    newest: dict[str, int] = {}
    for key in keys:
        series, _, entry = key.rpartition("/")
        number = entry.removesuffix(".json")
        if key.startswith(RUNS) and number.isdecimal():
            newest[series] = max(newest.get(series, 0), int(number))
    return [f"{series}/{number}.json" for series, number in newest.items()]
