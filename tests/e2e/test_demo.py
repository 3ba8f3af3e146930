"""The demo as a newcomer runs it, on MinIO; the second time it does nothing but say so."""

import time
from pathlib import Path

import pytest

from tests.support.services import require_tool
from tests.system import started


@pytest.mark.slow
def test_the_demo_goes_all_the_way_on_minio_and_a_second_one_recomputes_nothing(tmp_path: Path) -> None:
    require_tool("minio")
    with started(tmp_path, STORE="minio") as system:
        first = system.luthier("demo")
        assert first["tuned_loss"] < first["base_loss"]
        assert first["tempo_accuracy_2"] >= 0.5
        begun = time.monotonic()
        second = system.luthier("demo")
        assert time.monotonic() - begun < 30
        assert (second["computed"], second["model"]) == (0, first["model"])
