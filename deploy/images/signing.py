"""Signs an image and attaches its bill of materials and provenance as signed attestations, by cosign.

The key is a file or the name of one in a KMS, as cosign takes it; a file's password comes from COSIGN_PASSWORD. Nothing
is sent to a transparency log unless TLOG=1.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

COSIGN: Final = Path(__file__).parents[2] / ".tools/bin/cosign"


@dataclass(frozen=True)
class Signer:
    """How to sign.

    Attributes:
        key: a file, or a key of a KMS (`awskms://…`, `gcpkms://…`, `hashivault://…`).
        log: whether a signature is told to the public transparency log.
        plain_http: whether the registry speaks HTTP without TLS.
        program: cosign.
    """

    key: str
    log: bool = False
    plain_http: bool = False
    program: Path = COSIGN

    @classmethod
    def from_environ(cls, key: str, environ: Mapping[str, str]) -> "Signer":
        """The signer of `make publish SIGN_KEY=…`."""
        return cls(key, bool(environ.get("TLOG")), bool(environ.get("PLAIN_HTTP")))

    def sign(self, image: str) -> None:
        """Signs an image, which is a name with a digest: a tag may mean another one by the time that it is read."""
        if "@sha256:" not in image:
            raise ValueError(f"an image is signed by its digest, got {image!r}")
        self._run("sign", image)

    def attest(self, image: str, kind: str, predicate: str) -> None:
        """Attaches a predicate to an image, as `cyclonedx` or `slsaprovenance1`, in a signed statement about it."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "predicate.json")
            file.write_text(predicate)
            self._run("attest", f"--type={kind}", f"--predicate={file}", "--replace", image)

    def _run(self, word: str, *arguments: str) -> None:
        options = [f"--key={self.key}", f"--tlog-upload={str(self.log).lower()}", "--yes"]
        if self.plain_http:
            options.append("--allow-http-registry")
        done = subprocess.run([self.program, word, *options, *arguments], env=dict(os.environ), check=False)
        if done.returncode:
            sys.exit(f"cosign {word} failed with {done.returncode}: {arguments[-1]}")
