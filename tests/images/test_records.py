"""What is told of a built image: bill of materials and provenance, by documents of the tools and by a made-up lock."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.images import build, records
from deploy.images.records import Build, Image, Material
from tests.images.dockerfile import ROOT

DIGEST = "sha256:" + "ab" * 32
IMAGE = Image("host:5000/team/rendering:0.1.0", DIGEST)
BUILD = Build(
    name="rendering",
    dockerfile="deploy/Dockerfile",
    arguments=["SERVICE=rendering", "SOURCE_DATE_EPOCH=315532800"],
    builder="buildah version 1.28.2",
    builder_id="urn:example:builder",
    clean=True,
    started=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    finished=datetime(2026, 1, 2, 3, 5, 5, tzinfo=UTC),
    materials=[Material("git+https://git.example/x", {"gitCommit": "cd" * 20}), Material("docker://a:1", {})],
)
LOCK = """version = 1
[[package]]
name = "typing-extensions"
version = "4.16.0"
source = { registry = "https://pypi.example/simple" }
sdist = { url = "https://pypi.example/t.tar.gz", hash = "sha256:aa" }
wheels = [{ url = "https://pypi.example/t.whl", hash = "sha256:bb" }]
[[package]]
name = "luthier-kit"
version = "0.1.0"
source = { editable = "." }
"""
BILL: dict[str, object] = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "metadata": {"timestamp": "2026-01-02T03:04:05Z", "component": {"type": "file", "name": "/mnt"}},
    "components": [
        {"type": "library", "name": "typing_extensions", "version": "4.16.0", "purl": "pkg:pypi/typing_extensions@4"},
        {"type": "library", "name": "zlib1g", "version": "1", "purl": "pkg:deb/debian/zlib1g@1"},
        {"type": "file", "name": "/usr/bin/true"},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("reference", "repository"),
    [("host:5000/a/b:1", "host:5000/a/b"), ("host:5000/a/b", "host:5000/a/b"), ("a:1", "a")],
)
def test_a_registrys_port_is_no_tag(reference: str, repository: str) -> None:
    assert records.repository(reference) == repository


def test_the_provenance_is_a_statement_of_slsa_about_the_image() -> None:
    statement = records.provenance(IMAGE, BUILD)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"] == [{"name": "host:5000/team/rendering", "digest": {"sha256": "ab" * 32}}]


def test_the_provenance_names_source_and_bases() -> None:
    predicate = json.loads(json.dumps(records.provenance(IMAGE, BUILD)["predicate"]))
    assert predicate["buildDefinition"]["resolvedDependencies"] == [
        {"uri": "git+https://git.example/x", "digest": {"gitCommit": "cd" * 20}},
        {"uri": "docker://a:1"},
    ]
    assert predicate["runDetails"]["metadata"]["startedOn"] == "2026-01-02T03:04:05+00:00"


def test_a_source_that_is_not_as_committed_is_told() -> None:
    predicate = json.loads(json.dumps(records.provenance(IMAGE, replace(BUILD, clean=False))["predicate"]))
    assert predicate["buildDefinition"]["externalParameters"]["sourceAsCommitted"] is False


def test_the_operators_build_arguments_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy's address may have a password."""
    monkeypatch.setenv("IMAGE_BUILD_ARGS", "--build-arg=https_proxy=https://me:secret@proxy.example")
    text = json.dumps(records.provenance(IMAGE, replace(BUILD, arguments=build.arguments("rendering"))))
    assert "SERVICE=rendering" in text
    assert "secret" not in text


def test_materials_are_the_locks_and_the_dockerfile_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_digest", lambda builder, base: {"sha256": "ef" * 32})
    found = {material.uri: material.digest for material in build.materials("buildah", "inference")}
    for path in ("deploy/Dockerfile", "services/inference/uv.lock", "services/model/uv.lock"):
        assert found[path] == {"sha256": hashlib.sha256((ROOT / path).read_bytes()).hexdigest()}
    assert found["docker://docker.io/library/python:3.11-slim-bookworm"] == {"sha256": "ef" * 32}


def test_the_bill_is_about_the_image() -> None:
    bill = json.loads(json.dumps(records.completed(BILL, IMAGE, {})))
    assert bill["metadata"]["component"]["name"] == "host:5000/team/rendering"
    assert bill["metadata"]["component"]["version"] == DIGEST
    assert [component["name"] for component in bill["components"]] == ["typing_extensions", "zlib1g"]


def test_a_python_package_has_the_digests_of_its_distributions(tmp_path: Path) -> None:
    lock = tmp_path / "uv.lock"
    lock.write_text(LOCK)
    bill = json.loads(json.dumps(records.completed(BILL, IMAGE, records.hashes(lock))))
    python, debian = bill["components"]
    assert [(each["url"], each["hashes"]) for each in python["externalReferences"]] == [
        ("https://pypi.example/t.tar.gz", [{"alg": "SHA-256", "content": "aa"}]),
        ("https://pypi.example/t.whl", [{"alg": "SHA-256", "content": "bb"}]),
    ]
    assert "externalReferences" not in debian


def test_the_same_image_has_the_same_serial_number() -> None:
    numbers = {records.completed(BILL, image, {})["serialNumber"] for image in (IMAGE, IMAGE)}
    other = records.completed(BILL, Image(IMAGE.reference, "sha256:" + "cd" * 32), {})["serialNumber"]
    assert len(numbers) == 1
    assert other not in numbers
