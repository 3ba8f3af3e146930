"""Type stubs with the contract's comments, and stubs of other languages by the documented command."""

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.programs import ROOT


def test_type_stubs_have_the_comments_of_the_contract() -> None:
    spec = find_spec("luthier.inference.v1.inference_pb2")
    assert spec
    assert spec.origin
    stub = Path(spec.origin).with_suffix(".pyi").read_text()
    comment = "Length in seconds, 0.1 to the model's window; absent = the whole window."

    assert f"// {comment}" in (ROOT / "protos/luthier/inference/v1/inference.proto").read_text()
    assert f'seconds_total: builtins.float\n    """{comment}"""' in stub


@pytest.mark.slow
@pytest.mark.parametrize(
    ("language", "tool", "made", "check"),
    [
        ("go", "go", "luthier/inference/v1/inference_grpc.pb.go", ["go", "build", "./luthier/inference/..."]),
        ("typescript", "npm", "luthier/inference/v1/inference_pb.ts", []),
    ],
)
def test_stubs_of_another_language_by_one_command(
    tmp_path: Path, language: str, tool: str, made: str, check: list[str]
) -> None:
    if not shutil.which(tool):
        pytest.skip(f"{tool} is missing")

    subprocess.run([ROOT / "protos/stubs.sh", language, tmp_path], check=True, timeout=900)

    assert "Length in seconds, 0.1 to the model's window" in "".join(
        path.read_text() for path in (tmp_path / made).parent.iterdir()
    )
    if check:
        subprocess.run(check, cwd=tmp_path, check=True, timeout=900)
