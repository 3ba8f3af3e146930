"""Services share the torch layer as long as their locks say the same of every package that is in it."""

import tomllib

import pytest

from tests.images.dockerfile import ROOT, starts


def versions(project: str) -> dict[str, set[str]]:
    """Name -> versions in the lock of a project."""
    lock = tomllib.loads((ROOT / f"services/{project}/uv.lock").read_text())
    found: dict[str, set[str]] = {}
    for package in lock["package"]:
        found.setdefault(package["name"], set()).add(package.get("version", ""))
    return found


@pytest.mark.parametrize("name", starts("torch"))
def test_a_lock_agrees_with_the_torch_layer(name):
    layer, lock = versions("model"), versions(name.partition("-")[0])
    shared = layer.keys() & lock.keys()
    assert {"torch", "numpy"} <= shared
    assert {each: (lock[each], layer[each]) for each in shared if lock[each] != layer[each]} == {}
