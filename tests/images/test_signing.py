"""Signed images in a registry: what cosign accepts, what it refuses, and what the attestations say."""

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.images import records
from deploy.images.records import Build, Image, Material
from deploy.images.signing import Signer
from tests.support.registries import push_image, serving_registry
from tests.support.services import require_tool

pytestmark = pytest.mark.slow  # for cosign, which make test does not bring
VERIFYING = ("--insecure-ignore-tlog=true", "--private-infrastructure=true")
BUILD = Build(
    name="rendering",
    dockerfile="deploy/Dockerfile",
    arguments=["SERVICE=rendering"],
    builder="buildah version 1.28.2",
    builder_id="urn:example:builder",
    clean=True,
    started=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    finished=datetime(2026, 1, 2, 3, 5, 5, tzinfo=UTC),
    materials=[Material("docker://docker.io/library/python:3.11-slim-bookworm", {"sha256": "ab" * 32})],
)
BILL = '{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": []}'


@dataclass(frozen=True)
class Signed:
    """A signed image, the private key's public half, and cosign."""

    image: Image
    public: Path
    signer: Signer
    registry: str

    def verify(self, word: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """A command of cosign, with this key unless another is named."""
        key = [] if any(each.startswith("--key=") for each in arguments) else [f"--key={self.public}"]
        command = [str(self.signer.program), word, *key, *VERIFYING, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    def predicate(self, kind: str) -> object:
        """The predicate of the one attestation of this kind."""
        done = self.verify("verify-attestation", f"--type={kind}", self.image.pinned)
        assert done.returncode == 0, done.stderr
        return json.loads(base64.b64decode(json.loads(done.stdout)["payload"]))["predicate"]


def key_pair(cosign: Path, folder: Path) -> Path:
    """Makes a key in a folder; the password is empty."""
    folder.mkdir()
    subprocess.run([cosign, "generate-key-pair"], cwd=folder, check=True, capture_output=True, timeout=60)
    return folder / "cosign.key"


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signed]:
    """An image that was signed and attested as `make publish SIGN_KEY=…` does."""
    folder, cosign = tmp_path_factory.mktemp("signing"), require_tool("cosign")
    os.environ["COSIGN_PASSWORD"] = ""
    key = key_pair(cosign, folder / "own")
    (folder / "registry").mkdir()
    with serving_registry(folder / "registry") as registry:
        image = Image(f"{registry}/luthier/rendering:1", push_image(registry, "luthier/rendering", "1", b"as built"))
        signer = Signer(str(key), program=cosign)
        signer.sign(image.pinned)
        signer.attest(image.pinned, "cyclonedx", BILL)
        signer.attest(image.pinned, "slsaprovenance1", json.dumps(records.provenance(image, BUILD)["predicate"]))
        yield Signed(image, key.with_suffix(".pub"), signer, registry)
    del os.environ["COSIGN_PASSWORD"]


def test_a_signed_image_is_accepted(signed: Signed) -> None:
    done = signed.verify("verify", signed.image.pinned)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["critical"]["image"]["docker-manifest-digest"] == signed.image.digest


def test_another_key_is_refused(signed: Signed, tmp_path: Path) -> None:
    other = key_pair(signed.signer.program, tmp_path / "other").with_suffix(".pub")
    done = signed.verify("verify", f"--key={other}", signed.image.pinned)
    assert done.returncode != 0
    assert "signature" in done.stderr


def test_a_changed_image_of_the_same_name_is_refused(signed: Signed) -> None:
    changed = push_image(signed.registry, "luthier/rendering", "2", b"as changed")
    done = signed.verify("verify", f"{signed.registry}/luthier/rendering@{changed}")
    assert done.returncode != 0
    assert "no signatures found" in done.stderr


def test_the_signature_of_one_image_does_not_hold_for_another(signed: Signed) -> None:
    """Copied to where that of the other image would be."""
    changed = push_image(signed.registry, "luthier/rendering", "3", b"as changed again")
    tag = signed.image.digest.replace(":", "-") + ".sig"
    crane = [str(require_tool("crane")), "copy", f"{signed.registry}/luthier/rendering:{tag}"]
    target = f"{signed.registry}/luthier/rendering:{changed.replace(':', '-')}.sig"
    subprocess.run([*crane, target], check=True, capture_output=True, timeout=60)
    done = signed.verify("verify", f"{signed.registry}/luthier/rendering@{changed}")
    assert done.returncode != 0
    assert "no matching signatures" in done.stderr


def test_the_bill_of_materials_is_read_from_the_registry(signed: Signed) -> None:
    assert signed.predicate("cyclonedx") == json.loads(BILL)


def test_the_provenance_is_read_from_the_registry(signed: Signed) -> None:
    predicate = signed.predicate("slsaprovenance1")
    assert isinstance(predicate, dict)
    assert predicate["buildDefinition"]["resolvedDependencies"] == [
        {"uri": "docker://docker.io/library/python:3.11-slim-bookworm", "digest": {"sha256": "ab" * 32}}
    ]
    assert predicate["runDetails"]["builder"]["id"] == "urn:example:builder"


def test_an_attestation_that_was_not_made_is_not_found(signed: Signed) -> None:
    assert signed.verify("verify-attestation", "--type=spdxjson", signed.image.pinned).returncode != 0


def test_a_tag_is_not_signed() -> None:
    with pytest.raises(ValueError, match="signed by its digest, got 'host/name:1'"):
        Signer("key").sign("host/name:1")
