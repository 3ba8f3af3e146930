"""The form of an ArtifactRef: blobs are named `<kind>/<sha256>.<ext>`."""

import re

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.rpc._errors import Violation

REF_INVALID = "ARTIFACT_REF_INVALID"
SHA256 = re.compile(r"[0-9a-f]{64}")
SHA256_RULE = "must be 64 lowercase hexadecimal digits"
MAX_BLOB_KEY_CHARS = 512
MAX_MEDIA_TYPE_CHARS = 255  # RFC 6838: two names of at most 127
_KIND = r"[a-z][a-z0-9_-]{0,62}(?:/[a-z0-9][a-z0-9_-]{0,62}){0,2}"
_BLOB_KEY = re.compile(rf"(?P<kind>{_KIND})/(?P<sha256>[0-9a-f]{{64}})\.(?P<ext>[a-z0-9]{{1,16}})")
_NOT_KINDS = frozenset(
    {
        "actions",
        "audit",
        "heartbeats",
        "models",
        "proofs",
        "quarantine",
        "requests",
        "runs",
        "songs",
        "takedowns",
        "tombstones",
    }
)


def is_blob_key(key: str) -> bool:
    """True for `<kind>/<sha256>.<ext>` with a kind that is not one of the store's own prefixes."""
    found = _BLOB_KEY.fullmatch(key)
    return bool(found) and key.split("/", 1)[0] not in _NOT_KINDS


def ref_violations(ref: ArtifactRef) -> list[Violation]:
    """What is wrong with a reference's form, by its own fields."""
    violations = []
    if len(ref.key) > MAX_BLOB_KEY_CHARS or not is_blob_key(ref.key):
        violations.append(("key", f"must be <kind>/<sha256>.<ext>, got {ref.key[:80]!r}"))
    if not SHA256.fullmatch(ref.sha256):
        violations.append(("sha256", f"{SHA256_RULE}, got {ref.sha256[:80]!r}"))
    if ref.size_bytes < 0:
        violations.append(("size_bytes", f"must be at least 0, got {ref.size_bytes}"))
    if len(ref.media_type) > MAX_MEDIA_TYPE_CHARS:
        violations.append(("media_type", f"must have at most {MAX_MEDIA_TYPE_CHARS} characters"))
    return violations
