"""Helm, and the manifests of the profiles and variants."""

import pytest

from tests.chart.rendering import Helm, Manifest
from tests.chart.variants import VARIANTS
from tests.support.services import require_tool


@pytest.fixture(scope="session")
def helm() -> Helm:
    """Helm from LUTHIER_HELM, .tools/bin or PATH."""
    return Helm(require_tool("helm"))


@pytest.fixture(scope="session", params=VARIANTS)
def variant(request: pytest.FixtureRequest, helm: Helm) -> list[Manifest]:
    """The manifests of each variant: both profiles, and each optional feature."""
    profile, values = VARIANTS[request.param]
    return helm.render(profile, values)


@pytest.fixture(scope="session")
def trying(helm: Helm) -> list[Manifest]:
    """The manifests of values-try.yaml."""
    return helm.render("try")


@pytest.fixture(scope="session")
def production(helm: Helm) -> list[Manifest]:
    """The manifests of values-production.yaml."""
    return helm.render("production")
