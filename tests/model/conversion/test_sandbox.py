"""What a process that opens hostile files may not do. It asks for it itself, in place of a file that would."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from luthier_model.conversion import sandbox
from luthier_model.conversion.sandbox import Limits, Process, Refused

PROGRAM = """
import json, os, socket, subprocess, sys, time
from luthier_model.conversion.sandbox import confined
confined()
for line in sys.stdin:
    try:
        answer = {"did": repr(eval(json.loads(line)))}
    except BaseException as error:
        answer = {"failed": type(error).__name__}
    print(json.dumps(answer), flush=True)
"""
MIB = 1 << 20


@contextmanager
def process(folder: Path, wall_s: float = 300.0) -> Iterator[Process]:
    limits = Limits(memory_bytes=256 * MIB, cpu_s=1, file_bytes=MIB, wall_s=wall_s)
    with sandbox.started([sys.executable, "-c", PROGRAM], limits, folder / "out") as begun:
        yield begun


@pytest.mark.parametrize(
    ("asked", "failed"),
    [
        ("len(bytearray(1 << 30))", "MemoryError"),
        ("socket.socket()", "PermissionError"),
        ("subprocess.run(['true'])", "PermissionError"),
        ("os.system('true')", "PermissionError"),
        ("os.fork()", "PermissionError"),
        ("os.remove('{folder}/kept')", "PermissionError"),
        ("open('{folder}/other', 'w')", "PermissionError"),
        ("os.open('{folder}/other', os.O_CREAT | os.O_WRONLY)", "PermissionError"),
        ("open('{folder}/out', 'wb').write(bytes(2 << 20))", "OSError"),
    ],
)
def test_what_it_may_not_do_fails(tmp_path: Path, asked: str, failed: str) -> None:
    (tmp_path / "kept").touch()
    with process(tmp_path) as begun:
        assert begun.ask(asked.format(folder=tmp_path)) == {"failed": failed}
    assert (tmp_path / "kept").exists()
    assert not (tmp_path / "other").exists()


def test_it_reads_files_and_writes_its_output(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("weights")
    with process(tmp_path) as begun:
        assert begun.ask(f"open('{tmp_path}/in').read()") == {"did": "'weights'"}
        assert begun.ask(f"open('{tmp_path}/out', 'w').write('them')") == {"did": "4"}
    assert (tmp_path / "out").read_text() == "them"


def test_it_has_none_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with process(tmp_path) as begun:
        kept = begun.ask("sorted(os.environ)")["did"]
    assert "AWS" not in kept
    assert "TORCH" not in kept


def test_a_process_that_computes_too_long_is_ended_by_the_kernel(tmp_path: Path) -> None:
    with process(tmp_path) as begun, pytest.raises(Refused, match="more than 1 processor seconds") as refused:
        begun.ask("any(iter(int, 1))")
    assert refused.value.reason == "LIMIT_EXCEEDED"


def test_a_process_that_waits_is_killed_at_its_deadline(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused, process(tmp_path, wall_s=3.0) as begun:
        begun.ask("time.sleep(10_000)")
    assert refused.value.reason == "TIMED_OUT"


def test_a_process_that_dies_is_named_with_what_it_said(tmp_path: Path) -> None:
    with process(tmp_path) as begun, pytest.raises(Refused, match="code 7: torn page") as refused:
        begun.ask("(sys.stderr.write('torn page'), sys.stderr.flush(), os._exit(7))")
    assert refused.value.reason == "READER_DIED"


def test_an_answer_that_is_no_json_is_refused(tmp_path: Path) -> None:
    with process(tmp_path) as begun, pytest.raises(Refused, match="nonsense"):
        begun.ask("print('<html>', flush=True)")


def test_nothing_is_left_running(tmp_path: Path) -> None:
    with process(tmp_path) as begun:
        pid = int(begun.ask("os.getpid()")["did"])
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.skipif(not sandbox.may_isolate(), reason="this machine permits no network namespace")
def test_the_namespace_reaches_not_even_this_machine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 30)"
        here = subprocess.run([sys.executable, "-c", connect], check=False, capture_output=True)
        there = subprocess.run([*sandbox.NAMESPACE, sys.executable, "-c", connect], check=False, capture_output=True)
    assert here.returncode == 0
    assert b"unreachable" in there.stderr


def test_where_no_namespace_is_permitted_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "NAMESPACE", ("unshare", "--no-such-option"))
    with process(tmp_path) as begun:
        assert begun.ask("1 + 1") == {"did": "2"}
        assert not begun.isolated
