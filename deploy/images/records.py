"""What is told about a built image: its parts (CycloneDX 1.6) and how it was built (SLSA provenance 1, of in-toto).

syft reads the packages from the image's own file system: Debian's, Python's, and the modules of Go programs, each with
version and licence. A Python package also gets the digests of the distributions that the lock allows for it.
"""

import hashlib
import json
import platform
import re
import subprocess
import tempfile
import tomllib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SYFT: Final = ROOT / ".tools/bin/syft"
BUILD_TYPE: Final = "urn:luthier:make-images:1"
"""The kind of build: `make images` of the source, with externalParameters as `Build` has them."""
STATEMENT: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = "https://slsa.dev/provenance/v1"


@dataclass(frozen=True)
class Image:
    """A built image.

    Attributes:
        reference: its name with the tag, by which the builder knows it.
        digest: sha256:…: of its manifest once it was pushed, before that the builder's id of it.
    """

    reference: str
    digest: str

    @property
    def pinned(self) -> str:
        """The name with the digest: what is signed."""
        return f"{repository(self.reference)}@{self.digest}"


@dataclass(frozen=True)
class Material:
    """What went into a build: where it is from, and its digest by algorithm ({} = not known)."""

    uri: str
    digest: dict[str, str]


@dataclass(frozen=True)
class Build:
    """How an image was built.

    Attributes:
        name: as `make images` takes it, such as `analysis-deeprhythm`.
        dockerfile: path from the repository's root.
        arguments: build arguments of ours; the operator's own (IMAGE_BUILD_ARGS) may hold secrets and are not told.
        builder: docker or buildah, and its version.
        builder_id: who built: a URI (BUILDER_ID).
        clean: whether the source was as committed.
        started, finished: with their time zone.
    """

    name: str
    dockerfile: str
    arguments: list[str]
    builder: str
    builder_id: str
    clean: bool
    started: datetime
    finished: datetime
    materials: list[Material]


def repository(reference: str) -> str:
    """A name without its tag; a registry's port is no tag."""
    return re.sub(r":[^:/]+$", "", reference)


def file_material(path: Path) -> Material:
    """A file of the source, by its path from the root."""
    return Material(str(path.relative_to(ROOT)), {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()})


def provenance(image: Image, build: Build) -> dict[str, object]:
    """The statement of https://slsa.dev/spec/v1.0/provenance. It is the builder's own word: level 1, signed or not."""
    return {
        "_type": STATEMENT,
        "subject": [{"name": repository(image.reference), "digest": _algorithm(image.digest)}],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "image": build.name,
                    "reference": image.reference,
                    "dockerfile": build.dockerfile,
                    "buildArguments": build.arguments,
                    "sourceAsCommitted": build.clean,
                },
                "internalParameters": {"builder": build.builder, "architecture": platform.machine()},
                "resolvedDependencies": [_descriptor(material) for material in build.materials],
            },
            "runDetails": {
                "builder": {"id": build.builder_id},
                "metadata": {
                    "invocationId": f"urn:uuid:{uuid.uuid4()}",
                    "startedOn": build.started.isoformat(timespec="seconds"),
                    "finishedOn": build.finished.isoformat(timespec="seconds"),
                },
            },
        },
    }


def _descriptor(material: Material) -> dict[str, object]:
    return {"uri": material.uri, **({"digest": material.digest} if material.digest else {})}


def _algorithm(digest: str) -> dict[str, str]:
    algorithm, _, value = digest.partition(":")
    return {algorithm: value}


def bill(image: Image, builder: str, lock: Path | None) -> dict[str, object]:
    """The CycloneDX document of an image. `lock`: the uv.lock that its Python packages are from, if it has any.

    Raises:
        subprocess.CalledProcessError: the image cannot be read.
    """
    with _readable(image.reference, builder) as source, tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "bill.json")
        # as in an image: what is installed, not what a lock that lies there declares
        options = ["--override-default-catalogers=image", "--quiet", f"--output=cyclonedx-json@1.6={written}"]
        subprocess.run([SYFT, "scan", source, *options], check=True, env=_environment(folder))
        document = json.loads(written.read_text())
    return completed(document, image, hashes(lock) if lock else {})


def _environment(folder: str) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "HOME": folder, "SYFT_CHECK_FOR_APP_UPDATE": "false"}


@contextmanager
def _readable(reference: str, builder: str) -> Iterator[str]:
    """What syft reads an image from: of buildah its mounted file system, without a copy."""
    if builder == "docker":
        yield f"docker:{reference}"
        return
    container = _output("buildah", "from", "--pull-never", reference)
    try:
        yield f"dir:{_output('buildah', 'mount', container)}"
    finally:
        _output("buildah", "rm", container)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def completed(document: dict[str, object], image: Image, known: dict[str, dict[str, str]]) -> dict[str, object]:
    """syft's document with the image as its subject and the digests of distributions.

    `known`: address -> sha256 of the distributions, by a package's `name==version`.
    """
    kept = [each for each in _list(document, "components") if each.get("type") != "file"]
    for component in kept:
        files = known.get(f"{normal(str(component.get('name')))}=={component.get('version')}", {})
        if str(component.get("purl")).startswith("pkg:pypi/") and files:
            component["externalReferences"] = [
                *_list(component, "externalReferences"),
                *(
                    {"type": "distribution", "url": url, "hashes": [{"alg": "SHA-256", "content": digest}]}
                    for url, digest in sorted(files.items())
                ),
            ]
    name = repository(image.reference)
    metadata = document["metadata"]
    assert isinstance(metadata, dict)
    subject = {
        "bom-ref": image.pinned,
        "type": "container",
        "name": name,
        "version": image.digest,
        "purl": f"pkg:oci/{name.rpartition('/')[2]}@{image.digest.replace(':', '%3A')}",
    }
    return {
        **document,
        # the same image has the same serial number
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, image.pinned)}",
        "metadata": {**metadata, "component": subject},
        "components": kept,
    }


def _list(document: dict[str, object], key: str) -> list[dict[str, object]]:
    value = document.get(key, [])
    assert isinstance(value, list)
    return value


def normal(name: str) -> str:
    """A distribution's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def hashes(lock: Path) -> dict[str, dict[str, str]]:
    """Address -> sha256 of each distribution that a lock allows, by `name==version`."""
    found: dict[str, dict[str, str]] = {}
    for package in tomllib.loads(lock.read_text())["package"]:
        files = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
        own = {each["url"]: each["hash"].removeprefix("sha256:") for each in files if "url" in each and "hash" in each}
        if own:
            found[f"{normal(package['name'])}=={package['version']}"] = own
    return found
