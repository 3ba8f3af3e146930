"""Admission policies: their schemas, and what policy-controller itself says of signed and unsigned images."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy.images import admission
from deploy.images.signing import Signer
from tests.chart import kubernetes_schemas
from tests.chart.test_lint import CUSTOM, kubeconform
from tests.images.test_signing import BILL, key_pair
from tests.support.registries import push_image, serving_registry
from tests.support.services import require_tool

# NIST's P-256 base point as a public key: any key will do.
KEY = """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt
6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==
-----END PUBLIC KEY-----
"""
DIGEST = "sha256:" + "ab" * 32
IMAGES = "my-registry/luthier/*"


def filled(kind: str) -> str:
    """A policy with values that are allowed."""
    return admission.policy(kind, key=KEY, images=IMAGES, digests=(DIGEST,))


@pytest.mark.parametrize("kind", admission.KINDS)
def test_a_policy_conforms_to_its_schema(kind: str, tmp_path: Path) -> None:
    (tmp_path / "schemas").mkdir()
    own = kubernetes_schemas.write(
        tmp_path / "schemas",
        {
            "configmap-v1",
            "validatingadmissionpolicy-admissionregistration-v1",
            "validatingadmissionpolicybinding-admissionregistration-v1",
        },
    )
    manifest = tmp_path / "policy.yaml"
    manifest.write_text(filled(kind))
    done = kubeconform(manifest, own, f"{CUSTOM}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json")
    assert done.returncode == 0, done.stdout
    assert ", Invalid: 0, Errors: 0, Skipped: 0" in done.stdout


@pytest.mark.parametrize("kind", ["policy-controller", "kyverno"])
def test_a_policy_has_the_key_and_the_images(kind: str) -> None:
    text = filled(kind)
    assert re.findall(r"glob: (.*)", text) == [f'"{IMAGES}"'] * text.count("glob:")
    keys = re.findall(r"data: ?[|>]?\n((?: +.*\n){4})", text)
    assert keys
    assert {"".join(line.strip() + "\n" for line in each.splitlines()) for each in keys} == {KEY}


def test_a_listed_digest_is_a_line_of_the_list() -> None:
    [*_, config] = yaml.safe_load_all(filled("kubernetes"))
    assert config["data"]["digests"].split("\n") == [DIGEST, ""]


@pytest.mark.parametrize(
    ("kind", "changes", "field"),
    [
        ("kyverno", {"key": "-----BEGIN EC PRIVATE KEY-----\nAA==\n-----END EC PRIVATE KEY-----\n"}, "key"),
        ("kyverno", {"images": 'a"\nb: c'}, "images"),
        ("policy-controller", {"key": ""}, "key"),
        ("kubernetes", {"digests": ()}, "digests"),
        ("kubernetes", {"digests": ("latest",)}, "digests"),
    ],
)
def test_what_is_no_key_name_or_digest_is_refused(kind: str, changes: dict[str, object], field: str) -> None:
    values: dict[str, object] = {"key": KEY, "images": IMAGES, "digests": (DIGEST,), **changes}
    with pytest.raises(ValueError, match=f"^{field}: "):
        admission.policy(kind, **values)  # type: ignore[arg-type]


def test_published_images_are_listed(tmp_path: Path) -> None:
    (tmp_path / "rendering").mkdir()
    (tmp_path / "rendering/provenance.json").write_text(f'{{"subject": [{{"digest": {{"sha256": "{"ab" * 32}"}}}}]}}')
    assert admission.published(tmp_path) == (DIGEST,)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Images by what was done with them, and the public key."""
    folder, cosign = tmp_path_factory.mktemp("admission"), require_tool("cosign")
    with pytest.MonkeyPatch.context() as patch, serving_registry(folder) as registry:
        patch.setenv("COSIGN_PASSWORD", "")
        own, other = (key_pair(cosign, folder / name) for name in ("own", "other"))
        found = {}
        for name, key in (("unsigned", None), ("signed", own), ("attested", own), ("foreign", other)):
            found[name] = f"{registry}/luthier/{name}@{push_image(registry, f'luthier/{name}', '1', name.encode())}"
            if key:
                signer = Signer(str(key), program=cosign)
                signer.sign(found[name])
                if name != "signed":
                    signer.attest(found[name], "cyclonedx", BILL)
                    signer.attest(found[name], "slsaprovenance1", "{}")
        yield {**found, "key": own.with_suffix(".pub").read_text(), "registry": registry}


@pytest.mark.slow  # for policy-controller's tester and cosign, which make test does not bring
@pytest.mark.parametrize(
    ("name", "signed", "attested"),
    [("unsigned", False, False), ("foreign", False, False), ("signed", True, False), ("attested", True, True)],
)
def test_policy_controller_accepts_what_is_signed_and_attested(
    name: str, signed: bool, attested: bool, images: dict[str, str], tmp_path: Path
) -> None:
    text = admission.policy("policy-controller", key=images["key"], images=f"{images['registry']}/luthier/*")
    accepted = []
    for number, manifest in enumerate(text.split("---\n")):
        file = tmp_path / f"{number}.yaml"
        file.write_text(manifest)
        command = [str(require_tool("tester")), "-policy", str(file), "-image", images[name]]
        accepted.append(subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0)
    assert accepted == [signed, attested]
