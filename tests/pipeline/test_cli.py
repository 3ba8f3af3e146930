"""The command line: help, version, typos, exit codes, and that it is plain where nobody looks."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.core import TyperGroup

from luthier_kit.store import StoreSettings, open_store
from luthier_pipeline.cli import SECTIONS, load
from tests.pipeline.fakes import luthier

PROGRAM = [sys.executable, "-m", "luthier_pipeline"]
NAMES = [name for commands in SECTIONS.values() for name in commands]


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **environ}
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, env=environment, check=False)


def on_terminal(*arguments: str, columns: int, **environ: str) -> str:
    """What the command writes to a terminal of so many columns."""
    controller, terminal = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm", **environ}
    process = subprocess.Popen(
        [*PROGRAM, *arguments], stdout=terminal, stderr=terminal, stdin=terminal, env=environment
    )
    os.close(terminal)
    written, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([controller], [], [], 0.1)[0]:
            try:
                written += os.read(controller, 65536)
            except OSError:  # the other end is closed
                break
    process.wait(timeout=10)
    os.close(controller)
    return written.decode()


@pytest.mark.parametrize("line", ["", "dance", "run", "run x --in-flight 0", "train", "submit --collection x"])
def test_wrong_usage_ends_with_2(line: str) -> None:
    assert luthier(line).code == 2


def test_a_folder_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    open_store(StoreSettings(store_folder=tmp_path))
    done = run("run", str(tmp_path / "nowhere"), LUTHIER_HOME=str(tmp_path), LUTHIER_STORE_FOLDER=str(tmp_path))
    assert done.returncode == 2
    assert "must be a folder" in done.stderr


def test_a_setting_that_is_wrong_is_named(tmp_path: Path) -> None:
    done = run("status", LUTHIER_HOME=str(tmp_path), LUTHIER_STORE="tape")
    assert done.returncode == 1
    assert "LUTHIER_STORE must be one of folder, s3" in done.stderr


def test_the_help_names_every_command_and_where_to_begin() -> None:
    text = luthier("--help").out
    assert [name for name in NAMES if not re.search(rf"^  {name} +\w", text, re.MULTILINE)] == []
    assert "make up" in text
    assert "luthier demo" in text


def test_luthier_alone_shows_the_help() -> None:
    assert luthier("").err == luthier("--help").out


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_and_takes_json(name: str) -> None:
    found = load(name)
    called = [[name, further] for further in found.commands] if isinstance(found, TyperGroup) else [[name]]
    for words in called:
        done = luthier([*words, "--help"])
        assert done.code == 0
        assert "--json" in done.out
    assert found.help


def test_the_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    assert run("--version").stdout == f"luthier {version('luthier-pipeline')}\n"


@pytest.mark.parametrize(
    ("typed", "meant"), [("rum x", "'run'"), ("stauts", "'status'"), ("status --colection x", "--collection")]
)
def test_a_typo_is_answered_with_what_was_meant(typed: str, meant: str) -> None:
    done = luthier(typed)
    assert done.code == 2
    assert meant in done.err


def test_help_and_version_import_no_client() -> None:
    """Half a second of imports that nobody should wait for who asks for help or completes a name."""
    code = (
        "import sys, luthier_pipeline.cli; print([m for m in ('grpc', 'google.protobuf', 'rich') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_a_shell_completes_commands_and_options() -> None:
    environ = {"_LUTHIER_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    assert run(COMP_WORDS="luthier st", **environ).stdout.split() == ["status"]
    assert "--collection" in run(COMP_WORDS="luthier status --col", **environ | {"COMP_CWORD": "2"}).stdout


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["rum"], ["status", "--collection", "none"]])
def test_a_pipe_gets_no_escape_codes_whatever_the_environment_says(arguments: list[str], tmp_path: Path) -> None:
    done = run(*arguments, LUTHIER_HOME=str(tmp_path), LUTHIER_STORE_FOLDER=str(tmp_path), FORCE_COLOR="1")
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize("columns", [52, 80])  # 50 is the least that help is written for
@pytest.mark.parametrize("arguments", [["--help"], ["evaluate", "--help"]])
def test_help_fits_the_terminal(arguments: list[str], columns: int) -> None:
    text = on_terminal(*arguments, columns=columns)
    commands = text.partition("Begin with:")[0]  # what is to be pasted is not broken
    assert max(len(line) for line in commands.splitlines()) <= columns
    assert "Options:" in text


def test_errors_are_one_line_and_with_json_a_document(tmp_path: Path) -> None:
    done = run("ingest", str(tmp_path), "--json", LUTHIER_HOME=str(tmp_path), LUTHIER_STORE_FOLDER=str(tmp_path / "s"))
    assert done.returncode == 1
    assert done.stderr == f"luthier: FOLDER_EMPTY: FOLDER: has no .mid or .midi file: {tmp_path}\n"
    assert '"reason": "FOLDER_EMPTY"' in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("arguments", [["--help"], ["status", "--collection", "none", "--json"]])
def test_who_reads_no_further_gets_no_traceback(arguments: list[str], tmp_path: Path) -> None:
    open_store(StoreSettings(store_folder=tmp_path / "s"))
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "LUTHIER_HOME": str(tmp_path), "LUTHIER_STORE_FOLDER": str(tmp_path / "s")}
    done = subprocess.run(
        [*PROGRAM, *arguments], stdout=writer, stderr=subprocess.PIPE, text=True, env=environment, check=False
    )
    os.close(writer)
    assert (done.returncode in (1, 141), done.stderr) == (True, "")  # 1: help, by click


def test_clients_of_s3_and_of_traces_are_imported_by_those_who_use_them() -> None:
    program = "import sys, luthier_pipeline.clients; print({'minio', 'opentelemetry'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()", "each command would wait for them"
