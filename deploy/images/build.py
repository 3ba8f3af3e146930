"""Builds the images of Luthier with docker or buildah and prints their sizes; `make images` calls it.

    python3 -m deploy.images.build --registry my-registry/luthier --tag 0.1.0 --push rendering pipeline

Of each image it writes a bill of materials and a provenance to `--records` where syft is; with `--push` and
`--sign-key` it signs the image and attaches both.

Environment: BUILDER is the program (default: docker where its engine answers, else buildah), IMAGE_BUILD_ARGS are
further arguments of its build command, for example a proxy, a certificate or another runtime; BASES=tags takes the base
images by their tags; BUILDER_ID is the URI of who builds; PLAIN_HTTP=1 pushes to a registry without TLS; TLOG=1 tells
signatures to the public transparency log.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from deploy.images import bases, records
from deploy.images.records import Build, Image, Material
from deploy.images.signing import Signer
from deploy.images.sizes import table

ROOT = Path(__file__).parents[2]
BUILDERS = ("docker", "buildah")
UPON_INFERENCE = "inference-audiowmark"
"""The image that is built upon inference's of the same registry and tag."""
HOST_PROGRAMS = {"minio": ROOT / ".tools/bin/minio", "collector": ROOT / ".tools/bin/otelcol"}
"""Third-party programs that make compiles where Go is installed; an image copies one instead of compiling it again."""
LABEL = "org.opencontainers.image"
EPOCH_S = 315_532_800
"""Seconds from 1970 to 1980-01-01, the time of every file and image: one build after another gives the same digests,
and a layer that did not change is the same blob in every version. 1980 is the earliest that a zip file can say."""


def main() -> None:
    """Builds the named images. Exits with 1 when the builder is missing or an image cannot be built or signed."""
    options = _options()
    builder = _builder(os.environ)
    extra = shlex.split(os.environ.get("IMAGE_BUILD_ARGS", ""))
    labelled = labels(options)
    signer = Signer.from_environ(options.sign_key, os.environ) if options.sign_key else None
    if signer and not (options.push and records.SYFT.exists() and signer.program.exists()):
        sys.exit("an image is signed where it is pushed, with syft and cosign at hand: make publish SIGN_KEY=…")
    images = [f"{options.registry}/{name}:{options.tag}" for name in options.names]
    for name, reference in zip(options.names, images, strict=True):
        started = datetime.now(UTC)
        upon = f"{options.registry}/inference:{options.tag}" if name == UPON_INFERENCE else ""
        base = [f"INFERENCE={upon}"] if upon else []
        given = [f"--build-arg={each}" for each in base]
        _run([*command(builder, name), *given, *labelled, *extra, "-t", reference, str(ROOT)])
        finished = datetime.now(UTC)
        print(f"{reference}: {(finished - started).total_seconds():.0f} s", flush=True)
        digest = _pushed(builder, reference) if options.push else ""
        if not records.SYFT.exists():
            print(f"{reference}: no bill of materials, syft is not here (make image-tools)")
            continue
        image = Image(reference, digest or _id(builder, reference))
        build = Build(
            name=name,
            dockerfile=str(dockerfile(name).relative_to(ROOT)),
            arguments=[*arguments(name), *base],
            builder=_output(builder, "--version"),
            builder_id=os.environ.get("BUILDER_ID", "urn:luthier:unnamed-builder"),
            clean=not _git("status", "--porcelain"),
            started=started,
            finished=finished,
            materials=materials(builder, name, upon),
        )
        image = Image(reference, digest or _id(builder, reference))
        _record(image, build, builder, options.records / name, signer)
    print(table(builder, images))


def _record(image: Image, build: Build, builder: str, folder: Path, signer: Signer | None) -> None:
    """Writes bill of materials and provenance, and signs the image with both where a signer is given."""
    bill = records.bill(image, builder, lock(build.name))
    provenance = records.provenance(image, build)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bill.cdx.json").write_text(json.dumps(bill, indent=1) + "\n")
    (folder / "provenance.json").write_text(json.dumps(provenance, indent=1) + "\n")
    if signer:
        signer.sign(image.pinned)
        signer.attest(image.pinned, "cyclonedx", json.dumps(bill))
        signer.attest(image.pinned, "slsaprovenance1", json.dumps(provenance["predicate"]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "names", nargs="+", help="services, pipeline, analysis-models, folders of deploy/ with a Dockerfile"
    )
    parser.add_argument("--registry", required=True)
    parser.add_argument("--tag", required=True)
    parser.add_argument("--push", action="store_true", help="push each image once it is built")
    parser.add_argument(
        "--records", type=Path, default=ROOT / "dist/images", help="folder of what is told of each image"
    )
    parser.add_argument("--sign-key", default="", help="file or KMS name of the key that signs what is pushed")
    return parser.parse_args()


def _builder(environ: "os._Environ[str]") -> str:
    named = environ.get("BUILDER")
    if named and named not in BUILDERS:
        sys.exit(f"BUILDER must be one of {', '.join(BUILDERS)}, got {named!r}")
    found = next((program for program in ([named] if named else BUILDERS) if _works(program)), None)
    return found or sys.exit(f"images are built by {named or ' or '.join(BUILDERS)}, which does not work here")


def _works(program: str) -> bool:
    """Whether the program is installed and its engine, if it has one, answers."""
    return (
        bool(shutil.which(program))
        and not subprocess.run([program, "info"], capture_output=True, check=False).returncode
    )


def command(builder: str, name: str) -> list[str]:
    """The build command of an image, without its tag.

    `name` is a service, a service with an extra (`analysis-deeprhythm`), or a folder of deploy/ with a Dockerfile.
    docker finds <Dockerfile>.dockerignore by itself, buildah does not.
    """
    file = dockerfile(name)
    start = ["docker", "build"] if builder == "docker" else ["buildah", "build", "--layers", f"--timestamp={EPOCH_S}"]
    ignored = [] if builder == "docker" else [f"--ignorefile={file}.dockerignore"]
    return [*start, f"--file={file}", *ignored, *(f"--build-arg={each}" for each in arguments(name))]


def dockerfile(name: str) -> Path:
    """The Dockerfile of an image: of its own folder of deploy/, or the one of all services."""
    own = ROOT / "deploy" / name / "Dockerfile"
    return own if own.exists() else ROOT / "deploy/Dockerfile"


def lock(name: str) -> Path | None:
    """The lock that the Python packages of an image are from; none of a third party's."""
    own = ROOT / "services" / name.partition("-")[0] / "uv.lock"
    return own if own.exists() else None


def arguments(name: str) -> list[str]:
    """Build arguments: what to build, from which bases, and the time of its files."""
    file = dockerfile(name)
    service, _, extra = name.partition("-")
    own = [f"SERVICE={service}", f"EXTRA={extra}"] if file == ROOT / "deploy/Dockerfile" else []
    if name in HOST_PROGRAMS and HOST_PROGRAMS[name].exists():
        own = ["PROGRAM=host"]  # saves two minutes and pulling an image of Go
    known = {key: base for key, base in bases.read().items() if base.digest and os.environ.get("BASES") != "tags"}
    pinned = [f"{key}={known[key].reference}" for key in bases.used(file.read_text()) if key in known]
    return [*own, *pinned, f"SOURCE_DATE_EPOCH={EPOCH_S}"]


def materials(builder: str, name: str, upon: str = "") -> list[Material]:
    """What an image is built from: the source's revision, the base images, the Dockerfile and the locks.

    `upon`: the image of ours that it is built upon, if any.
    """
    file = dockerfile(name)
    revision = _git("rev-parse", "HEAD")
    source = Material(f"git+{_source() or 'file:.'}", {"gitCommit": revision} if revision else {})
    known = [bases.read()[key] for key in bases.used(file.read_text())]
    # the compiler's base is not pulled where the program of this machine is copied
    known = [base for base in known if "golang" not in base.name or "PROGRAM=host" not in arguments(name)]
    known += [bases.Base(upon, "")] if upon else []
    files = [file, *(path for path in (lock(name), ROOT / "services/model/uv.lock") if path and lock(name))]
    return [
        source,
        *(Material(f"docker://{base.name}", _digest(builder, base)) for base in known),
        *(records.file_material(path) for path in dict.fromkeys(files)),
    ]


def _digest(builder: str, base: bases.Base) -> dict[str, str]:
    """The digest of a base image as it was used: the pinned one, else buildah's; docker keeps none of what it pulls."""
    pinned = base.digest if os.environ.get("BASES") != "tags" else ""
    found = pinned or (
        ""
        if builder == "docker"
        else _output(builder, "inspect", "--type=image", "--format={{.FromImageDigest}}", base.name)
    )
    return {"sha256": found.removeprefix("sha256:")} if found else {}


def _id(builder: str, reference: str) -> str:
    """The builder's id of an image, which is the digest of its configuration."""
    if builder == "docker":
        return _output("docker", "inspect", "--format={{.Id}}", reference)
    return "sha256:" + _output("buildah", "inspect", "--type=image", "--format={{.FromImageID}}", reference)


def _pushed(builder: str, reference: str) -> str:
    """Pushes an image. The digest under which the registry has it."""
    if builder == "docker":
        _run(["docker", "push", reference])
        pinned = _output("docker", "inspect", '--format={{join .RepoDigests "\\n"}}', reference).splitlines()
        return next(each.rpartition("@")[2] for each in pinned if each.startswith(records.repository(reference) + "@"))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "digest")
        plain = ["--tls-verify=false"] if os.environ.get("PLAIN_HTTP") else []
        _run(["buildah", "push", *plain, f"--digestfile={file}", reference])
        return file.read_text().strip()


def labels(options: argparse.Namespace) -> list[str]:
    """Labels known at build time: version, revision, and the public address of the source, without credentials."""
    values = {"version": options.tag, "revision": _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")}
    values["source"] = _source()
    return [f"--label={LABEL}.{key}={value}" for key, value in values.items() if value]


def _source() -> str:
    """Public address of the source, without credentials; empty where git knows none."""
    source = re.fullmatch(r"(https?://)(?:[^/@]*@)?(.+)", _git("remote", "get-url", "origin"))
    return source[1] + source[2] if source else ""


def _git(*arguments: str) -> str:
    """Output of git; empty outside a repository."""
    if not shutil.which("git"):
        return ""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _output(*arguments: str) -> str:
    return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.strip()


def _run(arguments: list[str]) -> None:
    if code := subprocess.run(arguments, check=False).returncode:
        sys.exit(f"failed with {code}: {shlex.join(arguments)}")


if __name__ == "__main__":
    main()
