"""The two Jobs of a submission, made from the manifests that the chart keeps in the ConfigMap `<release>-jobs`.

Image, security, volumes, environment, node pool, queue and back-off are the chart's. A submission sets names, labels,
annotations, the first container's arguments, the number of shards and the corpus volume.
"""

import copy
import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import yaml

from luthier_kit.errors import FailedPrecondition

Manifest = dict[str, Any]
CORPUS = "corpus"
CORPUS_MOUNT = "/corpus"
RUN_ANNOTATION = "luthier/pipeline-run"
COLLECTION_ANNOTATION = "luthier/collection"
ID_LABEL = "luthier/submission"
ID_DIGITS = 10


@dataclass(frozen=True)
class Submission:
    """What is asked for. `claim` and `subpath` name the folder of a volume; without a claim it is the songbook."""

    collection: str
    shards: int
    claim: str = ""
    subpath: str = ""
    songs: int = 0
    licence: str = "unknown"
    options: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The same for the same question, so that asking twice is asking once."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:ID_DIGITS]

    def ingest(self, run: str) -> list[str]:
        """Arguments of the ingest Pod; `run` is the name that it shares with the shards."""
        source = [CORPUS_MOUNT] if self.claim else ["--songbook", "--songs", str(self.songs)]
        return ["ingest", *source, *self._common(run), "--licence", self.licence]

    def shard(self, run: str) -> list[str]:
        """Arguments of each shard's Pod."""
        own = ["run", f"corpora/{self.collection}", "--shards", str(self.shards)]
        return [*own, *self._common(run), *self.options]

    def _common(self, run: str) -> list[str]:
        return ["--collection", self.collection, "--submission", run, "--json"]


def read_templates(data: dict[str, str], where: str) -> tuple[Manifest, Manifest]:
    """The Jobs `ingest.yaml` and `shards.yaml` of a ConfigMap. Raises FailedPrecondition naming what is wrong."""
    return _template(data, "ingest.yaml", where), _template(data, "shards.yaml", where)


def ingest_job(template: Manifest, asked: Submission, name: str, identity: str, run: str) -> Manifest:
    """The Job that writes the corpus manifest."""
    job = _named(template, asked, name, identity, run)
    pod = job["spec"]["template"]["spec"]
    pod["containers"][0]["args"] = asked.ingest(run)
    if asked.claim:
        _mount(pod, asked)
    return job


def shards_job(template: Manifest, asked: Submission, name: str, identity: str, run: str, parallelism: int) -> Manifest:
    """The Indexed Job of all shards."""
    job = _named(template, asked, name, identity, run)
    job["spec"] |= {"completionMode": "Indexed", "completions": asked.shards, "parallelism": parallelism}
    job["spec"]["template"]["spec"]["containers"][0]["args"] = asked.shard(run)
    return job


def _named(template: Manifest, asked: Submission, name: str, identity: str, run: str) -> Manifest:
    job = copy.deepcopy(template)
    job["metadata"]["name"] = name
    pod = job["spec"]["template"].setdefault("metadata", {})
    for metadata in (job["metadata"], pod):
        metadata["labels"] = {**(metadata.get("labels") or {}), ID_LABEL: identity}
        told = {RUN_ANNOTATION: run, COLLECTION_ANNOTATION: asked.collection}
        metadata["annotations"] = {**(metadata.get("annotations") or {}), **told}
    return job


def _mount(pod: Manifest, asked: Submission) -> None:
    """The claim, read-only, in place of any volume of that name."""
    claim = {"claimName": asked.claim, "readOnly": True}
    volumes = [volume for volume in pod.get("volumes") or [] if volume["name"] != CORPUS]
    pod["volumes"] = [*volumes, {"name": CORPUS, "persistentVolumeClaim": claim}]
    container = pod["containers"][0]
    mounts = [mount for mount in container.get("volumeMounts") or [] if mount["name"] != CORPUS]
    mount = {"name": CORPUS, "mountPath": CORPUS_MOUNT, "readOnly": True}
    container["volumeMounts"] = [*mounts, mount | ({"subPath": asked.subpath} if asked.subpath else {})]


def _template(data: dict[str, str], key: str, where: str) -> Manifest:
    try:
        document = yaml.safe_load(data[key])
        if (document["apiVersion"], document["kind"]) != ("batch/v1", "Job"):
            raise ValueError("it must be one batch/v1 Job")
        if not document["spec"]["template"]["spec"]["containers"][0]["image"]:
            raise ValueError("its first container has no image")
        document["metadata"].get("labels")
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, yaml.YAMLError) as error:
        kind = type(error).__name__
        text = f"{where} has no usable {key} ({kind}: {error}); the chart writes it"
        raise FailedPrecondition(text, reason="JOB_TEMPLATE_INVALID") from None
    return dict(document)
