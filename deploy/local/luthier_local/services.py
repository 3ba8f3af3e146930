"""The services, their commands and settings, and supervisord's configuration that runs them.

A service is `services/<name>/.venv/bin/python -m luthier_<name>`. To add one, add it to SERVICES here and to the kit's
PORTS.
"""

import os
import pwd
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from luthier_local import store
from luthier_local.home import Home, Programs


@dataclass(frozen=True)
class Service:
    """One service: its name, whether it has a page, has a database, runs torch, and which others it calls."""

    name: str
    web: bool = False
    database: bool = False
    torch: bool = False
    calls: tuple[str, ...] = ()


SERVICES = (
    Service("rendering"),
    Service("analysis"),
    Service("enrichment"),
    Service("prompting"),
    Service("curation", web=True, database=True, calls=("analysis", "evaluation")),
    Service("training", torch=True),
    Service("inference", web=True, torch=True, calls=("analysis",)),
    Service("evaluation", calls=("inference", "analysis")),
)
"""In the order in which a song passes through them."""

MARK = "LUTHIER_LOCAL_HOME"
"""In the environment of every process that is started here, so that those of a killed supervisord are found again."""
GRACE_S = 20  # how long a service may finish its calls after SIGTERM, unless LUTHIER_GRACE_S is set
STOP_MARGIN_S = 10  # supervisord waits this much longer than the grace before it kills
START_S = 1  # a program that ran this long has started; one that ended earlier is retried, each time a second later
START_RETRIES = 30  # eight minutes in all: a store that is away may come back
RECORDER = "recorder"  # the program that writes new pids into services.json


@dataclass(frozen=True)
class Entry:
    """One program of supervisord's configuration."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)


def entries(chosen: tuple[Service, ...], programs: Programs, home: Home, environ: Mapping[str, str]) -> list[Entry]:
    """An entry for each service. They start when the store is proven, so they expect it; `environ` is the caller's own
    environment."""
    minio_address = programs["minio"].address if "minio" in programs else ""
    cores = len(os.sched_getaffinity(0))
    found = []
    for service in chosen:
        own = programs[service.name]
        threads = str(max(1, min(cores, 8)) if service.torch else 1)
        values = {
            MARK: str(home.path),
            **store.settings(home, minio_address, service.name),
            store.EXPECTED: "1",
            "LUTHIER_ADDRESS": own.address,
            "LUTHIER_METRICS_ADDRESS": own.metrics,
            "LUTHIER_SCRATCH": str(home.path / "scratch" / service.name),
            "LUTHIER_GRACE_S": environ.get("LUTHIER_GRACE_S", str(GRACE_S)),
            "OMP_NUM_THREADS": environ.get("OMP_NUM_THREADS", threads),
            "PYTHONUNBUFFERED": "1",
        }
        if service.torch:
            values["DEVICE"] = environ.get("DEVICE", "cpu")
            values["OMP_WAIT_POLICY"] = "passive"  # threads that spin while they wait take the other services' cores
        if service.web:
            values["LUTHIER_WEB_ADDRESS"] = own.web
        if service.database:
            database = f"sqlite:///{home.path / (service.name + '.db')}"
            values["LUTHIER_DATABASE_URL"] = environ.get("LUTHIER_DATABASE_URL", database)
        for other in service.calls:
            if other in programs:
                values[f"LUTHIER_{other.upper()}_ADDRESS"] = programs[other].address
        command = [str(home.python(service.name)), "-m", f"luthier_{service.name}"]
        found.append(Entry(service.name, command, values))
    return found


def minio(home: Home, binary: Path, address: str) -> Entry:
    """The object store, without its console."""
    command = [str(binary), "server", "--quiet", "--address", address, str(home.minio / "data")]
    return Entry("minio", command, {MARK: str(home.path), **store.prepare_minio(home)})


def configuration(programs: list[Entry], home: Home, grace_s: float) -> str:
    """The text of supervisord.conf. `up` starts the programs in its own order, hence autostart=false."""
    text = [
        "; written by luthier_local at every `make up`; edits are lost",
        "[unix_http_server]",
        f"file={_checked(str(home.socket))}",
        "chmod=0700",
        "[supervisord]",
        f"logfile={_checked(str(home.logs / 'supervisord.log'))}",
        "logfile_maxbytes=5MB",
        "logfile_backups=2",
        f"pidfile={_checked(str(home.pid_file))}",
        f"childlogdir={_checked(str(home.logs))}",
        f"directory={_checked(str(home.root))}",
        f"user={pwd.getpwuid(os.getuid()).pw_name}",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
    ]
    for entry in programs:
        environment = ",".join(f'{key}="{_checked(value)}"' for key, value in sorted(entry.environment.items()))
        text += [
            f"[program:{entry.name}]",
            f"command={_checked(shlex.join(entry.command), quotes=True)}",
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
            f"stdout_logfile={_checked(str(home.logs / (entry.name + '.log')))}",
            "stdout_logfile_maxbytes=10MB",
            "stdout_logfile_backups=3",
            "priority=1" if entry.name == "minio" else "priority=10",
        ]
    recorder = [sys.executable, "-m", "luthier_local.recorder", str(home.root), str(home.path)]
    text += [
        f"[eventlistener:{RECORDER}]",
        f"command={_checked(shlex.join(recorder), quotes=True)}",
        "events=PROCESS_STATE_RUNNING,TICK_3600",
        "stdout_logfile=NONE",
        f"stderr_logfile={_checked(str(home.logs / (RECORDER + '.log')))}",
        "stopasgroup=true",  # with the expiry that it may have begun
        "killasgroup=true",
        "autorestart=true",
    ]
    return "\n".join(text) + "\n"


def _checked(value: str, *, quotes: bool = False) -> str:
    """`value`, unless supervisord would read it otherwise: % expands (in some places twice), ` ;` and ` #` begin a
    comment, and quotes end a value."""
    forbidden = ["%", " ;", " #", "\n", *([] if quotes else ['"', "'"])]
    if any(mark in value for mark in forbidden):
        raise SystemExit(f"a path or setting has a character that supervisord's configuration cannot hold: {value!r}")
    return value
