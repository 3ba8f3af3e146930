"""Properties of deploy/Dockerfile, without building it."""

import json
import re
import tomllib
from typing import Any

import pytest

from tests.images.dockerfile import ROOT, entry_points, services, stages

FORBIDDEN = re.compile(r"\b(gcc|g\+\+|clang|build-essential|make|cmake|-dev|git|curl|wget|pytest)\b")
ALL = services("base", "torch")


def variable(name: str) -> str:
    """A variable of the Makefile."""
    match = re.search(rf"^{name} :?= (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert match
    return match[1]


def project(service: str) -> dict[str, Any]:
    """The [project] of a service."""
    return dict(tomllib.loads((ROOT / f"services/{service}/pyproject.toml").read_text())["project"])


def test_its_services_are_those_of_the_makefile() -> None:
    assert sorted(ALL) == sorted([*variable("SERVICES").split(), "pipeline"])


def test_versions_of_tools_are_those_of_the_makefile() -> None:
    assert stages()["tools"].arguments("ARG") == [f"UV_VERSION={variable('UV_VERSION')}"]
    assert f"ARG MINIO_VERSION={variable('MINIO_VERSION')}\n" in (ROOT / "deploy/minio/Dockerfile").read_text()
    version = variable("COLLECTOR_VERSION")
    assert f"ARG COLLECTOR_VERSION={version}\n" in (ROOT / "deploy/collector/Dockerfile").read_text()
    assert (ROOT / "deploy/collector/builder.yaml").read_text().count(version) == 2


@pytest.mark.parametrize("name", entry_points("base", "torch"))
def test_a_service_starts_as_its_module(name: str) -> None:
    service = name.partition("-")[0]
    expected = ["luthier"] if service == "pipeline" else ["python", "-m", f"luthier_{service}"]
    assert [json.loads(text) for text in stages()[name].arguments("ENTRYPOINT")] == [expected]


@pytest.mark.parametrize("name", entry_points("base", "torch"))
def test_the_licence_is_the_projects(name: str) -> None:
    labels = stages()["base"].arguments("LABEL") + stages()[name].arguments("LABEL")
    assert labels[-1] == f"org.opencontainers.image.licenses={project(name.partition('-')[0])['license']}"


def test_only_services_that_depend_on_torch_start_from_it() -> None:
    needing = {name for name in ALL if any(each.startswith("torch==") for each in project(name)["dependencies"])}
    assert set(services("torch")) == needing


def test_an_extras_stage_belongs_to_an_extra() -> None:
    for name in set(entry_points("base", "torch")) - set(ALL):
        service, _, extra = name.partition("-")
        assert extra in project(service)["optional-dependencies"]


def test_the_user_is_not_root_and_owns_no_file() -> None:
    steps = stages()["image"].steps
    assert stages()["image"].arguments("USER") == ["10001:10001"]
    assert {word for word, _ in steps[steps.index(("USER", "10001:10001")) + 1 :]} <= {"LABEL", "ARG"}


def test_an_image_has_no_compiler_and_no_uv() -> None:
    shipped = [stages()[name] for name in ("base", "torch", "cuda", "image", *entry_points("base", "torch"))]
    commands = [re.sub(r"--mount=\S+", "", text) for stage in shipped for text in stage.arguments("RUN")]
    assert not [command for command in commands if FORBIDDEN.search(command) or "pip" in command]
    copied = [text for stage in shipped for text in stage.arguments("COPY")]
    assert not [text for text in copied if "--from=tools" in text]


def test_our_own_code_is_the_last_layer() -> None:
    words = [(word, rest) for word, rest in stages()["image"].steps if word in ("RUN", "COPY", "ADD")]
    (_, lock), (_, third_party), (_, own) = words
    assert lock.split()[1:-1] == ["services/${SERVICE}/pyproject.toml", "services/${SERVICE}/uv.lock"]
    assert "--no-install-local" in third_party
    assert own == "--from=code /app/.venv .venv"


def test_untracked_files_are_not_in_the_build_context() -> None:
    lines = (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in lines if not line.startswith("#")]
    assert rules[0] == "*"
    assert {"**/.venv", "**/__pycache__"} <= set(rules)
