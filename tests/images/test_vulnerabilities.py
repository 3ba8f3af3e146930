"""Locks against a database of vulnerabilities: what is found, what a VEX file accepts, what fails."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.images import vulnerabilities
from deploy.images.vulnerabilities import Finding, Package, Statement
from tests.images import osv
from tests.images.dockerfile import ROOT
from tests.support.services import require_tool

# The published record of a real vulnerability, without its texts.
JINJA2 = {
    "id": "PYSEC-2021-66",
    "schema_version": "1.4.0",
    "aliases": ["CVE-2020-28493"],
    "affected": [
        {
            "package": {"name": "jinja2", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.11.3"}]}],
            "versions": [],
        }
    ],
}
LOCK = """version = 1
[[package]]
name = "jinja2"
version = "{version}"
source = {{ registry = "https://pypi.example/simple" }}
[[package]]
name = "luthier-kit"
version = "0.1.0"
source = {{ editable = "." }}
"""
OLD = Package("jinja2", "2.10")
FOUND = Finding(OLD, "PYSEC-2021-66", frozenset({"CVE-2020-28493"}), ("2.11.3",))


def vex(folder: Path, **changes: object) -> Path:
    """A VEX file with one statement about Jinja2, changed."""
    statement = {
        "vulnerability": {"name": "CVE-2020-28493"},
        "products": [{"@id": "pkg:pypi/jinja2"}],
        "status": "not_affected",
        "justification": "vulnerable_code_not_in_execute_path",
        "impact_statement": "urlize is never called",
        **changes,
    }
    file = folder / "vex.json"
    file.write_text(json.dumps({"statements": [statement]}))
    return file


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with osv.serving([JINJA2]) as address:
        yield address


def check(folder: Path, version: str, server: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The program on a lock with this version of Jinja2."""
    lock = folder / "project/uv.lock"
    lock.parent.mkdir()
    lock.write_text(LOCK.format(version=version))
    uv = require_tool("uv")
    command = [sys.executable, "-m", "deploy.images.vulnerabilities", "--uv", str(uv), *arguments, str(lock)]
    environ = {**os.environ, "OSV_URL": server, "SERVICE": "osv"}
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=120)


def test_a_new_vulnerability_fails(server: str, tmp_path: Path) -> None:
    done = check(tmp_path, "2.10", server)
    assert (done.returncode, done.stdout.splitlines()[0]) == (
        1,
        "jinja2 2.10 PYSEC-2021-66 NEW, mended in 2.11.3 (project)",
    )


def test_an_accepted_one_passes_and_says_why(server: str, tmp_path: Path) -> None:
    done = check(tmp_path, "2.10", server, "--vex", str(vex(tmp_path)))
    assert done.returncode == 0, done.stdout
    assert "accepted: urlize is never called" in done.stdout


def test_a_mended_version_passes(server: str, tmp_path: Path) -> None:
    done = check(tmp_path, "2.11.3", server)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["no known vulnerability", "1 packages of 1 locks"]


def test_a_database_that_does_not_answer_fails(tmp_path: Path) -> None:
    done = check(tmp_path, "2.11.3", "http://127.0.0.1:1/v1/query")
    assert done.returncode == 1
    assert done.stderr


def test_a_package_that_was_not_asked_about_fails() -> None:
    report = json.dumps({"dependencies": [{"name": "jinja2", "skip_reason": "not found on PyPI"}]})
    with pytest.raises(vulnerabilities.UnknownError, match="jinja2: not found on PyPI"):
        vulnerabilities.findings(report)


@pytest.mark.parametrize(
    ("product", "accepted"),
    [("pkg:pypi/jinja2", True), ("pkg:pypi/jinja2@2.10", True), ("pkg:pypi/jinja2@2.9", False), ("pkg:pypi/x", False)],
)
def test_a_statement_is_about_its_product_alone(product: str, accepted: bool) -> None:
    assert Statement("PYSEC-2021-66", frozenset({product}), "why").accepts(FOUND) is accepted


def test_a_statement_about_another_vulnerability_accepts_nothing() -> None:
    assert not Statement("CVE-2024-1", frozenset({OLD.purl}), "why").accepts(FOUND)


def test_a_statement_that_is_about_nothing_is_told() -> None:
    text, clean = vulnerabilities.report([], [Statement("CVE-2024-1", frozenset({OLD.purl}), "why")], {})
    assert (clean, text) == (True, "CVE-2024-1: its statement in vex.json is about nothing that was found")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"status": "under_investigation"}, "status"),
        ({"justification": "because"}, "justification"),
        ({"impact_statement": " "}, "impact_statement"),
        ({"status": "affected", "impact_statement": ""}, "action_statement"),
    ],
)
def test_a_statement_without_a_reason_is_refused(changes: dict[str, object], field: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"statements\[0\].{field}"):
        vulnerabilities.statements(vex(tmp_path, **changes))


def test_the_kept_statements_are_whole() -> None:
    vulnerabilities.statements()


def test_two_versions_of_a_package_are_asked_apart() -> None:
    packages = [Package("a", "1"), Package("a", "2"), Package("b", "1")]
    assert vulnerabilities.files(packages) == ["a==1\nb==1\n", "a==2\n"]


@pytest.mark.parametrize(("version", "affected"), [("2.11.2", True), ("2.11.3", False), ("3.0", False), ("1!0", False)])
def test_the_servers_ranges_are_those_of_the_record(version: str, affected: bool) -> None:
    assert osv.concerns(JINJA2, "Jinja2", version) is affected
