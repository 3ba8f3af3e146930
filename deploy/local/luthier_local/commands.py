"""up, down and ps: what `make up` and `make down` do."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from luthier_local import health, leftovers, ports, programs, store
from luthier_local.catalogue import SERVICES, Program
from luthier_local.home import Home, amended, read_json, write_json
from luthier_local.supervisor import Supervisor
from luthier_local.waiting import until_serving

WAIT_S = 240  # torch can need 90 s to import on a cold disk
Say = Callable[[str], None]


def up(home: Home, environ: dict[str, str], say: Say, only: tuple[str, ...] = ()) -> None:
    """Bring every service (or those in `only`, stopping the others) to SERVING, whatever state the home is in:
    nothing up, half up, or all up already.

    Raises SystemExit for what the caller must change, StartError when a service cannot start."""
    chosen = tuple(service for service in SERVICES if not only or service.name in only)
    kind = _store_kind(environ)
    _require_environments(chosen, home)
    binary = store.minio_binary(home.root, environ) if kind == "minio" else None
    supervisor = Supervisor(home)
    running = _running(supervisor, kind, say)
    remembered = read_json(home.services_file)
    addresses = ports.choose(ports.wanted(chosen, minio=kind == "minio"), remembered, running or set(), say)
    _configure(home, environ, chosen, addresses, binary)
    if running is None:
        supervisor.start(environ)
    unchanged = running is not None and running - set(supervisor.reload()) >= set(addresses)
    _record(home, supervisor, addresses, remembered)
    if unchanged and all(_check(name, addresses)() for name in addresses):
        say("already up")
    else:
        say(_opening(kind, home, chosen, environ))
        _start(supervisor, addresses, say)
        _record(home, supervisor, addresses, remembered)
    for line in table(report(home)):
        say(line)


def down(home: Home, say: Say) -> None:
    """Stop everything gracefully; the state stays. Nothing up is no error."""
    supervisor = Supervisor(home)
    begin = time.monotonic()
    stopped = supervisor.shutdown(last="minio") if supervisor.is_running() else []
    ended = leftovers.end(home.path, programs.GRACE_S)
    if stopped or ended:
        took_s = time.monotonic() - begin
        say(f"stopped {len(stopped) or len(ended)} programs in {took_s:.0f} s; state is in {home.path}")
    else:
        say("nothing is up")


def report(home: Home) -> dict[str, dict[str, Any]]:
    """{name: {address, metrics, web?, pid, state, serving}} of what is configured, true at this moment."""
    supervisor = Supervisor(home)
    states = supervisor.states() if supervisor.is_running() else {}
    found = {}
    for name, entry in read_json(home.services_file).items():
        state = states.get(name)
        serving = bool(state and state.pid) and _check(name, {name: entry})()
        found[name] = {
            **entry,
            "pid": state.pid if state else 0,
            "state": state.name if state else "DOWN",
            "serving": serving,
        }
    return found


def table(rows: dict[str, dict[str, Any]]) -> list[str]:
    """A line for each program: name, address, metrics address, pid, and its page where it has one."""
    lines = [f"{'service':<12} {'address':<16} {'metrics':<16} {'pid':>7}  state"]
    for name, row in rows.items():
        state = "SERVING" if row["serving"] else row["state"]
        page = f"  http://{row['web']}" if row.get("web") else ""
        lines.append(f"{name:<12} {row['address']:<16} {row.get('metrics', '-'):<16} {row['pid']:>7}  {state}{page}")
    return lines


def _store_kind(environ: dict[str, str]) -> str:
    kind = environ.get("STORE") or "folder"
    if kind not in store.KINDS:
        raise SystemExit(f"STORE must be one of {', '.join(store.KINDS)}, got {kind!r}")
    if environ.get("DEVICE", "cpu") not in ("cpu", "cuda"):
        raise SystemExit(f"DEVICE must be cpu or cuda, got {environ['DEVICE']!r}")
    return kind


def _require_environments(chosen: tuple[Program, ...], home: Home) -> None:
    missing = [service.name for service in chosen if not home.python(service.name).exists()]
    if missing:
        raise SystemExit(f"no environment (services/<name>/.venv) for {', '.join(missing)}; run `uv sync` there")


def _running(supervisor: Supervisor, kind: str, say: Say) -> set[str] | None:
    """The programs that run; None when supervisord does not, after ending what a killed one left behind."""
    home = supervisor.home
    if not supervisor.is_running():
        if ended := leftovers.end(home.path, programs.GRACE_S):
            say(f"ended {len(ended)} processes left by an earlier start that was killed")
        return None
    now = "minio" if read_json(home.store_file).get("LUTHIER_STORE") == "s3" else "folder"
    if now != kind:
        raise SystemExit(f"the services are up with STORE={now}; `make down` first, then `make up STORE={kind}`")
    return {name for name, state in supervisor.states().items() if state.pid}


def _configure(
    home: Home,
    environ: dict[str, str],
    chosen: tuple[Program, ...],
    addresses: dict[str, dict[str, str]],
    binary: Path | None,
) -> None:
    """Write supervisord's configuration, and how to open the store for the `luthier` command."""
    home.create()
    kind = "minio" if binary else "folder"
    common = store.environment(kind, home, addresses.get("minio", {}).get("address", ""))
    entries = programs.services(chosen, addresses, common, home, environ)
    if binary:
        entries.append(programs.minio(home, binary, addresses["minio"]["address"]))
    for entry in entries:
        (home.path / "scratch" / entry.name).mkdir(parents=True, exist_ok=True)
    grace_s = float(environ.get("LUTHIER_GRACE_S", programs.GRACE_S))
    home.configuration.write_text(programs.render(entries, home, grace_s))
    write_json(home.store_file, common)


def _opening(kind: str, home: Home, chosen: tuple[Program, ...], environ: dict[str, str]) -> str:
    where = f"a folder, {home.store}" if kind == "folder" else f"MinIO, data in {home.minio / 'data'}"
    text = f"starting {len(chosen)} services; store: {where}"
    if "DEVICE" not in environ and any(service.torch for service in chosen):
        text += "\nDEVICE is not set: training and inference use the CPU (DEVICE=cuda make up for a GPU)"
    return text


def _start(supervisor: Supervisor, addresses: dict[str, dict[str, str]], say: Say) -> None:
    """Start the store first: a service refuses to run without one. Then the services, all at once."""
    names = sorted(addresses, key=lambda name: name != "minio")
    for batch in (names[:1], names[1:]) if "minio" in names else (names,):
        for name in batch:
            supervisor.start_program(name)
        until_serving(supervisor, {name: _check(name, addresses) for name in batch}, WAIT_S, say)


def _check(name: str, addresses: dict[str, dict[str, str]]) -> Callable[[], bool]:
    check = health.minio_ready if name == "minio" else health.serving
    return partial(check, addresses[name]["address"])


def _record(
    home: Home, supervisor: Supervisor, addresses: dict[str, dict[str, str]], remembered: dict[str, Any]
) -> None:
    """services.json: what runs now. Ports of services left out this time are kept for the next."""
    with amended(home.services_file) as services:
        states = supervisor.states()
        now = {name: {**kinds, "pid": states[name].pid} for name, kinds in addresses.items()}
        rest = {name: {**old, "pid": 0} for name, old in remembered.items() if name not in now and name != "minio"}
        services.clear()
        services.update({**now, **rest})
