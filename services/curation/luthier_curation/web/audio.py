"""Audio and pictures of clips, from the store through a bounded folder of verified copies."""

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from luthier.common.v1.common_pb2 import ArtifactRef, Span
from luthier_curation import peaks, spectrogram
from luthier_kit.rpc import DataLoss, SettingsError
from luthier_kit.store import Action, Store
from luthier_music.audio import AudioError, read_audio, write_audio

log = logging.getLogger(__name__)
IN_USE_S = 600.0
"""a copy used this recently is not swept: someone may be listening."""
PEAK_WORKERS = 2
MAX_PICTURE_BYTES = 4 << 20


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

    def waveform(self, audio: ArtifactRef, columns: int) -> bytes:
        """`peaks.peaks_of` as audiowaveform's binary format, computed once per audio file for everybody: an action
        named by its digest."""
        action = Action("peaks", inputs=[audio.sha256], parameters={"columns": columns}, version=peaks.VERSION)
        return self._picture(action, audio, "dat", "application/octet-stream", lambda path: self._dat(path, columns))

    def spectrogram(self, audio: ArtifactRef) -> bytes:
        """`spectrogram.spectrogram_png`, computed once likewise."""
        action = Action("spectrogram", inputs=[audio.sha256], version=spectrogram.VERSION)
        return self._picture(action, audio, "png", "image/png", spectrogram.spectrogram_png)

    def excerpt(self, audio: ArtifactRef, span: Span) -> Path:
        """A FLAC of a span of a longer file, kept beside the copies. As `path`; DataLoss for what is no audio, or ends
        before the span begins."""
        name = f"{audio.sha256}-{round(span.start_s * 1000)}-{round(span.end_s * 1000)}.flac"
        known = self.folder / name
        if known.is_file() and self.store.blobs.exists(audio):
            _used(known)
            return known
        whole = self.path(audio)
        part = self.folder / f"{uuid.uuid4().hex}.flac"
        try:
            with self._decoding:
                samples, rate = read_audio(whole, start_s=span.start_s, duration_s=span.end_s - span.start_s)
                if not len(samples):
                    raise DataLoss(f"{audio.key} ends before {span.start_s:g} s", reason="AUDIO_UNREADABLE")
                write_audio(part, samples, rate)
            part.rename(known)
        except AudioError as error:
            raise DataLoss(f"{audio.key} cannot be decoded: {error}", reason="AUDIO_UNREADABLE") from error
        finally:
            part.unlink(missing_ok=True)
        self._sweep()
        return known

    def _picture(
        self, action: Action, audio: ArtifactRef, ext: str, media_type: str, draw: Callable[[Path], bytes]
    ) -> bytes:
        def computed() -> ArtifactRef:
            path = self.path(audio)
            with self._decoding:
                found = draw(path)
            return self.store.blobs.put_bytes("peaks", found, ext, media_type)

        ref, _ = self.store.actions.run(action, ArtifactRef, computed)
        return self.store.blobs.read(ref, max_bytes=MAX_PICTURE_BYTES)

    @staticmethod
    def _dat(path: Path, columns: int) -> bytes:
        return peaks.peaks_of(path, columns).dat()

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
