"""Artifact references as the database and manifests keep them."""

from google.protobuf.json_format import ParseDict

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_curation.content import Json


def ref_to_dict(ref: ArtifactRef) -> Json:
    """All five fields, the size as a number (protobuf's own JSON form makes 64-bit integers texts)."""
    return {
        "bucket": ref.bucket,
        "key": ref.key,
        "sha256": ref.sha256,
        "size_bytes": ref.size_bytes,
        "media_type": ref.media_type,
    }


def to_ref(ref: Json) -> ArtifactRef:
    """The reference that `ref_to_dict` wrote."""
    return ParseDict(ref, ArtifactRef(), ignore_unknown_fields=True)
