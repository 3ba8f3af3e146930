"""The untrained tiny model that a fresh installation proves itself with."""

import json
from pathlib import Path

from luthier_model import checkpoint, configuration, text_encoder
from luthier_model.untrained import write


def test_its_parts_fit_each_other_and_are_the_same_each_time(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    known = configuration.read((tmp_path / "a/config.json").read_bytes())
    checkpoint.verify(tmp_path / "a/weights.safetensors", known)
    text_encoder.check(tmp_path / "a/text_encoder", known)
    for path in (tmp_path / "a").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
    assert json.loads((tmp_path / "a/config.json").read_text())["model_type"]
