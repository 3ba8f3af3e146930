"""prove-store: shows whether an object store is one that Luthier can rest on."""

import io
import statistics
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Final

import typer

from luthier_kit.rpc import SettingsError, load
from luthier_kit.store import Endpoint, FolderStore, ObjectStore, S3Store, StoreSettings
from luthier_pipeline.console import UsageError, table
from luthier_pipeline.options import Json, begin
from luthier_pipeline.prove_store.checks import MAX_SMALL_BYTES, SHOWN, Asked, Check, checks
from luthier_pipeline.prove_store.losing import LosesReplies

MIB: Final = 1 << 20
TIMED: Final = 50  # small requests of each kind
PREFIX: Final = "proofs/"


@dataclass(frozen=True)
class Figure:
    """How long a request took: milliseconds, or MiB a second."""

    name: str
    unit: str
    median: float
    worst: float


def prove_store(
    ctx: typer.Context,
    endpoint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST:PORT", help="Of the same store; as often as it has endpoints. Default: LUTHIER_S3_ENDPOINT."
        ),
    ] = None,
    bucket: Annotated[str, typer.Option(metavar="NAME", help="Default: LUTHIER_BUCKET.")] = "",
    create_bucket: Annotated[bool, typer.Option("--create-bucket", help="Create it where it is missing.")] = False,
    writers: Annotated[int, typer.Option(metavar="N", min=2, max=512, help="At the same moment.")] = 64,
    rounds: Annotated[
        int, typer.Option(metavar="N", min=1, max=10_000, help="Races; other checks follow from it.")
    ] = 20,
    large_mib: Annotated[int, typer.Option(metavar="MIB", min=1, max=65_536, help="The largest object.")] = 64,
    times: Annotated[bool, typer.Option("--times", help="Measure how long requests take, too.")] = False,
    json: Json = False,
) -> None:
    """Try to break what Luthier rests on: conditional creates, objects in parts, lost replies, listings, reads.

    The store is the one that LUTHIER_STORE and its settings name, keys included. All is written below proofs/ of its
    bucket and deleted afterwards. Exit code 0: all held; 1: something did not. Nothing can prove that a store never
    fails: more rounds, writers and endpoints look longer.
    """
    context = begin(ctx, json)
    settings = _settings(bucket)
    if endpoint and settings.store != "s3":
        raise UsageError("--endpoint is of an S3 store: set LUTHIER_STORE=s3")
    places = endpoint or [settings.s3_endpoint]
    if wrong := [place for place in places if "/" in place or ":" not in place]:
        raise UsageError(f"--endpoint must be host:port, got {wrong[0]!r}")
    opened, losing = _clients(settings, places)
    opened(0).ensure_bucket(create=create_bucket or settings.store == "folder")
    asked = Asked(opened, losing, f"{PREFIX}{uuid.uuid4().hex}/", writers, rounds, large_mib * MIB)
    where = ", ".join(places) if settings.store == "s3" else str(settings.store_folder)
    context.say(f"{where}, bucket {settings.bucket}: {writers} writers, {rounds} rounds")
    found: list[Check] = []
    figures: list[Figure] = []
    try:
        for check in checks(asked):
            found.append(check)
            context.say(f"  {_verdict(check):10} {check.name} ({check.tries} times, {check.seconds:.1f} s)")
        if times:
            figures = _measured(asked)
    finally:
        for key in list(opened(0).keys(asked.prefix)):
            opened(0).delete(key)
    failed = [check for check in found if check.faults]
    rows = [[check.name, str(check.tries), _verdict(check), _told(check)] for check in found]
    text = table(rows, ["what must hold", "tries", "", "seen"])
    if figures:
        lines = [[each.name, f"{each.median:.1f}", f"{each.worst:.1f}", each.unit] for each in figures]
        text += "\n" + table(lines, ["request", "median", "worst", ""])
    text += "\n" + (f"{len(failed)} of {len(found)} did not hold: do not use this store" if failed else "all held")
    document = {
        "store": where,
        "bucket": settings.bucket,
        "writers": writers,
        "rounds": rounds,
        "checks": [
            {"name": c.name, "tries": c.tries, "seconds": c.seconds, "faults": list(c.faults), "left_out": c.left_out}
            for c in found
        ],
        "times": [vars(each) for each in figures],
    }
    context.answer(document, text)
    if failed:
        raise typer.Exit(1)


def _settings(bucket: str) -> StoreSettings:
    try:
        settings = load(StoreSettings)
    except SettingsError as error:
        raise UsageError(str(error)) from None
    return replace(settings, bucket=bucket) if bucket else settings


def _clients(
    settings: StoreSettings, places: Sequence[str]
) -> tuple[Callable[[int], ObjectStore], Callable[[int], ObjectStore] | None]:
    """What opens a client at each place in turn, and one that loses replies."""
    if settings.store == "folder":
        return lambda _: FolderStore(settings.store_folder.absolute(), settings.bucket), None

    def at(number: int) -> Endpoint:
        return Endpoint(
            places[number % len(places)], settings.s3_access_key, settings.s3_secret_key, settings.s3_region,
            settings.s3_secure,
        )  # fmt: skip

    def losing(number: int) -> ObjectStore:
        return S3Store(at(number), settings.bucket, LosesReplies)

    kept: dict[int, ObjectStore] = {}

    def opened(number: int) -> ObjectStore:
        return kept.setdefault(number, S3Store(at(number), settings.bucket))

    return opened, losing


def _measured(asked: Asked) -> list[Figure]:
    """One client, nothing beside it."""
    store, small = asked.open(0), [asked.key() for _ in range(TIMED)]
    body = bytes(asked.large_bytes)
    large = [asked.key() for _ in range(3)]

    def timed(name: str, keys: Sequence[str], work: Callable[[str], object], size: int = 0) -> Figure:
        took = []
        for key in keys:
            began = time.perf_counter()
            work(key)
            took.append(time.perf_counter() - began)
        if size:
            rates = [size / MIB / seconds for seconds in took]
            return Figure(name, "MiB/s", statistics.median(rates), min(rates))
        return Figure(name, "ms", statistics.median(took) * 1000, max(took) * 1000)

    def read(key: str) -> None:
        for _ in store.chunks(key):
            pass

    return [
        timed("create, 100 bytes", small, lambda key: store.create(key, uuid.uuid4().bytes.ljust(100))),
        timed("read, 100 bytes", small, lambda key: store.get(key, MAX_SMALL_BYTES)),
        timed("head", small, store.size_bytes),
        timed("list what was written", [asked.prefix] * 5, lambda prefix: list(store.keys(prefix))),
        timed("write the largest", large, lambda key: _write(store, key, body), len(body)),
        timed("read the largest", large, read, len(body)),
    ]


def _write(store: ObjectStore, key: str, body: bytes) -> None:
    store.put(key, lambda: io.BytesIO(body), len(body), "application/octet-stream")


def _verdict(check: Check) -> str:
    if check.left_out:
        return "left out"
    return "FAILED" if check.faults else "held"


def _told(check: Check) -> str:
    if check.left_out:
        return check.left_out
    more = f"; and {len(check.faults) - SHOWN} more" if len(check.faults) > SHOWN else ""
    return "; ".join(dict.fromkeys(check.faults[:SHOWN])) + more
