"""Work for a release: corpora, submissions, load."""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.cluster.kube import Kube, KubeError, wait_until
from tests.cluster.release import Release, caller_pod
from tests.cluster.transposed import transposed


def submit(release: Release, *arguments: str, code: int = 0) -> dict[str, Any]:
    """`luthier submit …` as the platform engineer types it, with the KUBECONFIG of the tests."""
    where = ("--release", release.name, "--namespace", release.kube.namespace)
    command = [str(release.command), "submit", *arguments, *where, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode != code:
        raise KubeError(f"luthier submit ended with {done.returncode}: {done.stderr}{done.stdout}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1])) if done.stdout.strip() else {}


def run_of(release: Release, collection: str) -> dict[str, Any]:
    """What `luthier status` says of a collection."""
    return dict(release.luthier("status", "--collection", collection)["runs"].get(collection, {"rendered": 0}))


class Load:
    """load.py in a Pod, from READY until stopped."""

    def __init__(self, kube: Kube, pod: dict[str, Any]) -> None:
        self.kube, self.name = kube, pod["metadata"]["name"]
        kube("delete", "pod", self.name, "--ignore-not-found", "--wait=true")
        kube.apply(pod)
        wait_until("the load runs", lambda: "READY" in kube.logs(self.name), 240)

    def stop(self) -> dict[str, Any]:
        """Ends the load and answers with its count; `lines` are the failed calls."""
        self.kube("exec", self.name, "--", "python", "-c", "import os; os.kill(1, 15)", check=False)
        wait_until("the load has ended", self._ended, 200)
        lines = self.kube.logs(self.name).strip().splitlines()
        return {**json.loads(lines[-1]), "lines": [line for line in lines if " failed after " in line]}

    def _ended(self) -> bool:
        return bool(self.kube.get("pod", self.name)["status"]["phase"] in ("Succeeded", "Failed"))


def generate_load(release: Release, model: str, seconds: float, rate: float, kind: str = "generate") -> Load:
    """Another team's service calls Generate from its own namespace; `kind`: generate or mixed, as load.py explains."""
    command = ["python", "/scripts/load.py", kind, release.address("inference"), model, str(seconds), str(rate)]
    image = release.settings.image("pipeline")
    return Load(Kube("luthier-callers"), caller_pod("generate-load", image, command))


def render_load(release: Release, seconds: float, rate: float) -> Load:
    """The pipeline calls RenderSong."""
    command = ["python", "/scripts/load.py", "render", release.address("rendering"), "-", str(seconds), str(rate)]
    return Load(release.kube, release.pipeline_pod("render-load", command))


def review_load(release: Release, collection: str, seconds: float, rate: float) -> Load:
    """A reviewer remarks on the clips of a collection."""
    command = ["python", "/scripts/load.py", "review", release.address("curation"), collection, str(seconds), str(rate)]
    return Load(release.kube, release.pipeline_pod("review-load", command))


def ask_once(release: Release, namespace: str, model: str) -> str:
    """One Generate from a Pod of a namespace; its output, READY when it was answered."""
    kube, name = Kube(namespace), "ask-once"
    kube("delete", "pod", name, "--ignore-not-found", "--wait=true")
    command = ["python", "/scripts/load.py", "generate", release.address("inference"), model, "0", "1"]
    kube.apply(caller_pod(name, release.settings.image("pipeline"), command))
    wait_until("the caller ended", lambda: kube.get("pod", name)["status"]["phase"] in ("Succeeded", "Failed"), 240)
    return kube.logs(name)


def asking_pod(release: Release, name: str, model: str, count: int) -> dict[str, Any]:
    """A Pod of another team that calls `count` Generates at once, with the credentials in the Secret of its name."""
    command = ["python", "/scripts/ask.py", release.address("inference"), model, str(count)]
    pod = caller_pod(name, release.settings.image("pipeline"), command)
    pod["spec"]["volumes"].append({"name": "credentials", "secret": {"secretName": name}})
    pod["spec"]["containers"][0]["volumeMounts"].append({"name": "credentials", "mountPath": "/credentials"})
    return pod


def answers(kube: Kube, name: str) -> list[tuple[str, str]]:
    """Status and details of every call of such a Pod."""
    return [(code, details) for code, details in json.loads(kube.logs(name).strip().splitlines()[-1])]


def corpus_claim(release: Release, name: str, semitones: int, keep: int | None = None) -> str:
    """A claim with songs that no run has seen: the songbook, transposed. Answers with the claim's name."""
    with tempfile.TemporaryDirectory() as folder:
        transposed(Path(folder), semitones, keep)
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "100Mi"}}},
        }
        pod = release.pipeline_pod(f"fill-{name}", ["sleep", "600"])
        pod["spec"]["volumes"].append({"name": "songs", "persistentVolumeClaim": {"claimName": name}})
        pod["spec"]["containers"][0]["volumeMounts"].append({"name": "songs", "mountPath": "/songs"})
        release.kube("delete", "pod", f"fill-{name}", "--ignore-not-found", "--grace-period=1")
        release.kube.apply(claim, pod)
        release.kube("wait", "--for=condition=Ready", f"pod/fill-{name}", "--timeout=180s")
        songs = sorted(
            path.name for path in Path(folder).iterdir()
        )  # not the folder itself, whose mode is set by the volume
        tar = subprocess.Popen(["tar", "-C", folder, "-cf", "-", *songs], stdout=subprocess.PIPE)
        into = [
            "exec",
            "-i",
            f"fill-{name}",
            "--",
            "tar",
            "-C",
            "/songs",
            "--no-same-owner",
            "--no-overwrite-dir",
            "-xf-",
        ]
        subprocess.run(["kubectl", "-n", release.kube.namespace, *into], stdin=tar.stdout, check=True)
        release.kube("delete", "pod", f"fill-{name}", "--grace-period=1")
    return name
