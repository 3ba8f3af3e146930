"""Kept libraries of the page: the bytes that were released, with their licence."""

import hashlib
import re
from pathlib import Path

VENDOR = Path(__file__).parents[2] / "services/curation/luthier_curation/web/static/vendor"


def test_every_library_is_as_released() -> None:
    stated = dict(
        re.findall(r"^\| `([\w.]+)` .* `([0-9a-f]{64})` \|$", (VENDOR / "README.md").read_text(), re.MULTILINE)
    )
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.glob("*.js")}
    assert found == stated
    assert len(found) == 2


def test_their_licence_is_beside_them() -> None:
    assert (VENDOR / "LICENSE").read_text().startswith("BSD 3-Clause License")
