"""What supervisord is told to run: the command and the environment of every service, as one text."""

import os
import pwd
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

from luthier_local import store
from luthier_local.catalogue import Program
from luthier_local.home import Home

MARK = "LUTHIER_LOCAL_HOME"  # in the environment of all that we start; by it leftovers are found again
GRACE_S = 20  # how long a service may finish its calls after SIGTERM, unless LUTHIER_GRACE_S says otherwise
STOP_MARGIN_S = 10  # supervisord waits this much longer than the grace before it kills
START_S = 1  # who lives this long has started; who dies earlier is retried, each time a second later
START_RETRIES = 30  # for eight minutes in all: a store that is away may come back
RECORDER = "recorder"  # keeps the pids in services.json true


@dataclass(frozen=True)
class Entry:
    """One program of the configuration."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)


def services(
    chosen: tuple[Program, ...],
    addresses: dict[str, dict[str, str]],
    common: dict[str, str],
    home: Home,
    environ: dict[str, str],
) -> list[Entry]:
    """An entry for each service. `common` opens the store; `environ` is the caller's own environment."""
    cores = len(os.sched_getaffinity(0))
    entries = []
    for service in chosen:
        threads = str(max(1, min(cores, 8)) if service.torch else 1)
        values = {
            MARK: str(home.path),
            **common,
            "LUTHIER_ADDRESS": addresses[service.name]["address"],
            "LUTHIER_METRICS_ADDRESS": addresses[service.name]["metrics"],
            "LUTHIER_SCRATCH": str(home.path / "scratch" / service.name),
            "LUTHIER_GRACE_S": environ.get("LUTHIER_GRACE_S", str(GRACE_S)),
            "OMP_NUM_THREADS": environ.get("OMP_NUM_THREADS", threads),
            "PYTHONUNBUFFERED": "1",
        }
        if service.torch:
            values["DEVICE"] = environ.get("DEVICE", "cpu")
            values["OMP_WAIT_POLICY"] = "passive"  # threads that spin for each other starve the other services
        if service.web:
            values["LUTHIER_WEB_ADDRESS"] = addresses[service.name]["web"]
            values["LUTHIER_DATABASE_URL"] = environ.get(
                "LUTHIER_DATABASE_URL", f"sqlite:///{home.path / (service.name + '.db')}"
            )
        for other in service.calls:
            if other in addresses:
                values[f"LUTHIER_{other.upper()}_ADDRESS"] = addresses[other]["address"]
        entries.append(Entry(service.name, [str(home.python(service.name)), "-m", service.module], values))
    return entries


def minio(home: Home, binary: Path, address: str) -> Entry:
    """The object store, without its console."""
    command = [str(binary), "server", "--quiet", "--address", address, str(home.minio / "data")]
    return Entry("minio", command, {MARK: str(home.path), **store.prepare_minio(home)})


def render(entries: list[Entry], home: Home, grace_s: float) -> str:
    """The text of supervisord.conf. Programs start when `up` says so, in its order, hence autostart=false."""
    text = [
        "; written by luthier_local at every `make up`; edits are lost",
        "[unix_http_server]",
        f"file={_plain(str(home.socket))}",
        "chmod=0700",
        "[supervisord]",
        f"logfile={_plain(str(home.logs / 'supervisord.log'))}",
        "logfile_maxbytes=5MB",
        "logfile_backups=2",
        f"pidfile={_plain(str(home.pid_file))}",
        f"childlogdir={_plain(str(home.logs))}",
        f"directory={_plain(str(home.root))}",
        f"user={pwd.getpwuid(os.getuid()).pw_name}",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
    ]
    for entry in entries:
        text += _program(entry, home, grace_s)
    text += _recorder(home)
    return "\n".join(text) + "\n"


def _program(entry: Entry, home: Home, grace_s: float) -> list[str]:
    environment = ",".join(f'{key}="{_plain(value)}"' for key, value in sorted(entry.environment.items()))
    return [
        f"[program:{entry.name}]",
        f"command={_plain(shlex.join(entry.command), quotes=True)}",
        f"environment={environment}",
        "autostart=false",
        "autorestart=true",
        f"startsecs={START_S}",
        f"startretries={START_RETRIES}",
        "stopsignal=TERM",
        "stopasgroup=true",
        "killasgroup=true",
        f"stopwaitsecs={int(grace_s) + STOP_MARGIN_S}",
        "redirect_stderr=true",
        f"stdout_logfile={_plain(str(home.logs / (entry.name + '.log')))}",
        "stdout_logfile_maxbytes=10MB",
        "stdout_logfile_backups=3",
        "priority=1" if entry.name == "minio" else "priority=10",
    ]


def _recorder(home: Home) -> list[str]:
    command = [sys.executable, "-m", "luthier_local.recorder", str(home.services_file)]
    return [
        f"[eventlistener:{RECORDER}]",
        f"command={_plain(shlex.join(command), quotes=True)}",
        "events=PROCESS_STATE_RUNNING",
        "stdout_logfile=NONE",
        f"stderr_logfile={_plain(str(home.logs / (RECORDER + '.log')))}",
        "autorestart=true",
    ]


def _plain(value: str, *, quotes: bool = False) -> str:
    """`value` for an ini file of supervisord, in which % expands (in some places twice), ` ;` and ` #` begin a
    comment and quotes end a value."""
    forbidden = ["%", " ;", " #", "\n", *([] if quotes else ['"', "'"])]
    if any(mark in value for mark in forbidden):
        raise SystemExit(f"a path or setting holds a character that supervisord cannot be told: {value!r}")
    return value
