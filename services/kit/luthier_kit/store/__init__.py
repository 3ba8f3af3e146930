"""Storage over a folder or any S3: blobs named by content, documents, append-only series, action records.

`open_store(settings)` gives a `Store`. Every stored document is a protobuf message as canonical JSON:
`store.put(kind, message)` and `store.get(Type, ref)` for blobs, `store.series(Type, name).append(message)` for series,
`store.actions.run(Action(…), Type, compute)` for what a stage did.

S3's client is imported when it is used: a folder needs none of it.
"""

import importlib
from typing import TYPE_CHECKING, Any

from luthier_kit.rpc import is_blob_key
from luthier_kit.store._actions import MAX_RECORD_BYTES, Action, Actions, artifacts_in, encode_record, parse_record
from luthier_kit.store._blobs import Blobs, blob_key, check_sha256
from luthier_kit.store._documents import (
    MAX_DOCUMENT_BYTES,
    OldForm,
    canonical_json,
    digest_of,
    from_json,
    from_value,
    to_json,
)
from luthier_kit.store._folder import FolderStore
from luthier_kit.store._objects import CHUNK_BYTES, ObjectStore, Stored
from luthier_kit.store._series import MAX_ENTRY_BYTES, Series
from luthier_kit.store._store import MARK_KEY, Store, StoreSettings, open_store, prove_conditional_create
from luthier_kit.store._tombstones import FRESH_S, Digests, Tombstones

if TYPE_CHECKING:
    from luthier_kit.store._s3 import Endpoint, S3Store

__all__ = [
    "CHUNK_BYTES", "FRESH_S", "MARK_KEY", "MAX_DOCUMENT_BYTES", "MAX_ENTRY_BYTES", "MAX_RECORD_BYTES", "Action",
    "Actions", "Blobs", "Digests", "Endpoint", "FolderStore", "ObjectStore", "OldForm", "S3Store", "Series", "Store",
    "StoreSettings", "Stored", "Tombstones", "artifacts_in", "blob_key", "canonical_json", "check_sha256", "digest_of",
    "encode_record", "from_json", "from_value", "is_blob_key", "open_store", "parse_record", "prove_conditional_create",
    "to_json",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in {"Endpoint", "S3Store"}:
        return getattr(importlib.import_module("luthier_kit.store._s3"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
