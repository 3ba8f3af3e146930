"""A checkout of tiny services, driven by the command line that the Makefile calls."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from luthier_local import leftovers

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Installation:
    """A fake checkout, and the command line as the Makefile calls it."""

    root: Path
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.root / ".luthier"

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        kept = ("PATH", "HOME", "LANG", "LUTHIER_MINIO")
        clean = {key: value for key, value in os.environ.items() if key in kept}
        command = [sys.executable, "-m", "luthier_local", "--root", str(self.root), *arguments]
        return subprocess.run(
            command,
            env={**clean, **self.extra, **environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def up(self, **environ: str) -> subprocess.CompletedProcess[str]:
        """`up` of two services, which is quicker than all."""
        return self.run("up", "--only", "rendering", "analysis", **environ)

    def kill(self) -> None:
        """End supervisord and all it started at once: quicker than `down`, which has tests of its own."""
        home = Path(self.extra.get("LUTHIER_HOME", self.home))
        if (home / "supervisord.pid").exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int((home / "supervisord.pid").read_text()), signal.SIGKILL)
        leftovers.end(home, grace_s=0)

    def services(self) -> dict[str, dict[str, object]]:
        entries: dict[str, dict[str, object]] = json.loads((self.home / "services.json").read_text())
        return entries

    def ps(self) -> dict[str, dict[str, object]]:
        entries: dict[str, dict[str, object]] = json.loads(self.run("ps", "--json").stdout)
        return entries


def eventually(claim: Callable[[], bool], within_s: float) -> float:
    """Seconds until `claim` is true; fails when it is not within `within_s`."""
    begin = time.monotonic()
    while not claim():
        assert time.monotonic() - begin < within_s, f"not true within {within_s} s"
        time.sleep(0.05)
    return time.monotonic() - begin
