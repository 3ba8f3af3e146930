"""Builds the images of Luthier with docker or buildah and tells what they weigh; `make images` calls it.

    python3 -m deploy.images.build --registry my-registry/luthier --tag 0.1.0 --push rendering pipeline

BUILDER names the program (otherwise docker where its engine answers, else buildah), IMAGE_BUILD_ARGS are further
arguments of its build command: a proxy, a certificate, another runtime, whatever the machine needs.
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
BROUGHT = {"minio": ROOT / ".tools/bin/minio", "collector": ROOT / ".tools/bin/otelcol"}
"""Programs of others that make builds where there is Go: an image takes one over."""
LABEL = "org.opencontainers.image"


def main() -> None:
    """Builds the named images; exit code 1 when one cannot be built, pushed or named so."""
    options = _options()
    builder = _builder(os.environ)
    extra = shlex.split(os.environ.get("IMAGE_BUILD_ARGS", ""))
    labelled = labels(options)
    images = [f"{options.registry}/{name}:{options.tag}" for name in options.names]
    for name, image in zip(options.names, images, strict=True):
        started = time.monotonic()
        _run([*command(builder, name), *labelled, *extra, "-t", image, str(ROOT)])
        print(f"{image}: {time.monotonic() - started:.0f} s", flush=True)
        if options.push:
            _run([builder, "push", image])
    print(table(builder, images))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "names", nargs="+", help="services, pipeline, analysis-deeprhythm, folders of deploy/ with a Dockerfile"
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
    """Whether it is installed and, where it needs one, its engine answers."""
    return (
        bool(shutil.which(program))
        and not subprocess.run([program, "info"], capture_output=True, check=False).returncode
    )


def command(builder: str, name: str) -> list[str]:
    """The build command of an image, up to its tag: a service, or another's program with its own folder and Dockerfile.

    buildah is told the file of exclusions that docker finds itself.
    """
    other = (ROOT / "deploy" / name / "Dockerfile").exists()
    file = ROOT / "deploy" / (f"{name}/Dockerfile" if other else "Dockerfile")
    start = ["docker", "build"] if builder == "docker" else ["buildah", "build", "--layers"]
    ignored = [] if builder == "docker" else [f"--ignorefile={file}.dockerignore"]
    service, _, extra = name.partition("-")
    arguments = [] if other else [f"--build-arg=SERVICE={service}", f"--build-arg=EXTRA={extra}"]
    if name in BROUGHT and BROUGHT[name].exists():
        arguments = ["--build-arg=PROGRAM=host"]  # two minutes and an image of Go are saved
    return [*start, f"--file={file}", *ignored, *arguments]


def labels(options: argparse.Namespace) -> list[str]:
    """What only the build knows: version, revision, and the public address of the source, without credentials."""
    facts = {"version": options.tag, "revision": _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")}
    if source := re.fullmatch(r"(https?://)(?:[^/@]*@)?(.+)", _git("remote", "get-url", "origin")):
        facts["source"] = source[1] + source[2]
    return [f"--label={LABEL}.{key}={value}" for key, value in facts.items() if value]


def _git(*arguments: str) -> str:
    """What git says, or nothing outside a repository."""
    if not shutil.which("git"):
        return ""
    said = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return said.stdout.strip()


def _run(arguments: list[str]) -> None:
    if code := subprocess.run(arguments, check=False).returncode:
        sys.exit(f"failed with {code}: {shlex.join(arguments)}")


if __name__ == "__main__":
    main()
