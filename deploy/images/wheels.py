"""Which packages of the locks have no wheel for another platform or Python; `make wheels` prints the table of it.

    tests/.venv/bin/python -m deploy.images.wheels --uv UV services/*/uv.lock

A lock names the wheels of its own platforms alone. So the projects are locked anew in a temporary folder, for x86_64
and aarch64 and one Python more, with the versions that they have; the wheels that this lock names are what there is.
What has no wheel but a source distribution needs a compiler, which images do not have.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

ROOT: Final = Path(__file__).parents[2]
REQUIRES: Final = '">=3.11,<3.14"'
ENVIRONMENTS: Final = (
    "environments = [\"sys_platform == 'linux' and platform_machine == 'x86_64'\", "
    "\"sys_platform == 'linux' and platform_machine == 'aarch64'\"]"
)
GLIBC: Final = 36
"""glibc 2.36 is that of Debian 12, the images' base: a wheel may ask for this one or an older."""


@dataclass(frozen=True)
class Target:
    """A platform and a Python: the machine as uname tells it, and the minor version of Python 3."""

    machine: str
    minor: int

    def __str__(self) -> str:
        return f"{self.machine}, 3.{self.minor}"

    @cached_property
    def tags(self) -> frozenset[Tag]:
        """The tags of wheels that install here."""
        old = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
        platforms = [
            f"{name}_{self.machine}"
            for minor in range(GLIBC, 4, -1)
            for name in (f"manylinux_2_{minor}", *([old[minor]] if minor in old else []))
        ]
        platforms.append(f"linux_{self.machine}")
        version = (3, self.minor)
        interpreter = f"cp3{self.minor}"
        return frozenset(
            [
                *cpython_tags(version, [interpreter], platforms),
                *compatible_tags(version, interpreter, platforms),
            ]
        )

    def runs(self, wheel: str) -> bool:
        """Whether a wheel of this file name installs here."""
        return not self.tags.isdisjoint(parse_wheel_filename(wheel)[3])

    def wants(self, requirement: Requirement) -> bool:
        """Whether a requirement's marker holds here."""
        version = f"3.{self.minor}"
        environment = {
            "platform_machine": self.machine,
            "sys_platform": "linux",
            "platform_system": "Linux",
            "os_name": "posix",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "python_version": version,
            "python_full_version": f"{version}.0",
        }
        return requirement.marker is None or requirement.marker.evaluate(environment)


TARGETS: Final = tuple(Target(machine, minor) for machine in ("x86_64", "aarch64") for minor in (11, 12, 13))


def copied(folder: Path) -> None:
    """What locking reads of the projects, with another range of Pythons and platforms."""
    for path in [*ROOT.glob("*/*/pyproject.toml"), *ROOT.glob("*/pyproject.toml")]:
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = re.sub(r'(?<=requires-python = )"[^"]*"', REQUIRES, path.read_text())
        target.write_text(re.sub(r"^environments = \[.*?\]$", lambda _: ENVIRONMENTS, text, flags=re.M | re.S))
        if path.with_name("uv.lock").exists():
            shutil.copy(path.with_name("uv.lock"), target.with_name("uv.lock"))


def relocked(project: Path, uv: str) -> list[str]:
    """Locks a copied project. What aarch64 cannot have is asked for on x86_64 alone, and returned as `name version`.

    Such a package has neither a source distribution nor a wheel for aarch64, and uv makes no lock that wants it there.

    Raises:
        subprocess.CalledProcessError: uv cannot lock it for another reason.
    """
    left_out: list[str] = []
    while True:
        command = [uv, "lock", "--quiet", "--project", str(project)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return left_out
        message = " ".join(done.stderr.split())
        found = re.search(r"Because (\S+)==(\S+) has no `[^`]*'aarch64'[^`]*`-compatible wheels", message)
        if not found or f"{found[1]} {found[2]}" in left_out:
            sys.stderr.write(done.stderr)
            raise subprocess.CalledProcessError(done.returncode, command)
        left_out.append(f"{found[1]} {found[2]}")
        file, override = project / "pyproject.toml", f"\"{found[1]}=={found[2]}; platform_machine == 'x86_64'\","
        text = file.read_text()
        begun = "override-dependencies = ["
        if begun not in text:
            text = text.replace("[tool.uv]\n", f"[tool.uv]\n{begun}]\n", 1)
        file.write_text(text.replace(begun, f"{begun}{override}", 1))


def wanted(project: Path, uv: str) -> list[Requirement]:
    """What a project installs of PyPI without its groups, with markers."""
    command = [uv, "export", "--quiet", "--project", str(project), "--frozen", "--no-dev", "--all-extras"]
    options = ["--no-hashes", "--no-header", "--no-annotate", "--no-emit-local"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    return [Requirement(line) for line in done.stdout.splitlines()]


def wheels(lock: Path) -> dict[str, list[str]]:
    """File names of the wheels of each `name==version` that a lock names."""
    return {
        f"{package['name']}=={package['version']}": [
            each["url"].rpartition("/")[2] for each in package.get("wheels", [])
        ]
        for package in tomllib.loads(lock.read_text())["package"]
        if "registry" in package["source"]
    }


def missing(target: Target, requirements: Iterable[Requirement], files: dict[str, list[str]]) -> list[str]:
    """What is wanted on a target and has no wheel there, as `name version`."""
    pinned = {f"{each.name}{each.specifier}" for each in requirements if target.wants(each)}
    return sorted(each.replace("==", " ") for each in pinned if not any(map(target.runs, files.get(each, []))))


def table(found: dict[str, dict[Target, list[str]]]) -> str:
    """Rows of Markdown: a project, and what has no wheel on each target."""
    lines = ["| project | " + " | ".join(map(str, TARGETS)) + " |", "|---" * (len(TARGETS) + 1) + "|"]
    for project, by_target in found.items():
        cells = [", ".join(by_target[target]) or "all there" for target in TARGETS]
        lines.append(f"| {project} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("locks", nargs="+", type=Path)
    parser.add_argument("--uv", required=True, help="the program uv")
    options = parser.parse_args()
    found: dict[str, dict[Target, list[str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        copied(Path(folder))
        for path in options.locks:
            project = Path(folder) / path.resolve().parent.relative_to(ROOT)
            left_out = relocked(project, options.uv)
            files, requirements = wheels(project / "uv.lock"), wanted(project, options.uv)
            found[project.name] = {
                target: sorted(missing(target, requirements, files) + (left_out if target.machine == "aarch64" else []))
                for target in TARGETS
            }
            print(f"{project.name}: {len(files)} packages", file=sys.stderr)
    print(table(found))


if __name__ == "__main__":
    main()
