"""Audio and waveforms of clips, from the store through a bounded folder of verified copies."""

import json
import logging
import os
import threading
import time
from dataclasses import asdict
from pathlib import Path

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_curation import peaks
from luthier_kit.rpc import SettingsError
from luthier_kit.store import Action, Store

log = logging.getLogger(__name__)
IN_USE_S = 600.0
"""a copy used this recently is not swept: someone may be listening."""
PEAK_WORKERS = 2
MAX_PEAKS_BYTES = 1 << 20


class AudioCache:
    """Copies of clips below one folder, the longest unused swept first. Threads may share it."""

    def __init__(self, store: Store, folder: Path, max_bytes: int) -> None:
        self.store = store
        self.folder = folder
        self.max_bytes = max_bytes
        self._sweeping = threading.Lock()
        _own(folder)
        self._decoding = threading.BoundedSemaphore(PEAK_WORKERS)

    def path(self, audio: ArtifactRef) -> Path:
        """A verified local copy. NotFound, DataLoss, Unavailable as the store says."""
        known = self.folder / audio.key.rsplit("/", 1)[-1]
        if known.is_file() and known.stat().st_size == audio.size_bytes and self.store.blobs.exists(audio):
            _used(known)
            return known
        path = self.store.blobs.fetch(audio, self.folder)
        _used(path)
        self._sweep()
        return path

    def waveform(self, audio: ArtifactRef) -> bytes:
        """JSON of `peaks.peaks_of`, computed once per audio file for everybody: an action named by its digest."""
        action = Action("peaks", inputs=[audio.sha256], parameters={"columns": peaks.COLUMNS}, version=peaks.VERSION)
        ref, _ = self.store.actions.run(action, ArtifactRef, lambda: self._computed(audio))
        return self.store.blobs.read(ref, max_bytes=MAX_PEAKS_BYTES)

    def _computed(self, audio: ArtifactRef) -> ArtifactRef:
        path = self.path(audio)
        with self._decoding:
            found = json.dumps(asdict(peaks.peaks_of(path)), separators=(",", ":")).encode()
        return self.store.blobs.put_bytes("peaks", found, "json", "application/json")

    def _sweep(self) -> None:
        """Forget the longest unused copies until the rest fits."""
        if not self._sweeping.acquire(blocking=False):
            return
        try:
            files = [(path.stat().st_atime, path.stat().st_size, path) for path in self.folder.iterdir()]
            excess = sum(size for _, size, _ in files) - self.max_bytes
            for used_at, size, path in sorted(files):
                if excess <= 0 or time.time() - used_at < IN_USE_S:
                    return
                path.unlink(missing_ok=True)
                excess -= size
        except FileNotFoundError:
            log.debug("a copy went away while sweeping")
        finally:
            self._sweeping.release()


def _own(folder: Path) -> None:
    """Make the folder ours alone: what lies in it is served without looking at its digest again."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise SettingsError(f"LUTHIER_SCRATCH: {folder} belongs to somebody else")


def _used(path: Path) -> None:
    """Remember when it was used; the file system itself may not."""
    os.utime(path, (time.time(), path.stat().st_mtime))
