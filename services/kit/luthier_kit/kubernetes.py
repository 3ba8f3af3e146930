"""The Kubernetes API as Luthier asks it, in one namespace: Jobs made, found and deleted, a few other objects read.

For those who launch Jobs (training, the pipeline's `submit`): they declare `luthier-kit[kubernetes]`. Importing this
module costs 2 s and 60 MB, the client library's: import it where a cluster is about to be asked.
"""

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client as api
from kubernetes import config
from urllib3.exceptions import HTTPError

from luthier_kit.bounded_json import read_json
from luthier_kit.rpc import FailedPrecondition, LuthierError, NotFound, PermissionDenied, SettingsError, Unavailable

TIMEOUTS_S = (5.0, 20.0)
"""To connect, to answer."""
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MAX_MESSAGE_CHARS = 500
MAX_REFUSAL_BYTES = 1 << 20


@dataclass(frozen=True)
class JobManifest:
    """One `batch/v1` Job as YAML has it: a template by an operator has fields that no type of ours knows.

    What is set on a manifest gives a new one.
    """

    document: Mapping[str, Any]

    @classmethod
    def checked(cls, document: object) -> "JobManifest":
        """The Job of a document that was read from outside. Raises ValueError naming the field that is wrong."""
        kind = (document.get("apiVersion"), document.get("kind")) if isinstance(document, dict) else None
        if not isinstance(document, dict) or kind != ("batch/v1", "Job"):
            raise ValueError("it must be one batch/v1 Job")

        def field(place: str, kind: type) -> Any:
            found: Any = document
            for part in place.split("."):
                found = found.get(part) if isinstance(found, dict) else None
            if not isinstance(found, kind):
                raise ValueError(f"{place} is missing or of a wrong type")
            return found

        field("metadata.name", str)
        containers = field("spec.template.spec.containers", list)
        if not containers or not isinstance(containers[0], dict):
            raise ValueError("spec.template.spec.containers has no container")
        return cls(document)

    @property
    def name(self) -> str:
        return str(self.document["metadata"]["name"])

    def limit(self, resource: str) -> object:
        """The first container's limit of a resource as the template has it; None when there is none."""
        container = self.document["spec"]["template"]["spec"]["containers"][0]
        return ((container.get("resources") or {}).get("limits") or {}).get(resource)

    def for_work(
        self,
        name: str,
        labels: Mapping[str, str],
        arguments: Sequence[str],
        *,
        annotations: Mapping[str, str],
        command: Sequence[str] = (),
    ) -> "JobManifest":
        """The Job of some work: its name, its and its Pods' labels and annotations, the first container's arguments.

        `command`: the container's, where the template has none.
        """
        job: dict[str, Any] = copy.deepcopy(dict(self.document))
        job["metadata"]["name"] = name
        pod = job["spec"]["template"]
        for metadata in (job["metadata"], pod.setdefault("metadata", {})):
            metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
            if annotations:
                metadata["annotations"] = {**(metadata.get("annotations") or {}), **annotations}
        container = pod["spec"]["containers"][0]
        if command:
            container.setdefault("command", list(command))
        container["args"] = list(arguments)
        return JobManifest(job)

    def mounting(self, volume: str, claim: str, path: str, subpath: str) -> "JobManifest":
        """With a claim mounted read-only in the first container, in place of any volume of that name."""
        job: dict[str, Any] = copy.deepcopy(dict(self.document))
        pod = job["spec"]["template"]["spec"]
        source = {"name": volume, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
        pod["volumes"] = [*(other for other in pod.get("volumes") or [] if other["name"] != volume), source]
        container = pod["containers"][0]
        mounts = [other for other in container.get("volumeMounts") or [] if other["name"] != volume]
        mount = {"name": volume, "mountPath": path, "readOnly": True} | ({"subPath": subpath} if subpath else {})
        container["volumeMounts"] = [*mounts, mount]
        return JobManifest(job)

    def indexed(self, completions: int, parallelism: int) -> "JobManifest":
        """An Indexed Job: one Pod for each of `completions`, `parallelism` at a time."""
        job: dict[str, Any] = copy.deepcopy(dict(self.document))
        job["spec"] |= {"completionMode": "Indexed", "completions": completions, "parallelism": parallelism}
        return JobManifest(job)

    def owned_by(self, owner: Any) -> "JobManifest":
        """Deleted when the ConfigMap `owner`, an object of the client library, is: the garbage collector sees to it."""
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": owner.metadata.name, "uid": owner.metadata.uid}
        return JobManifest({**self.document, "metadata": {**self.document["metadata"], "ownerReferences": [reference]}})


class Cluster:
    """Jobs, Pods, ConfigMaps and claims of one namespace, as objects of the client library.

    They are typed as Any, because the library's own types call every field optional. Methods raise PermissionDenied,
    NotFound for the namespace, FailedPrecondition for a manifest that the server refuses, Unavailable while the server
    is away, a quota is used up or the token has expired (401: it is renewed).
    """

    def __init__(self, client: Any, namespace: str) -> None:
        self._batch, self._core, self.namespace = api.BatchV1Api(client), api.CoreV1Api(client), namespace

    def config_map(self, name: str) -> Any:
        """A ConfigMap, None when there is none."""
        return self._call(f"read ConfigMap {name}", self._core.read_namespaced_config_map, name=name, fine=404)

    def has_claim(self, name: str) -> bool:
        """True when there is such a PersistentVolumeClaim, or when this process may not read claims."""
        read = self._core.read_namespaced_persistent_volume_claim
        try:
            return bool(self._call(f"read claim {name}", read, name=name, fine=404))
        except PermissionDenied:
            return True  # the Pod's events will tell

    def job(self, name: str) -> Any:
        """A Job, None when there is none."""
        return self._call(f"read Job {name}", self._batch.read_namespaced_job, name=name, fine=404)

    def jobs(self, selector: str) -> list[Any]:
        return list(self._call("list Jobs", self._batch.list_namespaced_job, label_selector=selector).items)

    def pods(self, selector: str) -> list[Any]:
        return list(self._call("list Pods", self._core.list_namespaced_pod, label_selector=selector).items)

    def create(self, manifest: JobManifest, *, dry: bool = False) -> Any:
        """The Job of that name, created now or found. `dry`: the server checks the request and changes nothing."""
        name, document = manifest.name, manifest.document
        body = {**document, "metadata": {**document["metadata"], "namespace": self.namespace}}
        make = self._batch.create_namespaced_job
        created = self._call(f"create Job {name}", make, body=body, fine=409, **_dry(dry))
        if not (created := created or self.job(name)):
            raise Unavailable(f"Job {name} was deleted meanwhile", reason="JOB_GONE")
        return created

    def delete(self, name: str, *, dry: bool = False) -> None:
        """Deletes a Job, its Pods follow; an absent one is fine."""
        options = {"propagation_policy": "Background", **_dry(dry)}
        self._call(f"delete Job {name}", self._batch.delete_namespaced_job, name=name, fine=404, **options)

    def _call(self, what: str, function: Callable[..., Any], *, fine: int = 0, **options: Any) -> Any:
        """None when the server answers with the status `fine`."""
        try:
            return function(namespace=self.namespace, _request_timeout=TIMEOUTS_S, **options)
        except HTTPError as error:
            raise Unavailable(f"the Kubernetes API does not answer: {error}", reason="KUBERNETES_UNAVAILABLE") from None
        except api.ApiException as error:
            if error.status == fine:
                return None
            raise _error(f"cannot {what} in namespace {self.namespace}: {_message(error)}", error.status) from None


def connect(namespace: str) -> Cluster:
    """By KUBECONFIG, else from inside a Pod by its ServiceAccount, else by ~/.kube/config.

    Without a name the namespace is the Pod's or the context's. Raises SettingsError when neither is there.
    """
    settings = api.Configuration()
    settings.retries = 0
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
            config.load_incluster_config(client_configuration=settings)
            own = (SERVICE_ACCOUNT / "namespace").read_text().strip()
        else:
            file = os.environ.get("KUBECONFIG")  # the library reads it when it is imported, not when it is asked
            config.load_kube_config(config_file=file, client_configuration=settings)
            own = config.list_kube_config_contexts(config_file=file)[1]["context"].get("namespace", "")
    except (config.ConfigException, OSError) as error:
        raise SettingsError(f"no way to a cluster: set KUBECONFIG, or run in a Pod with a token ({error})") from None
    return Cluster(api.ApiClient(settings), namespace or own or "default")


def _dry(dry: bool) -> dict[str, str]:
    return {"dry_run": "All"} if dry else {}


def _error(text: str, status: int) -> LuthierError:
    if status == 403 and "exceeded quota" not in text:
        return PermissionDenied(text, reason="KUBERNETES_FORBIDDEN")
    if status == 404:
        return NotFound(text, reason="NAMESPACE_NOT_FOUND")
    if status in (400, 405, 413, 422):
        return FailedPrecondition(text, reason="JOB_REFUSED")
    return Unavailable(text, reason="KUBERNETES_UNAVAILABLE")


def _message(refused: Any) -> str:
    """What the server says of a refusal: the message of its Status, else the HTTP status alone."""
    body = refused.body.encode() if isinstance(refused.body, str) else refused.body or b""
    try:
        return str(read_json(body, max_bytes=MAX_REFUSAL_BYTES)["message"])[:MAX_MESSAGE_CHARS]
    except (TypeError, ValueError, KeyError):
        return f"{refused.status} {refused.reason}"
