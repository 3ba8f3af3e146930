"""Signs files as the settings say, and reads what others signed, in a process of its own."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference.credentials.certificate import Certificate, for_development, operators
from luthier_inference.credentials.found import MAX_CHARS, found_in
from luthier_inference.credentials.signing import NONE, read, sign
from luthier_inference.credentials.statement import Statement
from luthier_kit.rpc import Internal
from luthier_kit.workers import Call, Reasons, Workers

log = logging.getLogger(__name__)
SIGNED_TYPES: Final = frozenset({"audio/flac", "audio/wav", "audio/mpeg"})
"""Media types that can hold credentials."""
MAX_JOB_S: Final = 60.0
"""For one file; a time-stamping authority may be slow."""
JOBS_PER_WORKER: Final = 1000
_REASONS: Final = Reasons(
    "file to sign", "SIGNING_CRASHED", "SIGNING_KILLED", "SIGNING_TOO_SLOW", "SIGNING_NOT_STARTED"
)


@dataclass(frozen=True)
class Credentials:
    """What became of a file: its state as the contract has it, and by whom it is signed, empty where it is not."""

    state: "pb.CredentialsState"
    issuer: str = ""


class Signer:
    """Puts credentials into files. `certificate` None: switched off. Threads may share it."""

    def __init__(self, certificate: Certificate | None, authority: str = "") -> None:
        self._certificate, self._authority = certificate, authority
        self._workers = Workers(
            1, _REASONS, max_job_s=MAX_JOB_S, jobs_per_worker=JOBS_PER_WORKER, preload=("c2pa",)
        )  # fmt: skip
        if certificate and certificate.for_development:
            log.warning(
                "content credentials are signed by a certificate for development, which no reader trusts: set "
                "LUTHIER_CREDENTIALS_CERTIFICATE and LUTHIER_CREDENTIALS_KEY"
            )

    def named(self, media_type: str) -> dict[str, str]:
        """What names audio that is signed: what was made before there were credentials is made anew with them."""
        if not self._certificate or media_type not in SIGNED_TYPES:
            return {}
        return {"credentials": "development" if self._certificate.for_development else "signed"}

    def sign(self, path: Path, media_type: str, statement: Statement, call: Call | None = None) -> Credentials:
        """Replaces a file by itself with credentials; its folder is for it alone. Internal SIGNING_FAILED, and what
        `Workers.run` raises: audio that should be signed and is not, is never given away.
        """
        if not self._certificate:
            return Credentials(pb.CREDENTIALS_STATE_OFF)
        if media_type not in SIGNED_TYPES:
            return Credentials(pb.CREDENTIALS_STATE_FORMAT_HOLDS_NONE)
        signed, certificate = path.with_name(f"signed-{path.name}"), self._certificate
        try:
            self._workers.run(
                call, path.parent, sign, path, signed, media_type, statement.document(), certificate.chain,
                certificate.key, certificate.algorithm, self._authority,
            )  # fmt: skip
        except RuntimeError as error:
            raise Internal(f"the audio cannot be signed: {error}", reason="SIGNING_FAILED") from None
        signed.replace(path)
        development = certificate.for_development
        state = pb.CREDENTIALS_STATE_SIGNED_FOR_DEVELOPMENT if development else pb.CREDENTIALS_STATE_SIGNED
        return Credentials(state, certificate.issuer)

    def found_in(self, path: Path, media_type: str, call: Call) -> pb.FoundCredentials:
        """What credentials a file has; its folder is for it alone. What `Workers.run` raises."""
        if media_type not in SIGNED_TYPES:
            return pb.FoundCredentials(finding=pb.CREDENTIALS_FINDING_NONE)
        try:
            told = self._workers.run(call, path.parent, read, path, media_type)
            return pb.FoundCredentials(finding=pb.CREDENTIALS_FINDING_NONE) if told == NONE else found_in(told)
        except (RuntimeError, ValueError) as error:
            return pb.FoundCredentials(finding=pb.CREDENTIALS_FINDING_UNREADABLE, faults=[str(error)[:MAX_CHARS]])

    def close(self) -> None:
        """Ends the process."""
        self._workers.close()


def signer_of(certificate: str, key: str, authority: str, folder: Path) -> Signer:
    """A signer by these paths, or where they are empty by a certificate for development in `folder`. SettingsError."""
    if certificate:
        return Signer(operators(Path(certificate), Path(key)), authority)
    return Signer(for_development(folder), authority)
