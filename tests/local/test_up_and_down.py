"""`make up` and `make down`, with real processes: tiny servers in the place of the services."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from checkout import REPOSITORY, Installation, eventually

from luthier_kit.rpc import Unavailable
from luthier_kit.store import Endpoint, S3Store
from luthier_local import leftovers, ports
from luthier_local.commands import serving
from luthier_local.home import Home, Program
from luthier_local.recorder import expire
from luthier_local.services import SERVICES


def test_up_brings_every_service_to_serving_and_prints_a_line_each(installation: Installation) -> None:
    done = installation.run("up")

    assert done.returncode == 0, done.stdout + done.stderr
    for service in SERVICES:
        row = installation.services()[service.name]
        assert serving(str(row["address"]))
        line = next(line for line in done.stdout.splitlines() if line.startswith(f"{service.name} "))
        assert str(row["address"]) in line
        assert str(row["metrics"]) in line
        assert str(row["pid"]) in line
    assert {name for name, row in installation.services().items() if "web" in row} == {"curation", "inference"}
    assert "use the CPU" in done.stdout


def test_a_second_up_says_already_up_and_changes_nothing(installation: Installation) -> None:
    installation.up()
    before = installation.services()

    again = installation.up()

    assert again.returncode == 0
    assert "already up" in again.stdout
    assert installation.services() == before


def test_down_stops_gracefully_keeps_state_and_up_returns_to_the_same_addresses(
    installation: Installation,
) -> None:
    installation.up()
    before = installation.services()
    for name in before:
        (installation.home / "scratch" / name / "slow").touch()

    done = installation.run("down")

    assert done.returncode == 0
    assert leftovers.find(installation.home) == []
    for name in before:
        assert "stopped gracefully" in (installation.home / "logs" / f"{name}.log").read_text()
    assert installation.up().returncode == 0
    assert {k: v["address"] for k, v in installation.services().items()} == {k: v["address"] for k, v in before.items()}


def test_down_with_nothing_up_is_no_error(installation: Installation) -> None:
    done = installation.run("down")
    assert (done.returncode, done.stdout) == (0, "nothing is up\n")


def test_a_killed_service_is_back_at_the_same_address_within_seconds(installation: Installation) -> None:
    installation.up()
    row = installation.services()["rendering"]

    os.kill(int(str(row["pid"])), signal.SIGKILL)

    eventually(lambda: not serving(str(row["address"])), 1)
    assert eventually(lambda: serving(str(row["address"])), 5) < 3
    now = installation.ps()["rendering"]["pid"]
    assert now != row["pid"]
    eventually(lambda: installation.services()["rendering"]["pid"] == now, 5)


def test_services_of_a_killed_supervisor_are_replaced(installation: Installation) -> None:
    installation.up()
    before = installation.services()
    supervisor = int((installation.home / "supervisord.pid").read_text())
    os.kill(supervisor, signal.SIGKILL)

    done = installation.up()

    assert done.returncode == 0, done.stderr
    assert "left by an earlier start" in done.stdout
    after = installation.services()
    assert {k: v["address"] for k, v in after.items()} == {k: v["address"] for k, v in before.items()}
    assert sorted(int(str(row["pid"])) for row in after.values()) == leftovers.find(installation.home)


def test_a_stopped_service_is_started_again_and_the_others_are_left_alone(installation: Installation) -> None:
    wrong = installation.home / "scratch" / "analysis" / "wrong"
    wrong.parent.mkdir(parents=True)
    wrong.touch()
    assert installation.up().returncode == 1
    before = installation.ps()
    wrong.unlink()

    done = installation.up()

    assert done.returncode == 0, done.stderr
    assert "already up" not in done.stdout
    after = installation.services()
    assert after["rendering"]["pid"] == before["rendering"]["pid"]
    assert serving(str(after["analysis"]["address"]))


def test_a_service_that_cannot_start_fails_up_with_the_end_of_its_log(installation: Installation) -> None:
    wrong = installation.home / "scratch" / "analysis" / "wrong"
    wrong.parent.mkdir(parents=True)
    wrong.touch()

    done = installation.up()

    assert done.returncode == 1
    assert "analysis cannot start: it ended 3 times" in done.stderr
    assert "LUTHIER_SOUNDFONT: no such file: /nowhere.sf2" in done.stderr


def hold(other: socket.socket, port: int, within_s: float = 20) -> None:
    """Takes the port, waiting for one who is leaving it; taken by somebody who stays is as good."""
    begun = time.monotonic()
    while time.monotonic() - begun < within_s:
        try:
            other.bind(("127.0.0.1", port))
            other.listen()
            return
        except OSError:
            time.sleep(0.2)


def test_a_taken_port_gets_another_one_and_it_is_said(installation: Installation) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        hold(other, 7101)

        done = installation.up()

        assert "rendering: port 7101 (address) is taken by another program, using" in done.stdout
        assert serving(str(installation.services()["rendering"]["address"]))


def test_an_unknown_store_or_device_is_refused(installation: Installation) -> None:
    assert "STORE must be one of folder, minio" in installation.run("up", STORE="tape").stderr
    assert "DEVICE must be cpu or cuda" in installation.run("up", DEVICE="tpu").stderr


def test_a_missing_environment_is_named_before_anything_starts(installation: Installation) -> None:
    (installation.root / "services" / "training" / ".venv" / "bin" / "python").unlink()

    done = installation.run("up")

    assert done.returncode == 1
    assert "for training" in done.stderr
    assert not (installation.home / "supervisord.pid").exists()


def test_a_home_with_a_long_path_works(installation: Installation) -> None:
    installation.extra["LUTHIER_HOME"] = str(installation.root / ("deep" * 30))

    assert installation.run("up", "--only", "rendering").returncode == 0
    assert installation.run("ps").returncode == 0
    assert installation.run("down").returncode == 0


def test_a_changed_setting_restarts_only_the_services_it_concerns(installation: Installation) -> None:
    installation.run("up")
    before = installation.services()

    installation.run("up", DEVICE="cuda")

    changed = {name for name, row in installation.services().items() if row["pid"] != before[name]["pid"]}
    assert changed == {"training", "inference"}


@pytest.fixture
def minio() -> str:
    from luthier_local.store import minio_binary

    try:
        return str(minio_binary(REPOSITORY, dict(os.environ)))
    except SystemExit as missing:
        (pytest.fail if os.environ.get("CI", "").lower() == "true" else pytest.skip)(str(missing))


def test_minio_starts_first_with_credentials_nobody_else_sees(installation: Installation, minio: str) -> None:
    done = installation.up(STORE="minio", LUTHIER_MINIO=minio)

    assert done.returncode == 0, done.stderr
    folder = installation.home / "minio"
    secret = (folder / "secret-key").read_text()
    assert stat.S_IMODE((folder / "secret-key").stat().st_mode) == 0o600
    assert "'LUTHIER_STORE': 's3'" in (installation.home / "logs" / "rendering.log").read_text()
    everywhere = done.stdout + (installation.home / "supervisord.conf").read_text()
    everywhere += "".join(path.read_text() for path in (installation.home / "logs").iterdir())
    for pid in leftovers.find(installation.home):
        everywhere += Path(f"/proc/{pid}/cmdline").read_text()
    assert secret not in everywhere


def test_each_service_has_a_key_of_minio_that_opens_what_it_needs(installation: Installation, minio: str) -> None:
    assert installation.up(STORE="minio", LUTHIER_MINIO=minio).returncode == 0
    stores = {}
    for name in ("rendering", "analysis", "monitor"):
        folder = installation.home / "minio" / "keys" / name
        assert stat.S_IMODE((folder / "secret-key").stat().st_mode) == 0o600
        address = str(installation.services()["minio"]["address"])
        endpoint = Endpoint(address, (folder / "access-key").read_text(), (folder / "secret-key").read_text())
        stores[name] = S3Store(endpoint, "luthier")
    assert "keys/rendering/secret-key" in (installation.home / "logs" / "rendering.log").read_text()
    assert "keys/monitor/secret-key" in (installation.home / "store.json").read_text()
    assert stores["rendering"].create("mixes/x.json", b"x")
    assert stores["analysis"].get("mixes/x.json", 10) == b"x"
    for name in ("rendering", "analysis"):
        with pytest.raises(Unavailable) as refused:
            stores[name].create("models/production/1.json", b"x")
        assert refused.value.reason == "STORE_CREDENTIALS_REFUSED"
    assert stores["monitor"].create("models/production/1.json", b"x")


def test_keys_of_services_stay_when_they_start_again(installation: Installation, minio: str) -> None:
    installation.up(STORE="minio", LUTHIER_MINIO=minio)
    secret = (installation.home / "minio/keys/rendering/secret-key").read_text()
    installation.run("down")

    assert installation.up(STORE="minio", LUTHIER_MINIO=minio).returncode == 0

    assert (installation.home / "minio/keys/rendering/secret-key").read_text() == secret


def test_switching_the_store_while_up_is_refused(installation: Installation, minio: str) -> None:
    installation.up()

    done = installation.up(STORE="minio", LUTHIER_MINIO=minio)

    assert done.returncode == 1
    assert "the services are up with STORE=folder; `make down` first, then `make up STORE=minio`" in done.stderr


def test_two_installations_that_start_at_once_share_no_port(installation: Installation, tmp_path: Path) -> None:
    other = Installation(tmp_path / "another")
    shutil.copytree(installation.root, other.root, symlinks=True)
    try:
        with ThreadPoolExecutor(2) as pool:
            done = list(pool.map(lambda one: one.up(), (installation, other)))
        assert [one.returncode for one in done] == [0, 0], [one.stdout + one.stderr for one in done]
        rows = [row for one in (installation, other) for row in one.services().values()]
        assert len({row["address"] for row in rows}) == 4
        assert all(ports.holds(int(str(row["pid"])), str(row["address"])) for row in rows)
    finally:
        other.kill()


def test_the_process_of_another_never_counts_as_serving(installation: Installation) -> None:
    installation.up()
    row = installation.services()["rendering"]
    address, pid = str(row["address"]), int(str(row["pid"]))
    assert serving(address)
    assert ports.holds(pid, address)
    assert not ports.holds(os.getpid(), address)
    assert not ports.holds(2**22 + 1, address)  # no process


def test_a_store_that_was_lost_is_not_begun_anew(installation: Installation) -> None:
    installation.up()
    store, log = installation.home / "store", installation.home / "logs/rendering.log"
    assert "'LUTHIER_STORE_EXPECTED': '1'" in log.read_text()
    installation.run("down")
    store.rename(installation.home / "elsewhere")

    lost = installation.up()

    assert lost.returncode == 1
    assert f"remove {installation.home / 'store.json'}" in lost.stderr
    assert list(store.glob("*/*")) == []
    shutil.rmtree(store)
    (installation.home / "elsewhere").rename(store)
    assert installation.up().returncode == 0


def test_scratch_of_killed_processes_is_swept(installation: Installation) -> None:
    """By the next start of the service, and by the next `up` where all was killed. Logs and caches stay."""
    installation.up()
    scratch = installation.home / "scratch/rendering"
    kept = scratch / "luthier-audio"
    for folder in (scratch / "render-ab12", scratch / "training-cd", kept / "model-ef"):
        folder.mkdir(parents=True)
        (folder / "stem.raw").write_bytes(b"0")
    (kept / "clip.flac").write_bytes(b"1")
    time.sleep(0.3)  # a folder is younger than the process that made it

    os.kill(int(str(installation.services()["rendering"]["pid"])), signal.SIGKILL)
    eventually(lambda: not (scratch / "render-ab12").exists() and not (kept / "model-ef").exists(), 10)
    assert (scratch / "training-cd/stem.raw").exists()  # a runner goes on when its service is killed
    assert (kept / "clip.flac").read_bytes() == b"1"

    installation.kill()
    installation.up()
    assert not (scratch / "training-cd").exists()
    assert (kept / "clip.flac").exists()


def test_generated_audio_expires_by_the_command_of_the_pipeline(installation: Installation) -> None:
    python = installation.root / "services/pipeline/.venv/bin/python"
    home = Home(installation.root, installation.home)
    expire(home)  # no environment of the pipeline: nothing to call
    python.parent.mkdir(parents=True)
    installation.home.mkdir()
    python.write_text('#!/bin/sh\necho "$LUTHIER_HOME" "$@" > "$LUTHIER_HOME/called"\n')
    python.chmod(0o755)
    expire(home)
    called = (installation.home / "called").read_text().strip()
    assert called == f"{installation.home} -m luthier_pipeline gc --generated"
    installation.run("up", "--only", "rendering")
    assert "TICK_3600" in home.configuration.read_text()


def hang(home: Home) -> Path:
    """The pipeline's command hangs; the file that says which process it is."""
    python: Path = home.python("pipeline")
    process: Path = home.path / "process"
    python.parent.mkdir(parents=True, exist_ok=True)
    home.path.mkdir(exist_ok=True)
    python.write_text(f'#!/bin/sh\necho $$ > "{process}"\nexec sleep 600\n')
    python.chmod(0o755)
    return process


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_an_expiry_that_hangs_is_ended(installation: Installation, capfd: pytest.CaptureFixture[str]) -> None:
    home = Home(installation.root, installation.home)
    process = hang(home)
    expire(home, within_s=1.0)
    assert gone(int(process.read_text()))
    assert "luthier gc --generated was ended after 1 s" in capfd.readouterr().err


def event(name: str, payload: str) -> str:
    """An event as supervisord writes it: http://supervisord.org/events.html#header-tokens."""
    return f"ver:3.0 server:s serial:1 pool:p poolserial:1 eventname:{name} len:{len(payload)}\n{payload}"


def test_pids_are_recorded_while_an_expiry_hangs(installation: Installation) -> None:
    home = Home(installation.root, installation.home)
    process = hang(home)
    with home.changed_programs() as programs:
        programs["rendering"] = Program("127.0.0.1:9")
    command = [sys.executable, "-m", "luthier_local.recorder", str(home.root), str(home.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as recorder:
        assert recorder.stdin is not None
        started = f"processname:rendering groupname:rendering from_state:STARTING pid:{os.getpid()}"
        recorder.stdin.write(event("TICK_3600", "when:0") + event("PROCESS_STATE_RUNNING", started))
        recorder.stdin.flush()
        try:
            eventually(process.exists, 10)
            eventually(lambda: home.programs()["rendering"].pid == os.getpid(), 10)
            assert not gone(int(process.read_text()))
        finally:
            recorder.kill()
            with suppress(ProcessLookupError):
                os.kill(int(process.read_text()), signal.SIGKILL)
