"""What a file says of itself and what is known of it: credentials, watermark, output by its bytes and by its sound."""

import hashlib
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, Final

import soundfile

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference.audio import FORMATS
from luthier_inference.credentials.signer import Signer
from luthier_inference.decoding import MAX_HEARD_S, Decoded, decode
from luthier_inference.generator import KIND, STAGE
from luthier_inference.known_outputs.kept import KnownOutputs
from luthier_inference.watermark import ID_CHARS, SURE, ReadPayload, Watermarker
from luthier_kit.rpc import Cancelled, LuthierError, NotFound
from luthier_kit.store import Store
from luthier_kit.workers import Call, Reasons, Workers

MAX_UPLOAD_BYTES: Final = 64 << 20
"""Of a file that is sent to the page."""
MAX_JOB_S: Final = 60.0
MEDIA_TYPES: Final = {"flac": "audio/flac", "wav": "audio/wav", "mp3": "audio/mpeg"}
"""Of files that can hold content credentials, by their extension."""
_REASONS: Final = Reasons("file", "AUDIO_CRASHED", "AUDIO_KILLED", "AUDIO_TOO_SLOW", "AUDIO_NOT_STARTED")


@dataclass
class Upload:
    """A file that was sent: the name that it is looked into by, and its path."""

    name: str
    path: Path

    def named_by_its_kind(self) -> None:
        """Gives the file the extension of what it begins as; what is none of these keeps having none."""
        with self.path.open("rb") as file:
            self.path = self.path.replace(self.path.with_suffix(f".{_extension_of(file)}"))


class Uploads:
    """Files that the HTTP front of this process was sent, below `scratch`, by names that nobody can guess."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._there: dict[str, Upload] = {}

    @contextmanager
    def room(self) -> Iterator[Upload]:
        """Room for one; it is gone afterwards."""
        with TemporaryDirectory(dir=self._scratch, prefix="upload-") as folder:
            upload = Upload(secrets.token_urlsafe(32), Path(folder) / "upload")
            self._there[upload.name] = upload
            try:
                yield upload
            finally:
                del self._there[upload.name]

    def path_of(self, name: str) -> Path:
        """The file of a name. NotFound UPLOAD_NOT_FOUND."""
        if name not in self._there:
            raise NotFound("no such upload: callers of gRPC name audio", reason="UPLOAD_NOT_FOUND")
        return self._there[name].path


def _extension_of(file: BinaryIO) -> str:
    """By the first bytes of a file, behind an ID3v2 tag: a FLAC with credentials begins with one, too."""
    head = file.read(12)
    tagged = head[:3] == b"ID3" and len(head) >= 10
    if tagged:
        size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        file.seek(10 + size)
        head = file.read(12)
    if head[:4] == b"fLaC":
        return "flac"
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        return "wav"
    if head[:4] == b"OggS":
        return "ogg"
    return "mp3" if tagged or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0) else "bin"


class Detector:
    """Looks into files. A process of its own decodes them. Threads may share it."""

    def __init__(self, store: Store, signer: Signer, watermarker: Watermarker, known: KnownOutputs) -> None:
        self._store, self._signer, self._watermarker, self._known = store, signer, watermarker, known
        self._workers = Workers(1, _REASONS, max_job_s=MAX_JOB_S, jobs_per_worker=100)

    def close(self) -> None:
        """Ends the process."""
        self._workers.close()

    def detect(
        self, path: Path, sha256: str | None, stop: threading.Event, call: Call, anchors: str = ""
    ) -> pb.DetectMarksResponse:
        """What is found in a file, whose folder is for it alone; `sha256` None: it is no blob of the store's;
        `anchors`: certificates that signers must lead to, as PEM, empty for the operator's. Cancelled and what
        `Workers.run` raises."""
        extension = path.suffix.removeprefix(".").lower()
        response = pb.DetectMarksResponse(
            credentials=self._signer.found_in(path, MEDIA_TYPES.get(extension, ""), call, anchors),
            output_key=self._output_of(path, sha256, extension),
            watermark=pb.FoundWatermark(finding=pb.WATERMARK_FINDING_NOT_LOOKED_FOR),
        )
        with TemporaryDirectory(dir=path.parent, prefix="sound-") as name:
            sound = Path(name) / "sound.wav"
            try:
                decoded = self._workers.run(call, sound.parent, decode, path, sound)
            except Cancelled:
                raise
            except (
                LuthierError
            ) as error:  # a reader that crashed, or needed too long, of a file that may be made for it
                decoded = Decoded(fault=str(error)[:200])
            if decoded.fault:
                response.notes.append(f"its sound was not listened to: {decoded.fault}")
                return response
            if decoded.cut:
                response.notes.append(f"only its first {MAX_HEARD_S:g} s were listened to")
            self._listen(sound, response, stop)
        if stop.is_set():
            raise Cancelled("the caller went away while the file was looked into")
        return response

    def _listen(self, sound: Path, response: pb.DetectMarksResponse, stop: threading.Event) -> None:
        if self._watermarker.on:
            response.watermark.CopyFrom(self._watermark_of(self._watermarker.read(sound, stop)))
        if self._known.on:
            samples, rate_hz = soundfile.read(sound, dtype="float32", always_2d=True)
            found = self._known.search(samples, rate_hz, stop.is_set)
            response.known.extend(found.outputs)
            response.listened_for = found.among
        else:
            response.notes.append("no log of outputs is kept here (LUTHIER_OUTPUT_LOG_MIB)")

    def _watermark_of(self, read: list[ReadPayload]) -> pb.FoundWatermark:
        """The first payload that leads to a record: others are chance, or by the same key of another installation."""
        actions = {payload.id: self._known.action_of(payload.id) for payload in read}
        if not any(actions.values()):  # the entry in the log may have expired: records have not
            actions = self._recorded({payload.id for payload in read if payload.rating >= SURE})
        for payload in read:
            if action := actions.get(payload.id):
                return pb.FoundWatermark(
                    finding=pb.WATERMARK_FINDING_KNOWN, id=payload.id, action_key=action, at_s=payload.at_s
                )
        return pb.FoundWatermark(finding=pb.WATERMARK_FINDING_NONE)

    def _recorded(self, payloads: set[str]) -> dict[str, str]:
        """Keys of the records whose digests begin so."""
        folder = f"actions/{STAGE}/"
        keys = self._store.objects.keys(folder) if payloads else ()
        return {start: key for key in keys if (start := key[len(folder) :][:ID_CHARS]) in payloads}

    def _output_of(self, path: Path, sha256: str | None, extension: str) -> str:
        """Key under which these bytes are stored as an output; empty where they are not."""
        if extension not in {form.extension for form in FORMATS.values()}:
            return ""
        if sha256 is None:
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        stored = ArtifactRef(key=f"{KIND}/{sha256}.{extension}", sha256=sha256, size_bytes=path.stat().st_size)
        return stored.key if self._store.blobs.exists(stored) else ""
