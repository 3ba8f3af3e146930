"""The program behind `make images`: its commands for docker and buildah, and its table of sizes."""

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from deploy.images import build, records, sizes
from tests.images.dockerfile import ROOT


def test_the_table_separates_unique_from_shared_layers() -> None:
    layers = {"a:1": {"base": 200_000_000, "x": 1_500_000}, "b:1": {"base": 200_000_000, "y": 20_000_000}}
    rows = [line.split() for line in sizes.text(layers).splitlines()]
    assert rows[1:3] == [["a:1", "201.5", "1.5", "200.0"], ["b:1", "220.0", "20.0", "200.0"]]
    assert rows[3] == ["all", "together", "221.5"]


def test_a_layer_of_an_image_counts_once() -> None:
    assert sizes.text({"a:1": {"base": 1_000_000}}).splitlines()[1].split() == ["a:1", "1.0", "1.0", "0.0"]


@pytest.mark.parametrize("builder", build.BUILDERS)
def test_one_dockerfile_with_the_service_as_argument(builder: str) -> None:
    command = build.command(builder, "rendering")
    assert command[0] == builder
    assert f"--file={ROOT}/deploy/Dockerfile" in command
    assert "--build-arg=SERVICE=rendering" in command


def test_an_extra_is_part_of_the_name() -> None:
    assert build.command("buildah", "analysis-deeprhythm")[-3:-1] == [
        "--build-arg=SERVICE=analysis",
        "--build-arg=EXTRA=deeprhythm",
    ]


def test_buildah_gets_the_ignore_file_that_docker_finds_itself() -> None:
    assert f"--ignorefile={ROOT}/deploy/Dockerfile.dockerignore" in build.command("buildah", "pipeline")
    assert not [each for each in build.command("docker", "pipeline") if "ignore" in each]


def test_the_image_with_audiowmark_is_built_upon_inferences_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["build", "--registry", "my-registry/luthier", "--tag", "1", "inference", "inference-audiowmark"]
    run: list[list[str]] = []
    monkeypatch.setattr(sys, "argv", asked)
    monkeypatch.setattr(build, "_builder", lambda _: "docker")
    monkeypatch.setattr(build, "_run", run.append)
    monkeypatch.setattr(build, "table", lambda *_: "")
    monkeypatch.setattr(records, "SYFT", Path("no-such-program"))

    build.main()

    own, upon = run
    assert f"--file={ROOT}/deploy/inference-audiowmark/Dockerfile" in upon
    assert "--build-arg=INFERENCE=my-registry/luthier/inference:1" in upon
    assert upon[-3:] == ["-t", "my-registry/luthier/inference-audiowmark:1", str(ROOT)]
    assert not any("INFERENCE" in each for each in own)


@pytest.mark.parametrize(
    ("origin", "labelled"),
    [("https://me:secret@git.example/x.git", ["https://git.example/x.git"]), ("/home/me/x", []), ("", [])],
)
def test_the_label_of_the_source_is_an_address_without_credentials(
    origin: str, labelled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_git", lambda *command: origin if "remote" in command else "")
    source = [f"--label=org.opencontainers.image.source={each}" for each in labelled]
    assert build.labels(Namespace(tag="1")) == ["--label=org.opencontainers.image.version=1", *source]


@pytest.mark.parametrize(
    ("builder", "message"), [("kaniko", "BUILDER must be one of docker, buildah"), ("", "does not work here")]
)
def test_a_missing_builder_is_reported(builder: str, message: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deploy.images.build", "--registry", "r", "--tag", "1", "pipeline"]
    environment = {"PATH": str(tmp_path), "BUILDER": builder}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert message in ended.stderr
