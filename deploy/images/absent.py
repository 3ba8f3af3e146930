"""CUDA libraries that inference's image leaves out, and what stands there instead.

torch's CUDA library names them all as needed, so that without them `import torch` fails, yet generating calls none:
they serve several GPUs, sparse matrices, Fourier transforms, solvers. Each is replaced by a small library of the
same name with the functions that torch asks for. A function that returns a status returns the library's own status of
an error, so that torch raises a RuntimeError as for any other; one that returns a text says what is missing.

    python3 absent.py arguments                   arguments of `uv sync` that leave the packages out
    python3 absent.py build SITE_PACKAGES OUT     compiles the libraries into OUT, laid out as site-packages are

It runs in image builds; pyelftools reads torch's libraries, and the compiler is the package ziglang.
"""

import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True)
class Library:
    """A library that is left out.

    Attributes:
        package: the distribution that has it.
        file: where it lies below site-packages; the name is the one that torch asks for.
        prefix: how its functions begin; those of a library further up in `LIBRARIES` are not its own.
        status: what a function returns that tells a status: the library's own for an internal error or what is not
            supported, by its header.
    """

    package: str
    file: str
    prefix: str
    status: int


LIBRARIES: Final = (
    Library("nvidia-nccl-cu13", "nvidia/nccl/lib/libnccl.so.2", "nccl", 3),  # ncclInternalError
    Library("nvidia-nvshmem-cu13", "nvidia/nvshmem/lib/libnvshmem_host.so.3", "nvshmem", 7),  # NVSHMEMX_ERROR_INTERNAL
    Library("nvidia-cusparselt-cu13", "nvidia/cusparselt/lib/libcusparseLt.so.0", "cusparseLt", 10),  # NOT_SUPPORTED
    Library("nvidia-cusparse", "nvidia/cu13/lib/libcusparse.so.12", "cusparse", 10),  # NOT_SUPPORTED
    Library("nvidia-cusolver", "nvidia/cu13/lib/libcusolver.so.12", "cusolver", 9),  # NOT_SUPPORTED
    Library("nvidia-cufft", "nvidia/cu13/lib/libcufft.so.12", "cufft", 16),  # NOT_SUPPORTED
    Library("nvidia-curand", "nvidia/cu13/lib/libcurand.so.10", "curand", 999),  # INTERNAL_ERROR
    Library("nvidia-nvjitlink", "nvidia/cu13/lib/libnvJitLink.so.13", "nvJitLink", 6),  # INTERNAL
)
TEXTS: Final = ("ErrorString", "ErrorName", "LastError")
"""Ends of the names of functions that return a text."""
NOTHING: Final = ("nvshmem_malloc", "nvshmem_ptr", "nvshmemx_mc_ptr", "nvshmemid_init_status")
"""Functions that return a pointer, here null, or whether the library is started, here not."""


def source(library: Library, functions: list[str]) -> str:
    """C of a library with these functions."""
    name = library.file.rpartition("/")[2]
    lines = [f'static const char missing[] = "{name} is not in this image (deploy/README.md of Luthier)";']
    for function in functions:
        if function.endswith(TEXTS):
            lines.append(f"const char *{function}(void) {{ return missing; }}")
        else:
            lines.append(f"long {function}(void) {{ return {0 if function in NOTHING else library.status}; }}")
    return "\n".join(lines) + "\n"


def asked(site_packages: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """What torch's libraries ask for: functions by the file name of the library, and the version of its functions."""
    libraries = sorted((site_packages / "torch/lib").glob("*.so"))
    if not libraries:  # what was made of nothing would fail at the first import of torch
        sys.exit(f"no library of torch in {site_packages}")
    from elftools.elf.elffile import ELFFile

    functions: dict[str, set[str]] = {}
    versions: dict[str, str] = {}
    for path in libraries:
        with path.open("rb") as file:
            elf = ELFFile(file)
            needed = {tag.needed for tag in elf.get_section_by_name(".dynamic").iter_tags() if hasattr(tag, "needed")}
            names = [
                each.name
                for each in elf.get_section_by_name(".dynsym").iter_symbols()
                if each["st_shndx"] == "SHN_UNDEF"
            ]
            for library in LIBRARIES:
                if (own := library.file.rpartition("/")[2]) in needed:
                    functions.setdefault(own, set()).update(name for name in names if of(name) == library)
            if (section := elf.get_section_by_name(".gnu.version_r")) is not None:
                for entry, wanted in section.iter_versions():
                    versions.update((entry.name, each.name) for each in wanted)
    return {name: sorted(each) for name, each in functions.items()}, versions


def of(function: str) -> Library | None:
    """The library that a function belongs to, by the beginning of its name."""
    return next((library for library in LIBRARIES if function.startswith(library.prefix)), None)


def build(site_packages: Path, out: Path) -> None:
    """Compiles each library for this machine's architecture. One that torch does not name has no functions."""
    functions, versions = asked(site_packages)
    target = f"{platform.machine()}-linux-gnu.2.31"  # as old as the system of any Python package that is needed here
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-O2", "-s", "-shared", "-nostdlib", "-fPIC"]
    for library in LIBRARIES:
        name = library.file.rpartition("/")[2]
        (out / library.file).parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            script, code = Path(folder, "versions"), Path(folder, "absent.c")
            script.write_text(f"{versions.get(name, name)} {{ global: *; }};\n")
            code.write_text(source(library, functions.get(name, [])))
            linker = [f"-Wl,-soname,{name}", f"-Wl,--version-script={script}"]
            subprocess.run([*compiler, *linker, "-o", str(out / library.file), str(code)], check=True, cwd=folder)
        print(f"{name}: {len(functions.get(name, []))} functions")


def main(arguments: list[str]) -> None:
    """Exits with 2 when the arguments are not understood."""
    match arguments:
        case ["arguments"]:
            print(*(f"--no-install-package={library.package}" for library in LIBRARIES))
        case ["build", site_packages, out]:
            build(Path(site_packages), Path(out).resolve())
        case _:
            print(__doc__, file=sys.stderr)
            sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
