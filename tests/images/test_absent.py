"""What stands in for the CUDA libraries that inference's image leaves out."""

import json
import subprocess
import sys
from importlib.util import source_hash
from pathlib import Path

import pytest

from deploy.images import absent, finish
from deploy.images.absent import LIBRARIES
from tests.images.dockerfile import stages
from tests.images.test_licences import installed

NCCL = LIBRARIES[0]


def test_what_is_left_out_is_in_the_lock_under_this_name() -> None:
    assert {library.package for library in LIBRARIES} <= installed("inference")


def test_each_package_is_named_to_uv(capsys: pytest.CaptureFixture[str]) -> None:
    absent.main(["arguments"])
    assert capsys.readouterr().out.split() == [f"--no-install-package={library.package}" for library in LIBRARIES]


@pytest.mark.parametrize(
    ("function", "package"),
    [
        ("ncclAllReduce", "nvidia-nccl-cu13"),
        ("cusparseLtInit", "nvidia-cusparselt-cu13"),
        ("cusparseCreate", "nvidia-cusparse"),
        ("cufftExecC2C", "nvidia-cufft"),
    ],
)
def test_a_function_belongs_to_one_library(function: str, package: str) -> None:
    library = absent.of(function)
    assert library is not None
    assert library.package == package


def test_what_generating_calls_is_not_left_out() -> None:
    assert not [name for name in ("cublasCreate_v2", "cudnnCreate", "cudaMalloc", "nvrtcVersion") if absent.of(name)]


def test_a_function_tells_an_error_or_a_text() -> None:
    code = absent.source(NCCL, ["ncclAllReduce", "ncclGetErrorString"])
    assert "long ncclAllReduce(void) { return 3; }" in code  # ncclInternalError of nccl.h
    assert "const char *ncclGetErrorString(void) { return missing; }" in code
    assert "libnccl.so.2 is not in this image" in code


def test_only_inference_has_them() -> None:
    having = [
        stage.name for stage in stages().values() if any("--from=absent" in copy for copy in stage.arguments("COPY"))
    ]
    assert having == ["inference"]


def test_byte_code_says_the_sources_digest_and_no_time(tmp_path: Path) -> None:
    source = tmp_path / "m.py"
    source.write_text("def f(a, b=('x', 'y')):\n    return {a: b}\n")
    command = [sys.executable, finish.__file__, "--compile"]
    subprocess.run(command, input=json.dumps([str(source)]), text=True, check=True, timeout=60)
    [compiled] = tmp_path.glob("__pycache__/m.*.pyc")
    # PEP 552: flags, then the digest of the source
    assert compiled.read_bytes()[4:16] == b"\x01\0\0\0" + source_hash(source.read_bytes())


def test_what_is_not_used_is_removed_and_the_rest_compiled(tmp_path: Path) -> None:
    packages = tmp_path / "lib/python3.11/site-packages"
    for path in (
        "torch/bin/protoc",
        "torch/nn.py",
        "sympy/core/tests/test_a.py",
        "nvidia/cu13/lib/libcudart_static.a",
    ):
        (packages / path).parent.mkdir(parents=True, exist_ok=True)
        (packages / path).write_text("")
    note = packages / "luthier_kit-0.1.0.dist-info"
    note.mkdir()
    (note / "uv_cache.json").write_text("{}")
    (note / "RECORD").write_text("a.py,,\nluthier_kit-0.1.0.dist-info/uv_cache.json,sha256=x,2\n")
    finish.finish(tmp_path)
    left = {str(path.relative_to(packages)) for path in packages.rglob("*") if path.is_file()}
    tag = sys.implementation.cache_tag
    assert left == {"torch/nn.py", f"torch/__pycache__/nn.{tag}.pyc", "luthier_kit-0.1.0.dist-info/RECORD"}
    assert (note / "RECORD").read_text() == "a.py,,\n"


def test_a_file_that_is_no_python_is_left_as_it_is(tmp_path: Path) -> None:
    packages = tmp_path / "lib/python3.11/site-packages"
    packages.mkdir(parents=True)
    (packages / "template.py").write_text("def {{ name }}:")
    finish.finish(tmp_path)
    assert [path.name for path in packages.rglob("*")] == ["template.py"]


def test_without_torch_nothing_is_made(tmp_path: Path) -> None:
    """An empty folder of packages gave libraries without functions, with which torch could not be imported."""
    with pytest.raises(SystemExit, match="no library of torch"):
        absent.main(["build", str(tmp_path), str(tmp_path / "out")])
