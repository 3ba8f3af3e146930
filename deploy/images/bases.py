"""Base images of the Dockerfiles: their names, and the digests by which they are taken.

    python3 -m deploy.images.bases          asks the registry for the digest of each and writes bases.json

Each Dockerfile names its base by an argument (PYTHON, DEBIAN, GO), whose default is the name with its tag.
`make images` gives it as name@digest where bases.json has one. A digest is that of the index of all platforms.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

FILE = Path(__file__).with_name("bases.json")
CRANE = Path(__file__).parents[2] / ".tools/bin/crane"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Base:
    """A base image: its name with a tag, and its digest, such as sha256:…, or "" while none is known."""

    name: str
    digest: str

    @property
    def reference(self) -> str:
        """What FROM is given: by digest where one is known, without the tag, as builders refuse both."""
        return f"{self.name.rpartition(':')[0]}@{self.digest}" if self.digest else self.name


def read(file: Path = FILE) -> dict[str, Base]:
    """The bases by the name of their argument."""
    return {argument: Base(**entry) for argument, entry in json.loads(file.read_text()).items()}


def used(dockerfile: str) -> list[str]:
    """Arguments of the bases that the text of a Dockerfile names in a FROM."""
    return sorted(set(re.findall(r"^FROM \$\{([A-Z]+)\}", dockerfile, re.MULTILINE)) & read().keys())


def resolve(file: Path, digest_of: Callable[[str], str]) -> list[str]:
    """Writes the digests that `digest_of` tells of each name. Returns a line for each that changed."""
    before = read(file)
    after = {argument: replace(base, digest=digest_of(base.name)) for argument, base in before.items()}
    entries = [f"  {json.dumps(argument)}: {json.dumps(asdict(base))}" for argument, base in sorted(after.items())]
    file.write_text("{\n" + ",\n".join(entries) + "\n}\n")
    return [
        f"{base.name}: {before[argument].digest or 'by tag'} -> {base.digest}"
        for argument, base in after.items()
        if base != before[argument]
    ]


def asked(name: str, crane: Path = CRANE) -> str:
    """The digest of a name, by its registry. Exits with 1 when the registry does not tell one."""
    done = subprocess.run([crane, "digest", name], capture_output=True, text=True, check=False)
    if not DIGEST.fullmatch(done.stdout.strip()):
        sys.exit(f"{name}: the registry tells no digest: {done.stderr.strip()}")
    return done.stdout.strip()


if __name__ == "__main__":
    print("\n".join(resolve(FILE, asked)) or "every base image is the one of bases.json")
