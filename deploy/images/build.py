"""Builds the images of Luthier with docker or buildah and prints their sizes; `make images` calls it.

    python3 -m deploy.images.build --registry my-registry/luthier --tag 0.1.0 --push rendering pipeline

Environment: BUILDER is the program (default: docker where its engine answers, else buildah), IMAGE_BUILD_ARGS are
further arguments of its build command, for example a proxy, a certificate or another runtime.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from deploy.images.sizes import table

ROOT = Path(__file__).parents[2]
BUILDERS = ("docker", "buildah")
UPON_INFERENCE = "inference-audiowmark"
"""The image that is built upon inference's of the same registry and tag."""
HOST_PROGRAMS = {"minio": ROOT / ".tools/bin/minio", "collector": ROOT / ".tools/bin/otelcol"}
"""Third-party programs that make compiles where Go is installed; an image copies one instead of compiling it again."""
LABEL = "org.opencontainers.image"


def main() -> None:
    """Builds the named images. Exits with 1 when the builder is missing or an image cannot be built or pushed."""
    options = _options()
    builder = _builder(os.environ)
    extra = shlex.split(os.environ.get("IMAGE_BUILD_ARGS", ""))
    labelled = labels(options)
    images = [f"{options.registry}/{name}:{options.tag}" for name in options.names]
    for name, image in zip(options.names, images, strict=True):
        started = time.monotonic()
        base = [f"--build-arg=INFERENCE={options.registry}/inference:{options.tag}"] if name == UPON_INFERENCE else []
        _run([*command(builder, name), *base, *labelled, *extra, "-t", image, str(ROOT)])
        print(f"{image}: {time.monotonic() - started:.0f} s", flush=True)
        if options.push:
            _run([builder, "push", image])
    print(table(builder, images))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "names", nargs="+", help="services, pipeline, analysis-models, folders of deploy/ with a Dockerfile"
    )
    parser.add_argument("--registry", required=True)
    parser.add_argument("--tag", required=True)
    parser.add_argument("--push", action="store_true", help="push each image once it is built")
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
    third_party = (ROOT / "deploy" / name / "Dockerfile").exists()
    file = ROOT / "deploy" / (f"{name}/Dockerfile" if third_party else "Dockerfile")
    start = ["docker", "build"] if builder == "docker" else ["buildah", "build", "--layers"]
    ignored = [] if builder == "docker" else [f"--ignorefile={file}.dockerignore"]
    service, _, extra = name.partition("-")
    arguments = [] if third_party else [f"--build-arg=SERVICE={service}", f"--build-arg=EXTRA={extra}"]
    if name in HOST_PROGRAMS and HOST_PROGRAMS[name].exists():
        arguments = ["--build-arg=PROGRAM=host"]  # saves two minutes and pulling an image of Go
    return [*start, f"--file={file}", *ignored, *arguments]


def labels(options: argparse.Namespace) -> list[str]:
    """Labels known at build time: version, revision, and the public address of the source, without credentials."""
    values = {"version": options.tag, "revision": _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")}
    if source := re.fullmatch(r"(https?://)(?:[^/@]*@)?(.+)", _git("remote", "get-url", "origin")):
        values["source"] = source[1] + source[2]
    return [f"--label={LABEL}.{key}={value}" for key, value in values.items() if value]


def _git(*arguments: str) -> str:
    """Output of git; empty outside a repository."""
    if not shutil.which("git"):
        return ""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _run(arguments: list[str]) -> None:
    if code := subprocess.run(arguments, check=False).returncode:
        sys.exit(f"failed with {code}: {shlex.join(arguments)}")


if __name__ == "__main__":
    main()
