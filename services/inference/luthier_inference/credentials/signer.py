"""Signs files as the settings say, and reads what others signed, in a process of its own."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference import metrics
from luthier_inference.credentials.certificate import Certificate, for_development, operators
from luthier_inference.credentials.found import MAX_CHARS, found_in
from luthier_inference.credentials.signing import NONE, read, sign
from luthier_inference.credentials.statement import Statement
from luthier_kit.rpc import DeadlineExceeded, Internal, Unavailable
from luthier_kit.workers import Call, Reasons, Workers

log = logging.getLogger(__name__)
SIGNED_TYPES: Final = frozenset({"audio/flac", "audio/wav", "audio/mpeg"})
"""Media types that can hold credentials."""
MAX_JOB_S: Final = 60.0
"""For one file without a time stamp."""
JOBS_PER_WORKER: Final = 1000
UNASKED_S: Final = 60.0
"""For this long an authority that gave no time stamp is not asked again: else each output would wait for it in turn."""
_REASONS: Final = Reasons(
    "file to sign", "SIGNING_CRASHED", "SIGNING_KILLED", "SIGNING_TOO_SLOW", "SIGNING_NOT_STARTED"
)


@dataclass(frozen=True)
class Credentials:
    """What became of a file: its state as the contract has it, and by whom it is signed, empty where it is not."""

    state: "pb.CredentialsState"
    issuer: str = ""
    time_stamp: "pb.TimeStampState" = pb.TIME_STAMP_STATE_OFF


@dataclass(frozen=True)
class TimeAuthority:
    """Who states when a file was signed (RFC 3161): its address, empty for nobody; the seconds that signing may take
    with its stamp, 1 to 30; and whether what has no stamp is refused.
    """

    address: str = ""
    within_s: float = 10.0
    required: bool = False


NOBODY: Final = TimeAuthority()


class _Within:
    """A job's own time, in the form of a call's that nobody ends."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def time_remaining(self) -> float | None:
        return self._seconds

    def add_callback(self, callback: Callable[[], Any]) -> bool | None:
        del callback
        return True


class Signer:
    """Puts credentials into files. `certificate` None: switched off. `anchors`: certificates as PEM that signers of
    files which are read must lead to, empty for none. Threads may share it.
    """

    def __init__(self, certificate: Certificate | None, authority: TimeAuthority = NOBODY, anchors: str = "") -> None:
        self._certificate, self._authority, self._anchors = certificate, authority, anchors
        self._asking, self._unasked_until = threading.Lock(), 0.0  # monotonic
        self._workers = Workers(
            1, _REASONS, max_job_s=MAX_JOB_S, jobs_per_worker=JOBS_PER_WORKER, preload=("c2pa",)
        )  # fmt: skip
        self._tell_expiry()
        if certificate and certificate.for_development:
            log.warning(
                "content credentials are signed by a certificate for development, which no reader trusts: set "
                "LUTHIER_CREDENTIALS_CERTIFICATE and LUTHIER_CREDENTIALS_KEY"
            )

    def named(self, media_type: str) -> dict[str, str]:
        """What names audio that is signed: what was made before there were credentials is made anew with them, and
        what has no time stamp where one is required."""
        if not self._certificate or media_type not in SIGNED_TYPES:
            return {}
        stamped = {"time_stamp": "required"} if self._authority.address and self._authority.required else {}
        return {"credentials": "development" if self._certificate.for_development else "signed", **stamped}

    def check(self, media_type: str) -> None:
        """Unavailable TIME_STAMP_MISSING before anything is computed, where a stamp is required and the authority gave
        none a moment ago."""
        if self._authority.required and self._certificate and media_type in SIGNED_TYPES:
            left_s = self._unasked_until - time.monotonic()
            if left_s > 0:
                raise _missing(left_s)

    def sign(self, path: Path, media_type: str, statement: Statement, call: Call | None = None) -> Credentials:
        """Replaces a file by itself with credentials; its folder is for it alone. Internal SIGNING_FAILED, and what
        `Workers.run` raises: audio that should be signed and is not, is never given away. Unavailable
        TIME_STAMP_MISSING where a stamp is required and the authority gives none.
        """
        if not self._certificate:
            return Credentials(pb.CREDENTIALS_STATE_OFF)
        if media_type not in SIGNED_TYPES:
            return Credentials(pb.CREDENTIALS_STATE_FORMAT_HOLDS_NONE)
        signed, certificate = path.with_name(f"signed-{path.name}"), self._certificate

        def signed_by(authority: str, call: Call | None) -> None:
            signed.unlink(missing_ok=True)
            self._workers.run(
                call, path.parent, sign, path, signed, media_type, statement.document(), certificate.chain,
                certificate.key, certificate.algorithm, authority,
            )  # fmt: skip

        stamp = self._stamped(signed_by)
        try:
            if stamp != pb.TIME_STAMP_STATE_STAMPED:
                signed_by("", call)  # also where none is given away without a stamp: is it the authority's fault?
        except RuntimeError as error:
            raise Internal(f"the audio cannot be signed: {error}", reason="SIGNING_FAILED") from None
        if self._authority.required and stamp == pb.TIME_STAMP_STATE_NOT_GIVEN:
            raise _missing(max(1.0, self._unasked_until - time.monotonic()))
        signed.replace(path)
        self._tell_expiry()
        if stamp == pb.TIME_STAMP_STATE_NOT_GIVEN:
            metrics.UNSTAMPED.inc()
        development = certificate.for_development
        state = pb.CREDENTIALS_STATE_SIGNED_FOR_DEVELOPMENT if development else pb.CREDENTIALS_STATE_SIGNED
        return Credentials(state, certificate.issuer, stamp)

    def _stamped(self, signed_by: Callable[[str, Call | None], None]) -> "pb.TimeStampState":
        """Signs with a stamp where there is an authority. One file at a time: while one waits for an authority that
        does not answer, the others learn that it does not."""
        if not self._authority.address:
            return pb.TIME_STAMP_STATE_OFF
        with self._asking:
            if time.monotonic() < self._unasked_until:
                return pb.TIME_STAMP_STATE_NOT_GIVEN
            try:
                signed_by(self._authority.address, _Within(self._authority.within_s))
            except (RuntimeError, DeadlineExceeded) as error:
                self._unasked_until = time.monotonic() + UNASKED_S
                log.warning("no time stamp: %s; the authority is asked again in %.0f s", error, UNASKED_S)
                return pb.TIME_STAMP_STATE_NOT_GIVEN
        return pb.TIME_STAMP_STATE_STAMPED

    def _tell_expiry(self) -> None:
        if self._certificate and not self._certificate.for_development:
            metrics.CERTIFICATE_EXPIRES.set(self._certificate.expires_at())

    def found_in(self, path: Path, media_type: str, call: Call, anchors: str = "") -> pb.FoundCredentials:
        """What credentials a file has; its folder is for it alone. `anchors` in place of the signer's own, as PEM.
        What `Workers.run` raises."""
        if media_type not in SIGNED_TYPES:
            return pb.FoundCredentials(finding=pb.CREDENTIALS_FINDING_NONE)
        anchors = anchors or self._anchors
        try:
            told = self._workers.run(call, path.parent, read, path, media_type, anchors)
            if told == NONE:
                return pb.FoundCredentials(finding=pb.CREDENTIALS_FINDING_NONE)
            return found_in(told, listed=bool(anchors))
        except (RuntimeError, ValueError) as error:
            return pb.FoundCredentials(finding=pb.CREDENTIALS_FINDING_UNREADABLE, faults=[str(error)[:MAX_CHARS]])

    def close(self) -> None:
        """Ends the process."""
        self._workers.close()


def signer_of(certificate: str, key: str, authority: TimeAuthority, folder: Path, anchors: str = "") -> Signer:
    """A signer by these paths, or where they are empty by a certificate for development in `folder`. SettingsError."""
    own = operators(Path(certificate), Path(key)) if certificate else for_development(folder)
    return Signer(own, authority, anchors)


def _missing(retry_after_s: float) -> Unavailable:
    text = "the authority gave no time stamp, and without one no audio is given away here"
    return Unavailable(text, reason="TIME_STAMP_MISSING", retry_after_s=retry_after_s)
