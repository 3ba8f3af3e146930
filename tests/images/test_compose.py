"""deploy/compose.yaml: every service, with restricted rights, and secrets only as files."""

import re
from typing import Any

import pytest
import yaml

from tests.images.dockerfile import ROOT, services

TEXT = (ROOT / "deploy/compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
CONTAINERS: dict[str, Any] = COMPOSE["services"]
SERVING = [name for name in services("base", "torch") if name != "pipeline"]


def chart_version() -> str:
    """The images' default version."""
    return str(yaml.safe_load((ROOT / "charts/luthier/Chart.yaml").read_text())["appVersion"])


def test_every_service_is_there() -> None:
    assert set(SERVING) < CONTAINERS.keys()
    assert CONTAINERS["luthier"]["depends_on"].keys() == set(SERVING)


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_has_a_read_only_root_and_no_capabilities(name: str) -> None:
    container = CONTAINERS[name]
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert container["tmpfs"] == ["/tmp"]
    assert "user" not in container  # the image's own: 10001


@pytest.mark.parametrize("name", CONTAINERS)
def test_images_are_those_of_make_images(name: str) -> None:
    image = re.fullmatch(r"\$\{REGISTRY:-luthier\.local\}/(\w+):\$\{TAG:-(.+)\}", CONTAINERS[name]["image"])
    assert image
    assert image[1] in {*services("base", "torch"), "minio", "postgresql"}
    assert image[2] == chart_version()


@pytest.mark.parametrize("name", CONTAINERS)
def test_secrets_are_files(name: str) -> None:
    for variable, value in CONTAINERS[name].get("environment", {}).items():
        assert not re.search(r"KEY|PASSWORD|TOKEN|SECRET|ROOT_USER|DATABASE_URL", variable) or (
            variable.endswith("_FILE") and value.startswith("/etc/luthier/")
        )


def test_ports_are_published_on_loopback_only() -> None:
    ports = [port for container in CONTAINERS.values() for port in container.get("ports", [])]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_addresses_are_containers_at_their_port() -> None:
    addresses = {
        variable: value
        for container in CONTAINERS.values()
        for variable, value in container.get("environment", {}).items()
        if re.fullmatch(r"LUTHIER_[A-Z]+_ADDRESS", variable) and value.partition(":")[0] != "0.0.0.0"
    }
    assert {variable: f"{variable.split('_')[1].lower()}:7100" for variable in addresses} == addresses
    assert {f"LUTHIER_{name.upper()}_ADDRESS" for name in SERVING} == addresses.keys()


def test_generated_audio_expires_every_hour() -> None:
    expiry = CONTAINERS["expiry"]
    assert expiry["command"] == ["while sleep 3600; do luthier gc --generated; done"]
    assert expiry["init"] is True, "else sh, as the first process, would not hear of its end"


@pytest.mark.parametrize("name", [*SERVING, "expiry"])
def test_a_store_that_was_lost_is_refused_and_only_prepare_marks_one(name: str) -> None:
    assert CONTAINERS[name]["environment"]["LUTHIER_STORE_EXPECTED"] == "1"
    assert CONTAINERS[name]["depends_on"]["prepare"] == {"condition": "service_completed_successfully"}
    assert "LUTHIER_STORE_EXPECTED" not in CONTAINERS["prepare"]["environment"]
