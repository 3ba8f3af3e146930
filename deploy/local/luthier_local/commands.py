"""up, down and ps: what `make up`, `make down` and `make ps` do."""

import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from luthier_local import leftovers, ports, services, store
from luthier_local.home import Home, Program, Programs
from luthier_local.services import SERVICES, Service
from luthier_local.supervisor import State, Supervisor

WAIT_S = 240  # torch can need 90 s to import on a cold disk
CHECK_TIMEOUT_S = 2.0
CRASHES = 3  # a program that ended this often while it starts will not serve
PORT_CHOICES = 3  # before a port that was taken again is a failure
LAST_LINES = 15
POLL_S = 0.25
REPORT_EVERY_S = 10
Output = Callable[[str], None]


class StartError(Exception):
    """A program does not serve; the message has the last lines of its log."""


class PortTakenError(StartError):
    """Another program was quicker at a port that was free, e.g. another installation that starts at the same time."""


@dataclass(frozen=True)
class Row:
    """A program as `ps` shows it. `state` is supervisord's word, DOWN without one."""

    program: Program
    state: str
    serving: bool


def up(home: Home, environ: Mapping[str, str], output: Output, only: tuple[str, ...] = ()) -> None:
    """Bring every service (or those in `only`, stopping the others) to SERVING, whatever state the home is in:
    nothing up, half up, or all up already.

    Raises SystemExit for what the caller must change, StartError when a service cannot start."""
    for _ in range(PORT_CHOICES):
        try:
            return _up(home, environ, output, only)
        except PortTakenError as taken:
            output(f"{taken}; choosing another port")
    return _up(home, environ, output, only)


def _up(home: Home, environ: Mapping[str, str], output: Output, only: tuple[str, ...]) -> None:
    chosen = tuple(service for service in SERVICES if not only or service.name in only)
    kind = _store_kind(environ)
    if missing := [service.name for service in chosen if not home.python(service.name).exists()]:
        raise SystemExit(f"no environment (services/<name>/.venv) for {', '.join(missing)}; run `uv sync` there")
    binary = store.minio_binary(home.root, environ) if kind == "minio" else None
    supervisor = Supervisor(home)
    running = _running(supervisor, kind, output)
    last = home.programs()
    programs = ports.choose(ports.wanted(chosen, minio=kind == "minio"), last, running or set(), output)
    _configure(home, environ, chosen, programs, binary)
    if kind == "folder":
        store.prove(home)
    if running is None:
        supervisor.start(environ)
    unchanged = running is not None and running - set(supervisor.reload()) >= set(programs)
    _record(home, supervisor, programs, last)
    states = supervisor.states()
    if unchanged and all(_serves(name, replace(own, pid=states[name].pid)) for name, own in programs.items()):
        output("already up")
    else:
        where = f"a folder, {home.store}" if kind == "folder" else f"MinIO, data in {home.minio / 'data'}"
        output(f"starting {len(chosen)} services; store: {where}")
        if "DEVICE" not in environ and any(service.torch for service in chosen):
            output("DEVICE is not set: training and inference use the CPU (DEVICE=cuda make up for a GPU)")
        names = sorted(programs, key=lambda name: name != "minio")
        # the store first, since a service refuses to run without one; then the services, all at once
        for batch in (names[:1], names[1:]) if "minio" in names else (names,):
            for name in batch:
                supervisor.start_program(name)
            _wait_until_serving(supervisor, {name: programs[name] for name in batch}, output)
            if batch == ["minio"]:
                store.prove(home, programs["minio"].address)
        _record(home, supervisor, programs, last)
    for line in table(report(home)):
        output(line)


def down(home: Home, output: Output) -> None:
    """Stop everything gracefully; the state stays. Nothing up is no error."""
    supervisor = Supervisor(home)
    begin = time.monotonic()
    stopped = supervisor.shutdown(last="minio") if supervisor.is_running() else []
    ended = leftovers.end(home.path, services.GRACE_S)
    if stopped or ended:
        took_s = time.monotonic() - begin
        output(f"stopped {len(stopped) or len(ended)} programs in {took_s:.0f} s; state is in {home.path}")
    else:
        output("nothing is up")


def report(home: Home) -> dict[str, Row]:
    """What is configured, true at this moment."""
    supervisor = Supervisor(home)
    states = supervisor.states() if supervisor.is_running() else {}
    rows = {}
    for name, program in home.programs().items():
        state = states.get(name, State("DOWN", 0))
        own = replace(program, pid=state.pid)
        rows[name] = Row(own, state.name, bool(state.pid) and _serves(name, own))
    return rows


def table(rows: Mapping[str, Row]) -> list[str]:
    """A line for each program: name, address, metrics address, pid, and its page where it has one."""
    lines = [f"{'service':<12} {'address':<16} {'metrics':<16} {'pid':>7}  state"]
    for name, row in rows.items():
        program, state = row.program, "SERVING" if row.serving else row.state
        page = f"  http://{program.web}" if program.web else ""
        metrics = program.metrics or "-"
        lines.append(f"{name:<12} {program.address:<16} {metrics:<16} {program.pid:>7}  {state}{page}")
    return lines


def serving(address: str) -> bool:
    """True when the gRPC server at `address` answers SERVING for the whole server (the empty service name)."""
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=CHECK_TIMEOUT_S)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _serves(name: str, program: Program) -> bool:
    """True when it is this process that answers SERVING, or MinIO on its readiness page that it takes reads and writes.

    Another installation's process at the same address counts for nothing.
    """
    if not ports.holds(program.pid, program.address):
        return False
    if name != "minio":
        return serving(program.address)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{program.address}/minio/health/ready", timeout=CHECK_TIMEOUT_S) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _store_kind(environ: Mapping[str, str]) -> str:
    kind = environ.get("STORE") or "folder"
    if kind not in store.KINDS:
        raise SystemExit(f"STORE must be one of {', '.join(store.KINDS)}, got {kind!r}")
    if environ.get("DEVICE", "cpu") not in ("cpu", "cuda"):
        raise SystemExit(f"DEVICE must be cpu or cuda, got {environ['DEVICE']!r}")
    return kind


def _running(supervisor: Supervisor, kind: str, output: Output) -> set[str] | None:
    """The programs that run; None when supervisord does not, after ending what a killed one left behind."""
    home = supervisor.home
    if not supervisor.is_running():
        if ended := leftovers.end(home.path, services.GRACE_S):
            output(f"ended {len(ended)} processes left by an earlier start that was killed")
        for scratch in (home.path / "scratch").glob("*"):
            leftovers.sweep(scratch)
        return None
    now = "minio" if home.store_settings().get("LUTHIER_STORE") == "s3" else "folder"
    if now != kind:
        raise SystemExit(f"the services are up with STORE={now}; `make down` first, then `make up STORE={kind}`")
    return {name for name, state in supervisor.states().items() if state.pid}


def _configure(
    home: Home, environ: Mapping[str, str], chosen: tuple[Service, ...], programs: Programs, binary: Path | None
) -> None:
    """Write supervisord's configuration."""
    home.create()
    entries = services.entries(chosen, programs, home, environ)
    if binary:
        entries.append(services.minio(home, binary, programs["minio"].address))
    for entry in entries:
        (home.path / "scratch" / entry.name).mkdir(parents=True, exist_ok=True)
    grace_s = float(environ.get("LUTHIER_GRACE_S", services.GRACE_S))
    home.configuration.write_text(services.configuration(entries, home, grace_s))


def _record(home: Home, supervisor: Supervisor, programs: Programs, last: Programs) -> None:
    """services.json: what runs now. Ports of services left out this time are kept for the next."""
    states = supervisor.states()
    with home.changed_programs() as recorded:
        recorded.clear()
        recorded.update({name: replace(program, pid=states[name].pid) for name, program in programs.items()})
        left_out = last.keys() - programs.keys() - {"minio"}
        recorded.update({name: replace(old, pid=0) for name, old in last.items() if name in left_out})


def _wait_until_serving(supervisor: Supervisor, programs: Programs, output: Output) -> None:
    """Return when all serve. Raises StartError when one cannot, or not in time."""
    begin = reported = time.monotonic()
    waiting = dict(programs)
    seen: dict[str, set[int]] = {name: set() for name in programs}  # pids: another one each time it was restarted
    while waiting:
        states = supervisor.states()
        for name, program in list(waiting.items()):
            state, pids = states[name], seen[name]
            pids |= {state.pid} - {0}
            crashes = len(pids) - bool(state.pid)
            if state.name == "FATAL" or crashes >= CRASHES:
                if not state.pid and not ports.is_free(int(program.address.rpartition(":")[2])):
                    raise PortTakenError(f"{name}: {program.address} was taken by another program meanwhile")
                end = _end_of_log(supervisor.home.logs, name)
                raise StartError(f"{name} cannot start: it ended {max(crashes, 1)} times\n{end}")
            if state.pid and _serves(name, replace(program, pid=state.pid)):
                del waiting[name]
                output(f"  {name} serves after {time.monotonic() - begin:.0f} s")
        now = time.monotonic()
        if waiting and now - begin > WAIT_S:
            end = _end_of_log(supervisor.home.logs, next(iter(waiting)))
            raise StartError(f"not serving after {WAIT_S} s: {', '.join(waiting)}\n{end}")
        if waiting and now - reported > REPORT_EVERY_S:
            reported = now
            output(f"  … {now - begin:.0f} s, waiting for {', '.join(waiting)}")
        time.sleep(POLL_S if waiting else 0)


def _end_of_log(logs: Path, name: str) -> str:
    """The last lines of a program's log, headed by the path of all of it."""
    path = logs / f"{name}.log"
    text = path.read_bytes()[-16_384:].decode(errors="replace") if path.exists() else ""
    shown = "\n".join(f"    {line}" for line in text.splitlines()[-LAST_LINES:]) or "    (it wrote nothing)"
    return f"  the end of {path}:\n{shown}"
