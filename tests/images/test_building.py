"""Images that are really built: the same digest twice, and a bill of materials that names what is in them.

They are built by buildah or docker with IMAGE_BUILD_ARGS, as in `make images`, and removed in the end.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.images import build
from tests.images.dockerfile import ROOT
from tests.support.services import missing, require_tool

pytestmark = pytest.mark.slow
REGISTRY = "luthier-test.local"
BUILD_S = 900.0


@dataclass(frozen=True)
class Built:
    """An image, and the folder of its records."""

    name: str
    builder: str
    records: Path

    @property
    def reference(self) -> str:
        return f"{REGISTRY}/{self.name}:1"

    def make(self, *further: str) -> str:
        """Builds it from nothing. The digest of its configuration, which names those of its layers."""
        environ = {**os.environ, "IMAGE_BUILD_ARGS": " ".join([os.environ.get("IMAGE_BUILD_ARGS", ""), "--no-cache"])}
        settings = {"REGISTRY": REGISTRY, "TAG": "1", "IMAGES": self.name, "RECORDS": str(self.records)}
        done = subprocess.run(
            ["make", "images", *(f"{key}={value}" for key, value in settings.items()), *further],
            cwd=ROOT, env=environ, capture_output=True, text=True, timeout=BUILD_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return build._id(self.builder, self.reference)


@pytest.fixture(params=["prometheus", "enrichment"])
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Built]:
    """An image of Debian's packages, and one of Python's."""
    builder = next((program for program in build.BUILDERS if build._works(program)), "")
    if not builder:
        missing("docker or buildah")
    built = Built(request.param, builder, tmp_path)
    yield built
    subprocess.run([builder, "rmi", "--force", built.reference], check=False, capture_output=True, timeout=60)


def test_the_same_source_gives_the_same_digest(image: Built) -> None:
    first = image.make()
    assert image.make() == first


def test_the_bill_names_what_is_in_the_image(image: Built) -> None:
    require_tool("syft")
    image.make()
    bill = json.loads((image.records / image.name / "bill.cdx.json").read_text())
    kinds = {component.get("purl", "").partition("/")[0] for component in bill["components"]}
    names = {component["name"] for component in bill["components"]}
    assert bill["specVersion"] == "1.6"
    assert {"pkg:deb"} <= kinds
    assert {"prometheus": "prometheus", "enrichment": "grpcio"}[image.name] in names
    assert "pytest" not in names
    assert not [each for each in bill["components"] if each["type"] == "library" and not each.get("version")]
