"""The store: everything a service keeps, over any object store; how it is opened and proven."""

import io
import re
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.message import Message

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.rpc import DataLoss, FailedPrecondition, InvalidRequest, Settings, SettingsError, Unavailable, setting
from luthier_kit.store._actions import Actions
from luthier_kit.store._blobs import Blobs
from luthier_kit.store._documents import MAX_DOCUMENT_BYTES, M, OldForm, canonical_json, from_json, to_json
from luthier_kit.store._folder import FolderStore
from luthier_kit.store._objects import ObjectStore
from luthier_kit.store._series import Series
from luthier_kit.store._tombstones import Tombstones

if TYPE_CHECKING:
    from luthier_kit.store._identity import Identity

MARK_KEY = "proofs/store.json"
"""Written at the first proof of a store and never changed: a store without it is not the one that was proven."""
_RACERS = 4
_ROUNDS = 2


@dataclass(frozen=True)
class StoreSettings(Settings):
    """Where artifacts live."""

    store: str = setting("LUTHIER_STORE", default="folder", choices=("folder", "s3"), help="folder or s3")
    store_folder: Path = setting("LUTHIER_STORE_FOLDER", default=Path(".luthier/store"), help="folder of the store")
    s3_endpoint: str = setting("LUTHIER_S3_ENDPOINT", default="127.0.0.1:9000", help="host:port")
    s3_access_key: str = setting("LUTHIER_S3_ACCESS_KEY", default="", secret=True)
    s3_secret_key: str = setting("LUTHIER_S3_SECRET_KEY", default="", secret=True)
    s3_auth: str = setting(
        "LUTHIER_S3_AUTH", default="static", choices=("static", "web-identity", "aws"),
        help="where the keys come from: the two above, an STS for this process' token, or AWS' identity of this Pod",
    )  # fmt: skip
    s3_sts: str = setting("LUTHIER_S3_STS", default="", help="URL of the STS of web-identity")
    s3_role: str = setting("LUTHIER_S3_ROLE", default="", help="ARN of the role of web-identity")
    s3_identity_token: Path = setting(
        "LUTHIER_S3_IDENTITY_TOKEN", default=Path("/etc/luthier/identity/token"), help="file of its token"
    )
    s3_region: str = setting("LUTHIER_S3_REGION", default="us-east-1")
    s3_secure: bool = setting("LUTHIER_S3_SECURE", default=False, help="1 = TLS")
    bucket: str = setting("LUTHIER_BUCKET", default="luthier", help="the service's own bucket")
    buckets_allowed: tuple[str, ...] = setting(
        "LUTHIER_BUCKETS_ALLOWED", default=(), help="further buckets that requests may name, comma-separated"
    )
    store_expected: bool = setting(
        "LUTHIER_STORE_EXPECTED", default=False, help="1 = refuse a store that was never used (a lost folder or mount)"
    )
    create_bucket: bool = setting("LUTHIER_CREATE_BUCKET", default=False, help="1 = create a missing bucket")

    def faults(self) -> list[str]:
        faults = super().faults()
        if self.store == "s3":
            needed = {"LUTHIER_S3_ENDPOINT": self.s3_endpoint}
            if self.s3_auth == "static":
                needed |= {
                    "LUTHIER_S3_ACCESS_KEY": self.s3_access_key,
                    "LUTHIER_S3_SECRET_KEY": self.s3_secret_key,
                }
            faults += [f"{name} is missing: LUTHIER_STORE=s3 needs it" for name, value in needed.items() if not value]
            if self.s3_auth == "web-identity" and not re.fullmatch(r"https?://[^/?#@]+(/[^?#]*)?", self.s3_sts):
                faults.append("LUTHIER_S3_STS must be a URL without a query: LUTHIER_S3_AUTH=web-identity needs it")
            if self.s3_auth == "aws":
                from luthier_kit.store._identity import identity_of_aws  # minio's client takes a while to import

                try:
                    identity_of_aws(self.s3_region)
                except SettingsError as error:
                    faults.append(str(error))
            if "/" in self.s3_endpoint:
                text = "must be host:port without a scheme or path (TLS: LUTHIER_S3_SECURE=1)"
                faults.append(f"LUTHIER_S3_ENDPOINT {text}")
        return faults


class Store:
    """Blobs, documents, series and actions of one bucket. Threads may share it."""

    def __init__(self, objects: ObjectStore, allowed_buckets: frozenset[str] = frozenset()) -> None:
        self.objects = objects
        self.tombstones = Tombstones()
        self.blobs = Blobs(objects, allowed_buckets, self.tombstones)
        self.actions = Actions(objects, self.blobs, self.tombstones)

    def put(self, kind: str, document: Message) -> ArtifactRef:
        """Store a document as a blob `<kind>/<sha256>.json`; equal documents are the same blob.

        FailedPrecondition DOCUMENT_TOO_LARGE for one that no reader would take.
        """
        return self.blobs.put_bytes(kind, to_json(document, MAX_DOCUMENT_BYTES), "json", "application/json")

    def get(
        self, kind: type[M], ref: ArtifactRef, *, old_form: OldForm[M] | None = None, reason: str = "DOCUMENT_INVALID"
    ) -> M:
        """The document in a blob. Raises what `Blobs.read` raises, InvalidRequest with `reason` when it is no `kind`.

        `old_form` reads documents that were stored before they were messages.
        """
        try:
            return from_json(kind, self.blobs.read(ref, max_bytes=MAX_DOCUMENT_BYTES), old_form)
        except ValueError as error:
            raise InvalidRequest(f"{ref.key}: {error}", reason=reason) from None

    def put_note(self, key: str, document: Message) -> None:
        """Store a document under a name of its own, in place of the one that was there. For what can be found out
        again: whatever must not be lost is written once (blobs, series, actions)."""
        data = to_json(document, MAX_DOCUMENT_BYTES)
        self.objects.put(key, lambda: io.BytesIO(data), len(data), "application/json")

    def note(self, kind: type[M], key: str) -> M | None:
        """The document that `put_note` stored; None where there is none, or none of this type."""
        try:
            data = self.objects.get(key, MAX_DOCUMENT_BYTES)
            return from_json(kind, data) if data else None
        except (DataLoss, ValueError):
            return None

    def series(self, kind: type[M], name: str, old_form: OldForm[M] | None = None) -> Series[M]:
        """The append-only series `<name>/<n>.json` of documents of one type."""
        return Series(self.objects, kind, name, old_form)

    def names(self, prefix: str) -> list[str]:
        """Names directly below a folder that begin as `prefix` says, e.g. `models/` or `runs/training-`."""
        folder, slash, start = prefix.rpartition("/")
        return [name for name in self.objects.children(folder + slash) if name.startswith(start)]

    def prove(self, *, create_bucket: bool, expected: bool = False) -> None:
        """Refuse a store that is not there, or that does not keep the first of racing writers. Then mark it.

        With `expected` it must carry the mark of an earlier proof already: what was lost is not begun anew. From now on
        a folder that loses its mark is down.
        """
        self.objects.ensure_bucket(create=create_bucket and not expected)
        if expected and self.objects.size_bytes(MARK_KEY) is None:
            text = (
                f"{self.objects!r} is not the store that was used before: it has no {MARK_KEY}. Bring the lost one back"
                " (a mount, a bucket); to begin with an empty one, unset LUTHIER_STORE_EXPECTED"
            )
            raise Unavailable(text, reason="STORE_MARK_MISSING")
        prove_conditional_create(self.objects)
        self.objects.create(MARK_KEY, canonical_json({"store": uuid.uuid4().hex}))
        self.objects.require(MARK_KEY)


def open_store(settings: StoreSettings, *, prove: bool = True) -> Store:
    """Open the store that `settings` name, and prove that it is fit (bucket there, conditional creates kept).

    Raises Unavailable when the store does not answer, refuses the credentials or, with `settings.store_expected`, was
    never proven (STORE_MARK_MISSING); FailedPrecondition STORE_WITHOUT_CONDITIONAL_CREATE when it ignores conditions. A
    folder's bucket is created unless it is expected, an S3 bucket only when `settings.create_bucket` says so.
    """
    objects: ObjectStore
    if settings.store == "s3":
        from luthier_kit.store._s3 import Endpoint, S3Store  # its client takes a while to import

        endpoint = Endpoint(
            host=settings.s3_endpoint,
            access_key=settings.s3_access_key,
            secret_key=settings.s3_secret_key,
            region=settings.s3_region,
            secure=settings.s3_secure,
            identity=_identity_of(settings),
        )
        objects = S3Store(endpoint, settings.bucket)
    else:
        objects = FolderStore(settings.store_folder.absolute(), settings.bucket)
    store = Store(objects, frozenset(settings.buckets_allowed))
    if prove:
        create = settings.create_bucket or settings.store == "folder"
        store.prove(create_bucket=create, expected=settings.store_expected)
    return store


def _identity_of(settings: StoreSettings) -> "Identity | None":
    from luthier_kit.store._identity import WebIdentity, identity_of_aws

    if settings.s3_auth == "web-identity":
        return WebIdentity(settings.s3_sts, settings.s3_identity_token, settings.s3_role)
    return identity_of_aws(settings.s3_region) if settings.s3_auth == "aws" else None


def prove_conditional_create(objects: ObjectStore) -> None:
    """Raise FailedPrecondition STORE_WITHOUT_CONDITIONAL_CREATE when more than one racing writer wins.

    Resume, caching and exactly-once rest on this property, and some servers accept the header and ignore it (rclone's
    `serve s3` does).
    """
    with ThreadPoolExecutor(_RACERS) as pool:
        for _ in range(_ROUNDS):
            _race(objects, pool)


def _race(objects: ObjectStore, pool: ThreadPoolExecutor) -> None:
    key = f"proofs/{uuid.uuid4().hex}.json"
    bodies = [f'{{"racer": "{uuid.uuid4().hex}"}}'.encode() for _ in range(_RACERS)]
    start = threading.Barrier(_RACERS)

    def create(body: bytes) -> bool:
        start.wait(timeout=60)
        return objects.create(key, body)

    won = list(pool.map(create, bodies))
    late = objects.create(key, b'{"racer": "late"}')
    stored = objects.get(key, 1024)
    objects.delete(key)
    if sum(won) != 1 or late or stored != bodies[won.index(True)]:
        raise FailedPrecondition(
            f"{objects!r} ignores If-None-Match: {sum(won) + late} of {_RACERS + 1} writers got the answer that they "
            "created the same object. Luthier needs conditional creates and does not run without them.",
            reason="STORE_WITHOUT_CONDITIONAL_CREATE",
        )
