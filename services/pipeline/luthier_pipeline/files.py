"""Files of the user, to and from the store."""

from pathlib import Path

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.rpc import InvalidRequest
from luthier_kit.store import Store


def put(store: Store, kind: str, path: Path, media_type: str) -> ArtifactRef:
    """Stores a file. Raises InvalidRequest FILE_UNREADABLE when it cannot be read."""
    try:
        return store.blobs.put_file(kind, path, media_type=media_type)
    except OSError as error:
        bound = f"cannot be read: {error.strerror or error}"
        raise InvalidRequest(reason="FILE_UNREADABLE", violations=[(str(path), bound)]) from None


def save(store: Store, ref: ArtifactRef, target: Path) -> None:
    """Copies an artifact to a file of its own, verified, never half written."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.parent / f".{target.name}.part"
    scratch.mkdir(exist_ok=True)
    try:
        fetched = store.blobs.fetch(ref, scratch)
        fetched.chmod(0o644)  # the store keeps its files to itself; this copy is the user's
        fetched.replace(target)
    finally:
        for left in scratch.iterdir():
            left.unlink()
        scratch.rmdir()
