"""submit: a run on Kubernetes, one Job that ingests and one Indexed Job with a Pod for each shard.

The Jobs are made from the manifests that the chart keeps in the ConfigMap `<release>-jobs`. Image, security, volumes,
environment, node pool, queue and back-off are the chart's. A submission sets names, labels, annotations, the first
container's arguments, the number of shards and the corpus volume.
"""

import hashlib
import json as json_text
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
import yaml

from luthier_kit.rpc import Checks, FailedPrecondition, NotFound, Unavailable, retry_policy
from luthier_pipeline.clients import RETRY_BUDGET_S
from luthier_pipeline.console import Progress, UsageError
from luthier_pipeline.corpus import MAX_SHARDS, as_collection
from luthier_pipeline.options import (
    SONGBOOK_LICENCE,
    Backend,
    ClipSeconds,
    HumaniseTimingMs,
    HumaniseVelocity,
    InFlight,
    Json,
    Licence,
    MixOnly,
    NearDuplicates,
    Prompts,
    SoloMinutes,
    Songbook,
    Songs,
    Styles,
    Subsets,
    Variations,
    begin,
    check_subsets,
)
from luthier_pipeline.solo import POLYPHONIC

if TYPE_CHECKING:
    from luthier_kit.kubernetes import Cluster, JobManifest  # a second of imports: only where a cluster is asked

CORPUS: Final = "corpus"
CORPUS_MOUNT: Final = "/corpus"
RUN_ANNOTATION: Final = "luthier/pipeline-run"
COLLECTION_ANNOTATION: Final = "luthier/collection"
ID_LABEL: Final = "luthier/submission"
ID_DIGITS: Final = 10
LOOK_EVERY_S: Final = 2.0
COMPLETE, FAILED, QUEUED, RUNNING, WAITING = "COMPLETE", "FAILED", "QUEUED", "RUNNING", "WAITING"


@dataclass(frozen=True)
class Submission:
    """What is asked for. `claim` and `subpath` name the folder of a volume; without a claim it is the songbook."""

    collection: str
    shards: int
    claim: str = ""
    subpath: str = ""
    songs: int = 0
    licence: str = "unknown"
    near_duplicates: str = "drop"
    options: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The same for the same question, so that asking twice is asking once."""
        return hashlib.sha256(json_text.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:ID_DIGITS]

    def ingest_arguments(self, run: str) -> list[str]:
        """Arguments of the ingest Pod; `run` is the name that it shares with the shards."""
        source = [CORPUS_MOUNT] if self.claim else ["--songbook", "--songs", str(self.songs)]
        decided = ["--licence", self.licence, "--near-duplicates", self.near_duplicates]
        return ["ingest", *source, *self._common(run), *decided, "--shards", str(self.shards)]

    def shard_arguments(self, run: str) -> list[str]:
        """Arguments of each shard's Pod."""
        return ["run", f"corpora/{self.collection}", "--shards", str(self.shards), *self._common(run), *self.options]

    def _common(self, run: str) -> list[str]:
        return ["--collection", self.collection, "--submission", run, "--json"]


def submit(
    ctx: typer.Context,
    collection: Annotated[str, typer.Option(metavar="NAME", help="Collection that the clips go to.")],
    shards: Annotated[int, typer.Option(metavar="N", min=1, help="Into how many the songs go.")],
    claim: Annotated[str, typer.Option(metavar="PVC[:SUBPATH]", help="Volume and folder of the MIDI files.")] = "",
    songbook: Songbook = False,
    songs: Songs = 12,
    parallelism: Annotated[int | None, typer.Option(metavar="P", min=1, help="Shards at a time; default: all.")] = None,
    in_flight: InFlight = None,
    backend: Backend = "",
    humanise_timing_ms: HumaniseTimingMs = None,
    humanise_velocity: HumaniseVelocity = None,
    clip_seconds: ClipSeconds = None,
    prompts: Prompts = None,
    styles: Styles = "",
    variations: Variations = 0,
    mix_only: MixOnly = False,
    subsets: Subsets = POLYPHONIC,
    solo_minutes: SoloMinutes = None,
    licence: Licence = "unknown",
    near_duplicates: NearDuplicates = "drop",
    release: Annotated[str, typer.Option(metavar="NAME", help="Helm release.")] = "luthier",
    namespace: Annotated[str, typer.Option(metavar="NS", help="Default: the context's.")] = "",
    again: Annotated[bool, typer.Option("--again", help="Also when the same was submitted before.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Until all shards are done.")] = False,
    json: Json = False,
) -> None:
    """Run a corpus as Jobs on Kubernetes: one that ingests, one with a Pod for each shard.

    The same submission twice is the same Jobs. It needs a KUBECONFIG, no store and no service.
    """
    context = begin(ctx, json)
    if bool(claim) == songbook:
        raise UsageError("submit takes --claim PVC[:SUBPATH] or --songbook, one of them")
    check_subsets(subsets, mix_only=mix_only, variations=variations)
    checks = Checks()
    checks.within("--shards", shards, 1, MAX_SHARDS)
    checks.within("--parallelism", parallelism or 1, 1, MAX_SHARDS)
    checks.done()
    given = {
        "--in-flight": in_flight,
        "--backend": backend or None,
        "--humanise-timing-ms": humanise_timing_ms,
        "--humanise-velocity": humanise_velocity,
        "--clip-seconds": clip_seconds,
        "--prompts": prompts,
        "--styles": styles or None,
        "--subsets": subsets if subsets != POLYPHONIC else None,
        "--solo-minutes": solo_minutes,
        "--variations": variations or None,
    }
    options = [word for option, value in given.items() if value is not None for word in (option, str(value))]
    claim, _, subpath = claim.partition(":")
    submission = Submission(
        as_collection(collection),
        shards,
        claim=claim,
        subpath=subpath,
        songs=songs if songbook else 0,
        licence=SONGBOOK_LICENCE if songbook and licence == "unknown" else licence,
        near_duplicates=near_duplicates,
        options=(*options, *(["--mix-only"] if mix_only else [])),
    )

    from luthier_kit.kubernetes import connect

    cluster = connect(namespace)
    identity = secrets.token_hex(ID_DIGITS // 2) if again else submission.id
    ingest, run = f"{release}-ingest-{identity}", f"{release}-run-{identity}"
    job = cluster.job(run)
    created = job is None
    if created:
        job = _create_jobs(cluster, submission, release, identity, (ingest, run), parallelism or shards)
    state = state_of(job)
    context.say(f"{'submitted' if created else 'already submitted'}: Job {run} in {cluster.namespace}, {state}")
    if not created and state == FAILED and not wait:
        context.say("--again submits it anew")
    if wait:
        state = state_of(follow(cluster, ingest, run))
    document = {
        "id": identity,
        "namespace": cluster.namespace,
        "ingest": ingest,
        "run": run,
        "state": state,
        "collection": submission.collection,
        "shards": submission.shards,
        "created": created,
    }
    context.answer(document, f"{run} {state}\nluthier status --collection {submission.collection}")


def _create_jobs(
    cluster: "Cluster",
    submission: Submission,
    release: str,
    identity: str,
    names: tuple[str, str],
    parallelism: int,
) -> Any:
    """Creates the ingest Job, then the run's; both go when the release is uninstalled. Answers with the run's Job.

    If a submitter was killed between the two, the next one takes the run's name from the ingest Job.
    """
    where = f"ConfigMap {release}-jobs"
    owner = cluster.config_map(f"{release}-jobs")
    if owner is None:
        text = f"no release {release} in namespace {cluster.namespace}: {where} is not there"
        raise NotFound(f"{text} (--release, --namespace)", reason="RELEASE_NOT_FOUND")
    if submission.claim and not cluster.has_claim(submission.claim):
        text = f"no PersistentVolumeClaim {submission.claim} in namespace {cluster.namespace} (--claim)"
        raise NotFound(text, reason="CLAIM_NOT_FOUND")
    templates = owner.data or {}
    ingest_template, shards_template = (_template(templates, key, where) for key in ("ingest.yaml", "shards.yaml"))
    new_run = f"{identity}-{secrets.token_hex(3)}"
    ingest_job = _job(ingest_template, submission, names[0], identity, new_run, submission.ingest_arguments(new_run))
    if submission.claim:
        ingest_job = ingest_job.mounting(CORPUS, submission.claim, CORPUS_MOUNT, submission.subpath)
    ingest = cluster.create(ingest_job.owned_by(owner))
    run = (ingest.metadata.annotations or {}).get(RUN_ANNOTATION, "")
    if not run:
        text = f"Job {names[0]} was not made by luthier submit: it has no annotation {RUN_ANNOTATION}"
        raise FailedPrecondition(text, reason="JOB_FOREIGN")
    shards_job = _job(shards_template, submission, names[1], identity, run, submission.shard_arguments(run))
    return cluster.create(shards_job.indexed(submission.shards, parallelism).owned_by(owner))


def _template(templates: Mapping[str, str], key: str, where: str) -> "JobManifest":
    """The Job `key` of a ConfigMap. Raises FailedPrecondition naming what is wrong."""
    from luthier_kit.kubernetes import JobManifest

    try:
        return JobManifest.checked(yaml.safe_load(templates[key]))
    except (KeyError, ValueError, yaml.YAMLError) as error:
        why = "it is not there" if isinstance(error, KeyError) else error
        text = f"{where} has no usable {key}: {why}; the chart writes it"
        raise FailedPrecondition(text, reason="JOB_TEMPLATE_INVALID") from None


def _job(
    template: "JobManifest", submission: Submission, name: str, identity: str, run: str, arguments: list[str]
) -> "JobManifest":
    annotations = {RUN_ANNOTATION: run, COLLECTION_ANNOTATION: submission.collection}
    return template.for_work(name, {ID_LABEL: identity}, arguments, annotations=annotations)


def state_of(job: Any) -> str:
    """QUEUED = suspended (Kueue has not admitted it), WAITING = no Pod is ready yet. `job` is the client library's."""
    met = {condition.type for condition in job.status.conditions or [] if condition.status == "True"}
    for condition, state in (("Complete", COMPLETE), ("Failed", FAILED)):
        if condition in met:
            return state
    if job.spec.suspend:
        return QUEUED
    return RUNNING if job.status.ready else WAITING


def follow(cluster: "Cluster", ingest: str, run: str) -> Any:
    """Shows the shards' progress until all are done; the run's Job. Raises FailedPrecondition when a Job failed.

    An API server that is away is waited for, RETRY_BUDGET_S without an answer.
    """

    def look() -> tuple[Any, Any]:
        return cluster.job(ingest), cluster.job(run)

    def shown(job: Any) -> str:
        """Failed Pods are shown at once: a Job tries for half an hour before it fails."""
        return f"{state_of(job).lower()}{f' ({job.status.failed} Pods failed)' if job.status.failed else ''}"

    with Progress("shards", 0) as progress:
        while True:
            policy = retry_policy(RETRY_BUDGET_S, Unavailable, first_s=LOOK_EVERY_S, longest_s=LOOK_EVERY_S)
            first, shards = policy(look)
            if shards is None:
                raise NotFound(f"Job {run} was deleted", reason="JOB_GONE")
            progress.total, progress.done = shards.spec.completions, shards.status.succeeded or 0
            progress.show(f"ingest {shown(first) if first else 'over'}, shards {shown(shards)}")
            if state_of(shards) == COMPLETE:
                return shards
            for job in (first, shards):
                if job and state_of(job) == FAILED:
                    why = next(condition for condition in job.status.conditions if condition.type == "Failed")
                    text = f"Job {job.metadata.name} failed: {why.reason}: {why.message}"
                    raise FailedPrecondition(text, reason="JOB_FAILED")
            time.sleep(LOOK_EVERY_S)
