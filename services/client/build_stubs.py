"""Generate the stubs when the wheel is built, so that none live in the tree."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import grpc_tools
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CONTRACTS = ("luthier/common/v1/common.proto", "luthier/inference/v1/inference.proto")
WIRE = "luthier/wire/v1/wire.proto"


class StubHook(BuildHookInterface):
    """Compiles the contracts of inference into messages and gRPC stubs, with type stubs that have their comments."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        protos = next(path for path in (root / "protos", root.parents[1] / "protos") if path.is_dir())
        out = Path(tempfile.mkdtemp())
        includes = [protos, root, Path(grpc_tools.__file__).parent / "_proto"]
        outputs = [f"--{kind}_out={out}" for kind in ("python", "grpc_python")]
        outputs += [f"--{kind}_out=quiet:{out}" for kind in ("mypy", "mypy_grpc")]
        path = (
            f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # protoc looks for plugins there
        )
        command = [sys.executable, "-W", "ignore", "-m", "grpc_tools.protoc", *(f"-I{each}" for each in includes)]
        subprocess.run([*command, *outputs, *CONTRACTS, WIRE], check=True, env={**os.environ, "PATH": path})
        for package in {path.parent for path in out.rglob("*.py")}:
            (package / "py.typed").touch()
        kind = "force_include_editable" if version == "editable" else "force_include"
        for path in (path for path in out.rglob("*") if path.is_file()):
            build_data[kind][str(path)] = str(path.relative_to(out))
