"""Checks the packages of every lock against a database of vulnerabilities; `make vulnerabilities` calls it.

    python3 -m deploy.images.vulnerabilities --uv UV services/*/uv.lock

pip-audit asks OSV (api.osv.dev, or OSV_URL: another server with its API; SERVICE=pypi asks PyPI). What is found and has
no statement in vex.json (OpenVEX 0.2) is printed, and the exit status is 1; so is what could not be asked.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
VEX: Final = Path(__file__).with_name("vex.json")
PIP_AUDIT: Final = "pip-audit==2.10.1"
JUSTIFICATIONS: Final = (
    "component_not_present",
    "vulnerable_code_not_present",
    "vulnerable_code_not_in_execute_path",
    "vulnerable_code_cannot_be_controlled_by_adversary",
    "inline_mitigations_already_exist",
)
"""Those of OpenVEX for `not_affected`."""


@dataclass(frozen=True, order=True)
class Package:
    """A distribution of PyPI by its normal name and version."""

    name: str
    version: str

    @property
    def purl(self) -> str:
        return f"pkg:pypi/{self.name}@{self.version}"


@dataclass(frozen=True)
class Finding:
    """A vulnerability of a package: its id, other ids of the same one, and the versions that mend it."""

    package: Package
    name: str
    aliases: frozenset[str]
    fixed_in: tuple[str, ...]


@dataclass(frozen=True)
class Statement:
    """An accepted vulnerability: its id, the packages it is about (purl, with or without a version), and why."""

    vulnerability: str
    products: frozenset[str]
    reason: str

    def accepts(self, finding: Finding) -> bool:
        """Whether the statement is about this vulnerability of this package."""
        purls = {finding.package.purl, finding.package.purl.partition("@")[0]}
        return self.vulnerability in {finding.name, *finding.aliases} and bool(self.products & purls)


class UnknownError(Exception):
    """The database could not be asked about a package."""


def locked(lock: Path) -> set[Package]:
    """Packages of PyPI that a lock has, of all its extras and groups."""
    packages = tomllib.loads(lock.read_text())["package"]
    return {Package(each["name"], each["version"]) for each in packages if "registry" in each["source"]}


def statements(file: Path = VEX) -> list[Statement]:
    """The accepted vulnerabilities.

    Raises:
        ValueError: a statement lacks what OpenVEX or we ask for, with its number.
    """
    found = []
    for number, each in enumerate(json.loads(file.read_text())["statements"]):
        status, reason = each.get("status"), each.get("impact_statement") or each.get("action_statement") or ""
        if status not in ("not_affected", "affected"):
            raise ValueError(f"statements[{number}].status: not_affected or affected, got {status!r}")
        if status == "not_affected" and each.get("justification") not in JUSTIFICATIONS:
            raise ValueError(f"statements[{number}].justification: one of {', '.join(JUSTIFICATIONS)}")
        if not reason.strip():
            wanted = "impact_statement" if status == "not_affected" else "action_statement"
            raise ValueError(f"statements[{number}].{wanted}: says why it is accepted")
        products = frozenset(product["@id"] for product in each["products"])
        found.append(Statement(each["vulnerability"]["name"], products, reason))
    return found


def files(packages: Iterable[Package]) -> list[str]:
    """Lists of requirements, each with one version of a package at most, as pip-audit asks."""
    lists: list[dict[str, str]] = []
    for package in sorted(packages):
        free = next((each for each in lists if package.name not in each), None)
        if free is None:
            lists.append(free := {})
        free[package.name] = package.version
    return ["".join(f"{name}=={version}\n" for name, version in each.items()) for each in lists]


def findings(report: str) -> list[Finding]:
    """What a report of pip-audit (JSON) says.

    Raises:
        UnknownError: a package was left out.
    """
    found = []
    for dependency in json.loads(report)["dependencies"]:
        if "skip_reason" in dependency:
            raise UnknownError(f"{dependency['name']}: {dependency['skip_reason']}")
        package = Package(dependency["name"], dependency["version"])
        for each in dependency["vulns"]:
            found.append(Finding(package, each["id"], frozenset(each["aliases"]), tuple(each["fix_versions"])))
    return found


def audited(requirements: str, uv: str) -> list[Finding]:
    """Findings among requirements of one file.

    Raises:
        UnknownError: the database could not be asked.
    """
    service = [f"--vulnerability-service={os.environ.get('SERVICE', 'osv')}"]
    if "OSV_URL" in os.environ:
        service.append(f"--osv-url={os.environ['OSV_URL']}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "requirements.txt")
        file.write_text(requirements)
        command = [uv, "tool", "run", "--quiet", "--from", PIP_AUDIT, "pip-audit", "--requirement", str(file)]
        options = ["--no-deps", "--disable-pip", "--format=json", "--progress-spinner=off", *service]
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if not done.stdout.strip():
        raise UnknownError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "pip-audit told nothing")
    return findings(done.stdout)


def report(found: list[Finding], accepted: list[Statement], users: dict[Package, list[str]]) -> tuple[str, bool]:
    """What is printed of all findings, and whether each is accepted. `users`: the locks that have a package."""
    lines, clean = [], True
    for finding in sorted(found, key=lambda each: (each.package, each.name)):
        statement = next((each for each in accepted if each.accepts(finding)), None)
        mended = ", ".join(finding.fixed_in) or "no version"
        word = f"accepted: {statement.reason}" if statement else f"NEW, mended in {mended}"
        package = finding.package
        lines.append(f"{package.name} {package.version} {finding.name} {word} ({', '.join(users[package])})")
        clean = clean and statement is not None
    unused = [each for each in accepted if not any(each.accepts(finding) for finding in found)]
    lines += [f"{each.vulnerability}: its statement in vex.json is about nothing that was found" for each in unused]
    return "\n".join(lines), clean


def main() -> None:
    """Exits with 1 when something new was found or the database could not be asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("locks", nargs="+", type=Path)
    parser.add_argument("--uv", required=True, help="the program uv, which brings pip-audit")
    parser.add_argument("--vex", type=Path, default=VEX)
    options = parser.parse_args()
    users: dict[Package, list[str]] = {}
    for lock in options.locks:
        for package in locked(lock):
            users.setdefault(package, []).append(lock.parent.name)
    try:
        found = [finding for each in files(users) for finding in audited(each, options.uv)]
        text, clean = report(found, statements(options.vex), users)
    except (UnknownError, ValueError) as error:
        sys.exit(str(error))
    print(text or "no known vulnerability")
    print(f"{len(users)} packages of {len(options.locks)} locks")
    sys.exit(0 if clean else 1)


if __name__ == "__main__":
    main()
