"""From settings to a store."""

from __future__ import annotations

from luthier_kit.artifacts.folder import FolderStore
from luthier_kit.artifacts.objects import ObjectStore
from luthier_kit.artifacts.s3 import Endpoint, S3Store
from luthier_kit.artifacts.store import Artifacts
from luthier_kit.settings import SettingsError, StoreSettings


def open_artifacts(settings: StoreSettings, *, prove: bool = True) -> Artifacts:
    """Open the store that `settings` name, and prove that it is fit (bucket there, conditional creates kept).

    Raises SettingsError for settings that cannot work, Unavailable when the store does not answer or refuses the
    credentials, FailedPrecondition STORE_WITHOUT_CONDITIONAL_CREATE when it ignores conditions. A folder's bucket is
    created always, an S3 bucket only when `settings.create_bucket` says so.
    """
    objects: ObjectStore
    if settings.store == "s3":
        objects = S3Store(_endpoint(settings), settings.bucket)
    else:
        objects = FolderStore(settings.store_folder.absolute(), settings.bucket)
    store = Artifacts(objects, frozenset(settings.buckets_allowed))
    if prove:
        store.prove(create_bucket=settings.create_bucket or settings.store == "folder")
    return store


def _endpoint(settings: StoreSettings) -> Endpoint:
    faults = [
        f"{name} is missing: LUTHIER_STORE=s3 needs it"
        for name, value in (
            ("LUTHIER_S3_ENDPOINT", settings.s3_endpoint),
            ("LUTHIER_S3_ACCESS_KEY", settings.s3_access_key),
            ("LUTHIER_S3_SECRET_KEY", settings.s3_secret_key),
        )
        if not value
    ]
    if "/" in settings.s3_endpoint:
        faults.append("LUTHIER_S3_ENDPOINT must be host:port without a scheme or path (TLS: LUTHIER_S3_SECURE=1)")
    if faults:
        raise SettingsError("\n".join(faults))
    return Endpoint(
        host=settings.s3_endpoint,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key,
        region=settings.s3_region,
        secure=settings.s3_secure,
    )
