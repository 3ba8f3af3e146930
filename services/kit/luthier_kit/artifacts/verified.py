"""A reader that hands out the last byte only when all bytes have the expected digest."""

from __future__ import annotations

import hashlib
import io
from typing import BinaryIO

from luthier_kit.errors import DataLoss


class VerifiedReader(io.RawIOBase):
    """Wraps the source of an upload: an upload of other bytes than announced fails before it is complete.

    Reading raises DataLoss ARTIFACT_SOURCE_CHANGED when the source is shorter, longer or has another SHA-256.
    """

    def __init__(self, source: BinaryIO, sha256: str, size_bytes: int) -> None:
        self._source, self._sha256, self._left = source, sha256, size_bytes
        self._digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._source.read(min(len(buffer), self._left))
        self._digest.update(data)
        self._left -= len(data)
        changed = not data and self._left
        if not self._left:
            changed = self._digest.hexdigest() != self._sha256 or self._source.read(1) != b""
        if changed:
            text = f"the source of {self._sha256} changed while it was stored"
            raise DataLoss(text, reason="ARTIFACT_SOURCE_CHANGED")
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._source.close()
        super().close()
