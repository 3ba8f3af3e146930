"""Fills in an admission policy of deploy/policies and prints it.

python3 -m deploy.images.admission policy-controller --key cosign.pub --images 'my-registry/luthier/*'
python3 -m deploy.images.admission kyverno --key cosign.pub --images 'my-registry/luthier/*'
python3 -m deploy.images.admission kubernetes --records dist/images --digest sha256:…
"""

import argparse
import json
import re
import sys
import textwrap
from pathlib import Path
from string import Template

POLICIES = Path(__file__).parents[1] / "policies"
KINDS = ("policy-controller", "kyverno", "kubernetes")
PUBLIC_KEY = re.compile(r"-----BEGIN PUBLIC KEY-----\n[A-Za-z0-9+/=\n]+-----END PUBLIC KEY-----\n?")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
GLOB = re.compile(r"[a-z0-9.:/_*-]+")


def policy(kind: str, *, key: str = "", images: str = "", digests: tuple[str, ...] = ()) -> str:
    """The manifests of a policy of `KINDS`.

    Raises:
        ValueError: `key` is no public key (PEM), `images` no pattern of names, a digest none; or one that is needed is
            missing.
    """
    text = (POLICIES / f"{kind}.yaml").read_text()
    if kind == "kubernetes":
        if not digests:
            raise ValueError("digests: at least one, got none")
        if wrong := [each for each in digests if not DIGEST.fullmatch(each)]:
            raise ValueError(f"digests: sha256:… of 64 hexadecimal digits, got {wrong[0]!r}")
        return Template(text).substitute(digests=textwrap.indent("\n".join(sorted(set(digests))), " " * 4))
    if not PUBLIC_KEY.fullmatch(key):
        raise ValueError("key: a public key in PEM, as `cosign public-key` prints it")
    if not GLOB.fullmatch(images):
        raise ValueError(f"images: a pattern of names, such as my-registry/luthier/*, got {images!r}")
    indent = re.search(r"data: \|\n", text)
    assert indent
    column = indent.start() - text.rindex("\n", 0, indent.start()) - 1
    return Template(text).substitute(images=images, key=textwrap.indent(key.strip(), " " * (column + 2)))


def published(records: Path) -> tuple[str, ...]:
    """Digests of the images that have a provenance below a folder of `make publish`."""
    subjects = [json.loads(path.read_text())["subject"] for path in sorted(records.glob("*/provenance.json"))]
    return tuple(f"sha256:{subject['digest']['sha256']}" for each in subjects for subject in each)


def main() -> None:
    """Exits with 1 when an argument is missing or wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--key", type=Path, help="the public key")
    parser.add_argument("--images", default="", help="pattern of the names that must be signed")
    parser.add_argument("--records", type=Path, help="folder of what `make publish` wrote: its images are allowed")
    parser.add_argument("--digest", action="append", default=[], help="further images that are allowed")
    options = parser.parse_args()
    digests = (*(published(options.records) if options.records else ()), *options.digest)
    key = options.key.read_text() if options.key else ""
    try:
        print(policy(options.kind, key=key, images=options.images, digests=digests), end="")
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
