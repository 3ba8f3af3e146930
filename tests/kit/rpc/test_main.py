"""`main`: a service as a process of its own, its exit codes, and what it says to the person who set it wrongly."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import grpc
import pytest

from luthier_kit.rpc import serve_metrics
from tests.kit.rpc.serving import analyze, cut
from tests.support.stores import free_port

COMMAND = [sys.executable, "-m", "tests.kit.rpc.program"]
ROOT = Path(__file__).parents[3]


def environment(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LUTHIER_", "OTEL_"))}
    own = {
        "LUTHIER_ADDRESS": f"127.0.0.1:{free_port()}",
        "LUTHIER_METRICS_ADDRESS": "127.0.0.1:0",
        "LUTHIER_STORE_FOLDER": str(folder / "store"),
    }
    return {**kept, **own, **environ}


def ended(folder: Path, environ: Mapping[str, str]) -> tuple[int, str]:
    """The exit code of a program that must end by itself, and what it wrote to standard error."""
    done = subprocess.run(
        COMMAND, env=environment(folder, environ), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def fault_lines(stderr: str) -> list[str]:
    """The lines for people, behind those for machines."""
    log, _, lines = stderr.partition("\ncannot start:\n")
    assert json.loads(log.splitlines()[-1])["level"] == "ERROR"
    return lines.splitlines()


@contextmanager
def serving(folder: Path, **environ: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A program that serves, and its address."""
    complete = environment(folder, environ)
    with subprocess.Popen(COMMAND, env=complete, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            await_line(process.stderr, "serving")
            yield process, complete["LUTHIER_ADDRESS"]
        finally:
            process.kill()


def await_line(lines: IO[str], message: str) -> None:
    for line in lines:
        if json.loads(line)["message"] == message:
            return
    raise AssertionError(f"it ended without saying {message!r}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_ends_with_0(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path) as (process, address):
        with grpc.insecure_channel(address) as channel:
            assert analyze(channel) == 1
        process.send_signal(number)
        assert process.wait(30) == 0


SIGNALLED = """
import os, random, signal, threading
from luthier_kit.rpc._server import StopSignals
stop = StopSignals()
for turn in range(3000):
    go = threading.Event()
    def ask():
        go.wait()
        for _ in range(random.randrange(300)): pass
        os.kill(os.getpid(), random.choice([signal.SIGTERM, signal.SIGINT]))
    thread = threading.Thread(target=ask)
    thread.start(), go.set(), stop.wait(), thread.join()
"""


def test_a_signal_that_comes_when_it_begins_to_wait_is_not_lost() -> None:
    # with an Event, which a handler sets, it hung after some 1,000 turns
    assert subprocess.run([sys.executable, "-c", SIGNALLED], timeout=60, check=False).returncode == 0


def test_asked_to_stop_it_finishes_the_call_that_runs(tmp_path: Path) -> None:
    with serving(tmp_path) as (process, address), grpc.insecure_channel(address) as channel:
        threading.Timer(0.2, process.terminate).start()
        assert cut(channel) is not None  # works for half a second
        assert process.wait(30) == 0


def test_a_store_that_is_a_file_is_1(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("no folder")
    code, stderr = ended(tmp_path, {})
    assert code == 1
    assert fault_lines(stderr) == [f"the artifact folder failed at {tmp_path}/store/luthier: Not a directory"]


def test_a_store_that_does_not_answer_is_1(tmp_path: Path) -> None:
    endpoint = f"127.0.0.1:{free_port()}"
    secret = {"LUTHIER_S3_ACCESS_KEY": "someone", "LUTHIER_S3_SECRET_KEY": "hush-hush"}
    code, stderr = ended(tmp_path, {"LUTHIER_STORE": "s3", "LUTHIER_S3_ENDPOINT": endpoint, **secret})
    assert code == 1
    assert f"object store at {endpoint} does not answer" in stderr
    assert "hush-hush" not in stderr


@pytest.mark.parametrize(
    ("fault", "code"),
    [("Unavailable", 1), ("OSError", 1), ("prepare", 1), ("FailedPrecondition", 2), ("InvalidRequest", 2)],
)
def test_what_build_or_prepare_raises_decides_the_exit_code(tmp_path: Path, fault: str, code: int) -> None:
    returned, stderr = ended(tmp_path, {"TEST_FAULT": fault})
    assert returned == code
    assert len(fault_lines(stderr)) == 1


def test_a_bug_is_1_with_its_trace(tmp_path: Path) -> None:
    code, stderr = ended(tmp_path, {"TEST_FAULT": "RuntimeError"})
    assert code == 1
    assert "RuntimeError: it must not start" in stderr


WRONG = {
    "LUTHIER_TLS_CA": ("/nope.pem", "LUTHIER_TLS_CA=/nope.pem cannot be read: No such file or directory"),
    "LUTHIER_TLS_CERT": ("/nope/tls.crt", "LUTHIER_TLS_CERT names the file /nope/tls.crt, which cannot be read: "
                         "No such file or directory"),
    "LUTHIER_CALLERS": ("/nope/callers", "LUTHIER_CALLERS names the folder /nope/callers, which cannot be read: "
                        "No such file or directory"),
    "TEST_API_KEY_FILE": ("/nope/key", "TEST_API_KEY cannot be read from TEST_API_KEY_FILE=/nope/key: "
                          "No such file or directory"),
    "LUTHIER_TOKEN_FILE": ("/nope/token", "LUTHIER_TOKEN cannot be read from LUTHIER_TOKEN_FILE=/nope/token: "
                           "No such file or directory"),
    "TEST_FONT": ("/nope.sf2", "TEST_FONT names the file /nope.sf2, which cannot be read: No such file or directory"),
    "LUTHIER_STORE": ("tape", "LUTHIER_STORE must be one of folder, s3, got 'tape'"),
    "LUTHIER_CALLERS_ALLOWED": ("alice", "LUTHIER_CALLERS_ALLOWED needs LUTHIER_CALLERS or LUTHIER_TLS_CLIENT_CA: "
                                "without them nobody is asked for a name"),
    "LUTHIER_TLS_CLIENT_CA": ("{here}", "LUTHIER_TLS_CLIENT_CA needs LUTHIER_TLS_CERT and LUTHIER_TLS_KEY: "
                              "mutual TLS is TLS"),
    "LUTHIER_METRICS_ADDRESS": ("127.0.0.1:{taken}", "LUTHIER_METRICS_ADDRESS 127.0.0.1:{taken} cannot be bound: "
                                "[Errno 98] Address already in use"),
    "LUTHIER_ADDRESS": ("127.0.0.1:{taken}", "LUTHIER_ADDRESS 127.0.0.1:{taken} cannot be bound: is the port taken?"),
}  # fmt: skip
"""What is set wrongly, and the line that says so."""


@pytest.mark.parametrize("variable", [name for name in WRONG if name not in ("TEST_FONT", "LUTHIER_STORE")])
def test_a_wrong_setting_is_2_and_a_line_that_names_variable_and_path(tmp_path: Path, variable: str) -> None:
    facts = {"taken": str(serve_metrics("127.0.0.1:0")), "here": __file__}
    value, line = (text.format(**facts) for text in WRONG[variable])
    code, stderr = ended(tmp_path, {variable: value})
    assert (code, fault_lines(stderr)) == (2, [line])
    assert "Traceback" not in stderr


def test_all_that_is_wrong_is_in_one_answer(tmp_path: Path) -> None:
    together = ["LUTHIER_TLS_CA", "LUTHIER_TLS_CERT", "LUTHIER_CALLERS", "TEST_API_KEY_FILE", "TEST_FONT"]
    environ = {variable: WRONG[variable][0] for variable in together}
    code, stderr = ended(tmp_path, {**environ, "LUTHIER_STORE": "s3"})
    keys = [f"LUTHIER_S3_{name}_KEY is missing: LUTHIER_STORE=s3 needs it" for name in ("ACCESS", "SECRET")]
    assert code == 2
    assert sorted(fault_lines(stderr)) == sorted([*(WRONG[variable][1] for variable in together), *keys])


def test_what_a_file_holds_wrongly_is_reported_beside_another_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "alice").write_text("the-token-itself\n")
    code, stderr = ended(tmp_path, {"LUTHIER_CALLERS": str(tmp_path), "LUTHIER_STORE": "tape"})
    assert code == 2
    assert fault_lines(stderr) == [
        WRONG["LUTHIER_STORE"][1],
        "LUTHIER_CALLERS alice, line 1: must be sha256:<64 hex digits of the SHA-256 of a token>",
    ]
    assert "the-token-itself" not in stderr
