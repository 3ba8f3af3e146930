"""kubectl and other commands, as the cluster's tests use them."""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]


class KubeError(AssertionError):
    """A command failed; the message has its error output."""


def run(*command: str, text: str | None = None, check: bool = True, timeout_s: float = 300) -> str:
    """Runs a program and answers with its output. KubeError with its error output when it fails."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=timeout_s, check=False)
    if check and done.returncode:
        raise KubeError(
            f"{' '.join(command)[:400]} ended with {done.returncode}:\n{done.stderr[-4000:]}{done.stdout[-2000:]}"
        )
    return done.stdout


def wait_until(what: str, check: Callable[[], Any], timeout_s: float, every_s: float = 1.0) -> Any:
    """The first true answer of `check`. KubeError when there is none in time; errors of kubectl are waited out."""
    begun, last = time.monotonic(), "never true"
    while time.monotonic() - begun < timeout_s:
        try:
            if answer := check():
                return answer
        except (KubeError, subprocess.TimeoutExpired, ValueError) as error:
            last = str(error)[-1500:]
        time.sleep(every_s)
    raise KubeError(f"{what}: not after {timeout_s:.0f} s ({last})")


@dataclass(frozen=True)
class Kube:
    """kubectl in one namespace."""

    namespace: str

    def __call__(self, *arguments: str, text: str | None = None, check: bool = True, timeout_s: float = 300) -> str:
        """`kubectl -n <namespace> …`."""
        return run("kubectl", "-n", self.namespace, *arguments, text=text, check=check, timeout_s=timeout_s)

    def get(self, *arguments: str) -> Object:
        """One object, or a List."""
        return dict(json.loads(self("get", *arguments, "-o", "json")))

    def items(self, kind: str, selector: str = "") -> list[Object]:
        """Objects of a kind by label."""
        return list(self.get(kind, *(["-l", selector] if selector else []))["items"])

    def apply(self, *objects: Object) -> None:
        """Creates or changes objects."""
        self("apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def logs(self, name: str, *more: str) -> str:
        """What a Pod (or `job/NAME`) wrote."""
        return self("logs", name, *more)

    def pods(self, selector: str, *, ready: bool | None = None, phase: str = "") -> list[Object]:
        """Pods that are not being deleted, oldest first; only those that are (not) ready, or in a phase."""
        found = [pod for pod in self.items("pods", selector) if "deletionTimestamp" not in pod["metadata"]]
        found = [pod for pod in found if ready is None or is_ready(pod) == ready]
        found = [pod for pod in found if not phase or pod["status"]["phase"] == phase]
        return sorted(found, key=lambda pod: pod["metadata"]["creationTimestamp"])

    def wait_pods(self, selector: str, count: int, timeout_s: float) -> list[Object]:
        """Waits for exactly `count` ready Pods and no other."""

        def check() -> list[Object] | bool:
            pods = self.pods(selector)
            return (len(pods) == count and all(map(is_ready, pods))) and (pods or True)

        found = wait_until(f"{count} ready Pods of {selector}", check, timeout_s)
        return found if isinstance(found, list) else []

    def wait_job(self, name: str, timeout_s: float) -> Object:
        """Waits until a Job is complete. KubeError with the logs when it failed."""

        def check() -> Object | None:
            job = self.get("job", name)
            states = {item["type"]: item["status"] for item in job["status"].get("conditions", [])}
            if states.get("Failed") == "True":
                raise AssertionError(f"Job {name} failed:\n{self.logs(f'job/{name}', '--tail=60', '--all-containers')}")
            return job if states.get("Complete") == "True" else None

        return dict(wait_until(f"Job {name} complete", check, timeout_s, every_s=2))


def is_ready(pod: Object) -> bool:
    """Whether every container of a Pod is ready."""
    return any(item["type"] == "Ready" and item["status"] == "True" for item in pod["status"].get("conditions", []))


def name_of(item: Object) -> str:
    return str(item["metadata"]["name"])


def node_of(pod: Object) -> str:
    """The node a Pod was placed on; empty while it waits."""
    return str(pod["spec"].get("nodeName", ""))
