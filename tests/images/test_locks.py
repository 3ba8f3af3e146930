"""Services share the torch layer: their locks have the same version of every package in it."""

import tomllib

import pytest

from tests.images.dockerfile import ROOT, entry_points


def versions(project: str) -> dict[str, set[str]]:
    """Name -> versions in the lock of a project."""
    lock = tomllib.loads((ROOT / f"services/{project}/uv.lock").read_text())
    found: dict[str, set[str]] = {}
    for package in lock["package"]:
        found.setdefault(package["name"], set()).add(package.get("version", ""))
    return found


@pytest.mark.parametrize("name", entry_points("torch"))
def test_a_lock_agrees_with_the_torch_layer(name: str) -> None:
    layer, lock = versions("model"), versions(name.partition("-")[0])
    shared = layer.keys() & lock.keys()
    assert {"torch", "numpy"} <= shared
    assert {each: (lock[each], layer[each]) for each in shared if lock[each] != layer[each]} == {}
