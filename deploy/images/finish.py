"""Finishes an environment in an image build: removes what nothing reads at run time and byte-compiles the rest.

    python3 finish.py /app/.venv

Byte code is written so that the same packages give the same bytes: by the source's digest in place of its time, since
the layers' times are set, and by a fixed number of processes that each compile their files in order, because what
Python writes of a file depends a little on what it compiled before. A file that is compiled is left as it is, so that
a layer repeats nothing of the layer below it.
"""

import json
import os
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

PROCESSES: Final = 4
"""How many processes compile. More or fewer would give other bytes."""

UNUSED: Final = (
    "torch/bin/protoc*",
    "torch/bin/ptxas",  # Triton's assembler; Triton, where it is there, has its own
    "nvidia/*/include",
    "nvidia/*/lib/*.a",  # for linking
    "nvidia/*/lib/*.bc",  # NVSHMEM's functions for a compiler
    "nvidia/cu13/lib/libcusolverMg.so.*",  # dense solvers on several GPUs
    "nvidia/cu13/lib/libnvrtc.alt.so.*",  # a second build of the compiler of CUDA C++, for programs linked with it
    "nvidia/cu13/lib/libnvrtc-builtins.alt.so.*",
    "nvidia/cu13/lib/libnvperf_*.so",  # counters of the hardware, which torch's profiler does not read
    "nvidia/cu13/lib/libpcsamplingutil.so",
    "nvidia/cu13/lib/libcheckpoint.so",
    "nvidia/cu13/lib/libnvblas.so.*",  # BLAS and FFTW by their own names, for programs linked with them
    "nvidia/cu13/lib/libcufftw.so.*",
    "nvidia/cu13/lib/libcufile_rdma.so.*",
    *(
        f"{package}/**/tests"
        for package in (
            "matplotlib",
            "mpmath",
            "networkx",
            "numpy",
            "pandas",
            "scipy",
            "setuptools",
            "sklearn",
            "sympy",
        )
    ),
)
"""Below site-packages: what no library names as needed, torch opens nowhere by name, and no package imports."""


def finish(environment: Path) -> None:
    """Removes and compiles in the environment's site-packages."""
    [packages] = environment.glob("lib/python3.*/site-packages")
    for pattern in UNUSED:
        for path in sorted(packages.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.exists():  # not in a folder that is gone already
                path.unlink()
    for record in packages.glob("*.dist-info/RECORD"):
        _without_uvs_times(record)
    sources = sorted(str(path) for path in packages.rglob("*.py") if not path.is_symlink())
    missing = [source for source in sources if not _compiled(source).exists()]
    workers = [
        subprocess.Popen([sys.executable, "-I", __file__, "--compile"], stdin=subprocess.PIPE, env=os.environ)
        for _ in range(PROCESSES)
    ]
    for number, worker in enumerate(workers):
        assert worker.stdin
        worker.stdin.write(json.dumps(missing[number::PROCESSES]).encode())
        worker.stdin.close()
    codes = [worker.wait() for worker in workers]
    if any(codes):
        sys.exit("byte-compiling failed")


def _without_uvs_times(record: Path) -> None:
    """Removes the note of uv about when a local project changed, and its line in the list of files."""
    note = record.with_name("uv_cache.json")
    if note.exists():
        note.unlink()
        lines = record.read_text().splitlines(keepends=True)
        record.write_text("".join(line for line in lines if "/uv_cache.json," not in line))


def _compiled(source: str) -> Path:
    folder, name = os.path.split(source)
    return Path(folder, "__pycache__", f"{name.removesuffix('.py')}.{sys.implementation.cache_tag}.pyc")


def compile_all(sources: list[str]) -> None:
    """Compiles in this order. What is no Python of this version, such as a template, is left out, as pip does."""
    for source in sources:
        try:
            py_compile.compile(source, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
        except (py_compile.PyCompileError, ValueError):
            continue


if __name__ == "__main__":
    if sys.argv[1:] == ["--compile"]:
        compile_all(json.load(sys.stdin))
    else:
        finish(Path(sys.argv[1]))
