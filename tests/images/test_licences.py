"""Texts of licences that an image must carry and that its packages do not bring themselves."""

import tomllib

import pytest

from tests.images.dockerfile import ROOT, services

MUSIC = ROOT / "services/music"


def installed(service: str) -> set[str]:
    """Names of what the lock of a service installs without its development group: what is in its image."""
    packages = tomllib.loads((ROOT / f"services/{service}/uv.lock").read_text())["package"]
    needs, extras = dict[str, list[dict[str, object]]](), dict[str, dict[str, list[dict[str, object]]]]()
    for package in packages:
        needs[package["name"]] = package.get("dependencies", [])
        extras[package["name"]] = package.get("optional-dependencies", {})
    found, waiting = set[str](), [(f"luthier-{service}", list[str]())]
    while waiting:
        name, wanted = waiting.pop()
        found.add(name)
        for need in [*needs[name], *(each for extra in wanted for each in extras[name][extra])]:
            more = [str(extra) for extra in need.get("extra", [])]  # type: ignore[attr-defined]
            if need["name"] not in found or more:
                waiting.append((str(need["name"]), more))
    return found


WITH_LIBFLAC = [service for service in services("base", "torch") if "flacarray" in installed(service)]


def test_libflac_is_where_flac_is_written() -> None:
    assert sorted(WITH_LIBFLAC) == ["analysis", "curation", "rendering"]


@pytest.mark.parametrize("service", WITH_LIBFLAC)
def test_an_image_with_libflac_has_the_package_that_carries_its_licence(service: str) -> None:
    assert "luthier-music" in installed(service)


def test_the_licence_of_libflac_is_in_the_package_whole() -> None:
    """BSD-3-Clause wants the copyright, the three conditions and the disclaimer with binaries."""
    [pattern] = tomllib.loads((MUSIC / "pyproject.toml").read_text())["project"]["license-files"]
    [path] = MUSIC.glob(pattern)
    words = " ".join(path.read_text().split())
    for part in (
        "Copyright (C) 2000-2009 Josh Coalson",
        "Xiph.Org Foundation",
        "Redistributions of source code must retain the above copyright notice",
        "Redistributions in binary form must reproduce the above copyright notice",
        "Neither the name of the Xiph.Org Foundation",
        "THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS",
    ):
        assert part in words


def test_the_build_context_takes_the_licence() -> None:
    lines = (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines()
    assert "!services" in lines
    assert not [line for line in lines if "LICENSES" in line or line.endswith(".txt")]
