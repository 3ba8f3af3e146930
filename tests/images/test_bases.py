"""Base images by digest: bases.json, the Dockerfiles' arguments, and what a registry tells."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.images import bases, build
from deploy.images.bases import Base
from tests.images.dockerfile import ROOT
from tests.support.registries import push_image, serving_registry
from tests.support.services import require_tool

DIGEST = "sha256:" + "ab" * 32
DOCKERFILES = [ROOT / "deploy/Dockerfile", *sorted((ROOT / "deploy").glob("*/Dockerfile"))]
NAMES = [str(path.relative_to(ROOT)) for path in DOCKERFILES]


@pytest.fixture
def pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bases.json as after `make base-digests`."""
    known = {argument: Base(base.name, DIGEST) for argument, base in bases.read().items()}
    monkeypatch.setattr(bases, "read", lambda: known)


@pytest.mark.parametrize("path", DOCKERFILES, ids=NAMES)
def test_every_base_is_an_argument_of_bases_json(path: Path) -> None:
    """A stage, a stage that an argument chooses, or a base whose default is the name with its tag."""
    text = path.read_text()
    stages = set(re.findall(r"^FROM .* AS (\S+)$", text, re.MULTILINE))
    parents = set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) - stages
    chosen = {"${PROGRAM}", "${SERVICE}${EXTRA:+-}${EXTRA}", "${INFERENCE}"}
    assert parents - chosen == {f"${{{argument}}}" for argument in bases.used(text)}
    for argument in bases.used(text):
        assert f"\nARG {argument}={bases.read()[argument].name}\n" in text


@pytest.mark.parametrize("argument", bases.read())
def test_a_kept_digest_is_one_or_not_known(argument: str) -> None:
    digest = bases.read()[argument].digest
    assert digest == "" or bases.DIGEST.fullmatch(digest)


@pytest.mark.usefixtures("pinned")
def test_an_image_is_built_from_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BASES", raising=False)
    assert f"--build-arg=PYTHON=docker.io/library/python@{DIGEST}" in build.command("buildah", "rendering")
    assert f"--build-arg=DEBIAN=docker.io/library/debian@{DIGEST}" in build.command("docker", "postgresql")


@pytest.mark.usefixtures("pinned")
def test_bases_by_tags_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASES", "tags")
    assert not [each for each in build.command("buildah", "rendering") if "@" in each]


def test_digests_are_written_and_changes_told(tmp_path: Path) -> None:
    file = tmp_path / "bases.json"
    file.write_text(json.dumps({"A": {"name": "host/a:1", "digest": ""}, "B": {"name": "host/b:1", "digest": DIGEST}}))
    told = bases.resolve(file, lambda name: DIGEST)
    assert told == [f"host/a:1: by tag -> {DIGEST}"]
    assert bases.read(file) == {"A": Base("host/a:1", DIGEST), "B": Base("host/b:1", DIGEST)}


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    with serving_registry(tmp_path) as address:
        yield address


@pytest.mark.slow  # for crane, which make test does not bring
def test_a_registry_tells_the_digest(registry: str) -> None:
    digest = push_image(registry, "library/python", "3.11", b"base")
    assert bases.asked(f"{registry}/library/python:3.11", require_tool("crane")) == digest


@pytest.mark.slow
def test_a_name_that_is_not_there_is_an_error(registry: str) -> None:
    with pytest.raises(SystemExit, match=r"library/python:4: the registry tells no digest"):
        bases.asked(f"{registry}/library/python:4", require_tool("crane"))
