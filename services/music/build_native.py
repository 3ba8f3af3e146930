"""Compile native/*.c when the package is built, into a package of its own: luthier_music_native, so that no compiled
file lives in the tree.

The machine's C compiler does it, or the one in the package ziglang where there is none (an image with a slim base).
Both give the same results: every operation of the sources is one of IEEE 754, in the order that is written.
"""

import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ZIG = "ziglang==0.17.0"
MACHINE = platform.machine()  # x86_64 or aarch64
TARGET = ["-target", f"{MACHINE}-linux-gnu.2.31"]  # as old as the system of any Python package that is needed here
FLAGS = [
    "-std=gnu11",
    "-O3",
    *(["-msse4.2"] if MACHINE == "x86_64" else []),  # as numpy's wheels want
    "-ffp-contract=off",
    "-Wall",
    "-shared",
    "-fPIC",
]


class NativeHook(BuildHookInterface):
    """Adds the library to the wheel, of an editable install, too."""

    def dependencies(self) -> list[str]:
        return [] if shutil.which("cc") else [ZIG]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        del version
        out = Path(tempfile.mkdtemp())
        (out / "__init__.py").write_text('"""Compiled part of luthier_music: luthier_music.native."""\n')
        compiler = ["cc"] if shutil.which("cc") else [sys.executable, "-m", "ziglang", "cc", *TARGET]
        sources = sorted((Path(self.root) / "native").glob("*.c"))
        subprocess.run([*compiler, *FLAGS, "-o", out / "luthier_music.so", *sources], check=True)
        for path in out.iterdir():
            for kind in ("force_include", "force_include_editable"):
                build_data[kind][str(path)] = f"luthier_music_native/{path.name}"
        build_data["tag"] = f"py3-none-linux_{MACHINE}"
        build_data["pure_python"] = False
