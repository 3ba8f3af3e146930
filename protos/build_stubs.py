"""Generate the Python stubs when the wheel is built, so that none live in the tree."""

import sys
import tempfile
from pathlib import Path
from typing import Any

import google.rpc
import grpc_tools
from grpc_tools import protoc
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class StubHook(BuildHookInterface):
    """Compiles every `luthier/**/*.proto` into messages, type stubs and gRPC stubs inside the wheel, and all of them
    into `luthier/contracts.binpb`, a FileDescriptorSet with their comments, which the stubs have lost."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        del version
        root = Path(self.root)
        includes = [Path(grpc_tools.__file__).parent / "_proto", Path(next(iter(google.rpc.__path__))).parents[1]]
        out = Path(tempfile.mkdtemp())
        outputs = [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python", "mypy_grpc")]
        plugin = f"--plugin=protoc-gen-mypy_grpc={Path(sys.executable).parent / 'protoc-gen-mypy_grpc'}"
        sources = sorted(str(path.relative_to(root)) for path in root.glob("luthier/**/*.proto"))
        contracts = out / "luthier/contracts.binpb"
        contracts.parent.mkdir()
        described = [f"--descriptor_set_out={contracts}", "--include_source_info"]
        command = ["protoc", f"-I{root}", *(f"-I{path}" for path in includes), plugin, *outputs, *described, *sources]
        if code := protoc.main(command):
            raise SystemExit(code)
        for stub in (path for path in out.rglob("*") if path.suffix in (".py", ".pyi")):
            build_data["force_include"][str(stub)] = str(stub.relative_to(out))
        build_data["force_include"][str(contracts)] = str(contracts.relative_to(out))
        for package in {path.parent for path in out.rglob("*.py")}:
            marker = package / "py.typed"
            marker.touch()
            build_data["force_include"][str(marker)] = str(marker.relative_to(out))
