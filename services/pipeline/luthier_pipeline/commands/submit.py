"""submit: a run as Kubernetes Jobs, one that ingests and one with a Pod for each shard."""

import secrets
from argparse import Namespace

from luthier_kit.checks import Checks
from luthier_kit.cluster import Cluster, connect, owned_by
from luthier_kit.errors import FailedPrecondition, NotFound
from luthier_pipeline.commands.context import PATIENCE_S, Context, UsageError
from luthier_pipeline.commands.corpus import SONGBOOK_LICENCE
from luthier_pipeline.resources import as_collection
from luthier_pipeline.shard import MAX_SHARDS
from luthier_pipeline.submission.following import FAILED, follow, state_of
from luthier_pipeline.submission.jobs import RUN_ANNOTATION, Submission, ingest_job, read_templates, shards_job


def submit(context: Context) -> None:
    """Creates the Jobs of a run, or finds them; with --wait follows them to their end."""
    arguments = context.arguments
    asked = _asked(arguments)
    cluster = connect(arguments.namespace)
    identity = secrets.token_hex(5) if arguments.again else asked.id
    ingest, run = f"{arguments.release}-ingest-{identity}", f"{arguments.release}-run-{identity}"
    job = cluster.job(run)
    created = job is None
    if created:
        job = _create(cluster, arguments, asked, identity, (ingest, run))
    state = state_of(job)
    context.say(f"{'submitted' if created else 'already submitted'}: Job {run} in {cluster.namespace}, {state}")
    if not created and state == FAILED and not arguments.wait:
        context.say("--again submits it anew")
    if arguments.wait:
        state = state_of(follow(cluster, ingest, run, PATIENCE_S))
    document = {"id": identity, "namespace": cluster.namespace, "ingest": ingest, "run": run, "state": state}
    more = {"collection": asked.collection, "shards": asked.shards, "created": created}
    context.answer({**document, **more}, f"{run} {state}\nluthier status --collection {asked.collection}")


def _asked(arguments: Namespace) -> Submission:
    if bool(arguments.claim) == arguments.songbook:
        raise UsageError("submit takes --claim PVC[:SUBPATH] or --songbook, one of them")
    checks = Checks()
    checks.within("--shards", arguments.shards, 1, MAX_SHARDS)
    checks.within("--parallelism", arguments.parallelism or 1, 1, MAX_SHARDS)
    checks.done()
    claim, _, subpath = arguments.claim.partition(":")
    licence = arguments.licence
    return Submission(
        as_collection(arguments.collection),
        arguments.shards,
        claim=claim,
        subpath=subpath,
        songs=arguments.songs if arguments.songbook else 0,
        licence=SONGBOOK_LICENCE if arguments.songbook and licence == "unknown" else licence,
        options=_options(arguments),
    )


def _options(arguments: Namespace) -> tuple[str, ...]:
    """The options of `luthier run` that were given, as they are typed."""
    given = {
        "--in-flight": arguments.in_flight,
        "--backend": arguments.backend,
        "--clip-seconds": arguments.clip_seconds,
        "--prompts": arguments.prompts,
    }
    words = [word for option, value in given.items() if value for word in (option, str(value))]
    return (*words, *(["--mix-only"] if arguments.mix_only else []))


def _create(cluster: Cluster, arguments: Namespace, asked: Submission, identity: str, names: tuple[str, str]) -> object:
    """Ingest first; both go when the release is uninstalled.

    If a submitter died between the two, the next one takes the run's name from the ingest Job.
    """
    where = f"ConfigMap {arguments.release}-jobs"
    owner = cluster.config_map(f"{arguments.release}-jobs")
    if owner is None:
        text = f"no release {arguments.release} in namespace {cluster.namespace}: {where} is not there"
        raise NotFound(f"{text} (--release, --namespace)", reason="RELEASE_NOT_FOUND")
    if asked.claim and not cluster.has_claim(asked.claim):
        text = f"no PersistentVolumeClaim {asked.claim} in namespace {cluster.namespace} (--claim)"
        raise NotFound(text, reason="CLAIM_NOT_FOUND")
    first, second = read_templates(owner.data or {}, where)
    run = f"{identity}-{secrets.token_hex(3)}"
    ingest = cluster.create(owned_by(ingest_job(first, asked, names[0], identity, run), owner))
    run = (ingest.metadata.annotations or {}).get(RUN_ANNOTATION, "")
    if not run:
        text = f"Job {names[0]} was not made by luthier submit: it has no annotation {RUN_ANNOTATION}"
        raise FailedPrecondition(text, reason="JOB_FOREIGN")
    parallelism = arguments.parallelism or asked.shards
    return cluster.create(owned_by(shards_job(second, asked, names[1], identity, run, parallelism), owner))
