"""The few questions that `luthier submit` asks a Kubernetes API server, in one namespace."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from luthier_kit.errors import FailedPrecondition, LuthierError, NotFound, PermissionDenied, Unavailable
from luthier_kit.settings import SettingsError

TIMEOUTS_S = (5.0, 20.0)  # to connect, to answer
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MAX_MESSAGE_CHARS = 500


class Cluster:
    """Raises PermissionDenied, Unavailable while the API server is away, FailedPrecondition for what it refuses."""

    def __init__(self, client: Any, namespace: str) -> None:
        from kubernetes.client import BatchV1Api, CoreV1Api

        self._batch, self._core, self.namespace = BatchV1Api(client), CoreV1Api(client), namespace

    def config_map(self, name: str) -> dict[str, str] | None:
        """Data of a ConfigMap, None when there is none."""
        found = self._call(f"read ConfigMap {name}", self._core.read_namespaced_config_map, name)
        return dict(found.data or {}) if found else None

    def has_claim(self, name: str) -> bool:
        """True when there is such a PersistentVolumeClaim, or when nobody may ask."""
        try:
            return bool(self._call(f"read claim {name}", self._core.read_namespaced_persistent_volume_claim, name))
        except PermissionDenied:
            return True  # the Pod will say

    def job(self, name: str) -> Any:
        """A Job, None when there is none."""
        return self._call(f"read Job {name}", self._batch.read_namespaced_job, name)

    def create(self, manifest: dict[str, Any]) -> Any:
        """The Job of that name, created now or found."""
        name = manifest["metadata"]["name"]
        manifest["metadata"]["namespace"] = self.namespace
        created = self._call(f"create Job {name}", self._batch.create_namespaced_job, body=manifest, fine=409)
        if not (created := created or self.job(name)):
            raise Unavailable(f"Job {name} was deleted meanwhile", reason="JOB_GONE")
        return created

    def _call(self, what: str, function: Callable[..., Any], name: str = "", *, fine: int = 404, **more: Any) -> Any:
        """None when the server answers with the status `fine`."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        names = {"name": name} if name else {}
        try:
            return function(**names, namespace=self.namespace, _request_timeout=TIMEOUTS_S, **more)
        except HTTPError as error:
            raise Unavailable(f"the Kubernetes API does not answer: {error}", reason="KUBERNETES_UNAVAILABLE") from None
        except ApiException as error:
            if error.status == fine:
                return None
            raise self._error(what, error) from None

    def _error(self, what: str, refused: Any) -> LuthierError:
        text = f"cannot {what} in namespace {self.namespace}: {_message(refused)}"
        if refused.status in (401, 403):
            return PermissionDenied(text, reason="KUBERNETES_FORBIDDEN")
        if refused.status == 404:
            return NotFound(text, reason="NAMESPACE_NOT_FOUND")
        if refused.status in (400, 405, 413, 422):
            return FailedPrecondition(text, reason="JOB_REFUSED")
        return Unavailable(text, reason="KUBERNETES_UNAVAILABLE")


def connect(namespace: str) -> Cluster:
    """By KUBECONFIG, else from inside a Pod by its ServiceAccount, else by ~/.kube/config.

    Without a name the namespace is the context's or the Pod's. Raises SettingsError when there is no way in.
    """
    # 2 s and 60 MB: only the one who needs it pays
    import kubernetes

    client, config = kubernetes.client, cast(Any, kubernetes.config)  # which has no types
    settings = client.Configuration()
    settings.retries = 0
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
            config.load_incluster_config(client_configuration=settings)
            own = (SERVICE_ACCOUNT / "namespace").read_text().strip()
        else:
            file = os.environ.get("KUBECONFIG")  # the client reads it when it is imported, not when it is asked
            config.load_kube_config(config_file=file, client_configuration=settings)
            own = config.list_kube_config_contexts(config_file=file)[1]["context"].get("namespace", "")
    except (config.ConfigException, OSError) as error:
        raise SettingsError(f"no way to a cluster: set KUBECONFIG, or run in a Pod with a token ({error})") from None
    return Cluster(client.ApiClient(settings), namespace or own or "default")


def _message(refused: Any) -> str:
    try:
        return str(json.loads(refused.body)["message"])[:MAX_MESSAGE_CHARS]
    except (TypeError, ValueError, KeyError):
        return f"{refused.status} {refused.reason}"
