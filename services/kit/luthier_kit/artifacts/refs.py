"""Names of blobs, `<kind>/<sha256>.<ext>`, and what is refused before storage is touched."""

from __future__ import annotations

import re

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.artifacts.objects import MAX_KEY_CHARS
from luthier_kit.errors import FailedPrecondition, InvalidRequest, PermissionDenied

_KIND = r"[a-z][a-z0-9_-]{0,62}(?:/[a-z0-9][a-z0-9_-]{0,62}){0,2}"
_KEY = re.compile(rf"(?P<kind>{_KIND})/(?P<sha256>[0-9a-f]{{64}})\.(?P<ext>[a-z0-9]{{1,16}})")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA256_RULE = "must be 64 lowercase hexadecimal digits"
_NOT_KINDS = frozenset({"actions", "heartbeats", "models", "proofs", "quarantine", "runs", "tombstones"})


def blob_key(kind: str, sha256: str, ext: str) -> str:
    """Key of a blob; ValueError for a kind or extension that the grammar has no room for."""
    key = f"{kind}/{sha256}.{ext}"
    if not is_blob_key(key):
        raise ValueError(f"not a blob key: {key[:200]!r}")
    return key


def is_blob_key(key: str) -> bool:
    """True for `<kind>/<sha256>.<ext>` with a kind that is not one of the store's own prefixes."""
    found = _KEY.fullmatch(key)
    return bool(found) and key.split("/", 1)[0] not in _NOT_KINDS


def check_sha256(sha256: str) -> None:
    """InvalidRequest unless this is a digest as we write them."""
    if not _SHA256.fullmatch(sha256):
        raise InvalidRequest(reason="DIGEST_INVALID", violations=[("sha256", _SHA256_RULE)])


def check_ref(ref: ArtifactRef, bucket: str, allowed: frozenset[str]) -> None:
    """Refuse a reference that is malformed, contradicts itself or points outside the allowed buckets.

    Empty `ref.bucket` means `bucket`, the service's own. Raises InvalidRequest, PermissionDenied, or
    FailedPrecondition ARTIFACT_DIGEST_MISMATCH when the caller's digest is not the one in the key.
    """
    violations = []
    if len(ref.key) > MAX_KEY_CHARS or not is_blob_key(ref.key):
        violations.append(("key", f"must be <kind>/<sha256>.<ext>, got {ref.key[:80]!r}"))
    if not _SHA256.fullmatch(ref.sha256):
        violations.append(("sha256", f"{_SHA256_RULE}, got {ref.sha256[:80]!r}"))
    if ref.size_bytes < 0:
        violations.append(("size_bytes", f"must be at least 0, got {ref.size_bytes}"))
    if violations:
        text = "; ".join(f"{field} {what}" for field, what in violations)
        raise InvalidRequest(f"artifact reference: {text}", reason="ARTIFACT_REF_INVALID", violations=violations)
    if (ref.bucket or bucket) != bucket and ref.bucket not in allowed:
        text = f"bucket {ref.bucket[:80]!r} is not on this service's allow list"
        raise PermissionDenied(text, reason="BUCKET_NOT_ALLOWED")
    named = ref.key.rsplit("/", 1)[1].split(".", 1)[0]
    if named != ref.sha256:
        text = f"the reference says sha256 {ref.sha256}, its key says {named}"
        raise FailedPrecondition(text, reason="ARTIFACT_DIGEST_MISMATCH")
