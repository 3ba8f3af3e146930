"""The Kubernetes API as a launcher needs it: Jobs made, listed and deleted, Pods listed, in one namespace."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier_kit.errors import FailedPrecondition, PermissionDenied, Unavailable
from luthier_kit.settings import SettingsError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TIMEOUTS_S = (5.0, 20.0)
"""To connect, to answer."""
MAX_MESSAGE_CHARS = 500


class Cluster:
    """Raises Unavailable while the API server is away or a quota is used up, PermissionDenied, FailedPrecondition
    JOB_REFUSED for a manifest that it does not take.
    """

    def __init__(self, client: ApiClient, namespace: str) -> None:
        from kubernetes.client import BatchV1Api, CoreV1Api

        self._batch, self._core, self.namespace = BatchV1Api(client), CoreV1Api(client), namespace

    def jobs(self, selector: str) -> list[Any]:
        """V1Job objects; their types say that every field may be absent, so they are not of use."""
        found = _call("list Jobs", self._batch.list_namespaced_job, self.namespace, label_selector=selector)
        return list(found.items)

    def pods(self, selector: str) -> list[Any]:
        found = _call("list Pods", self._core.list_namespaced_pod, self.namespace, label_selector=selector)
        return list(found.items)

    def create(self, manifest: dict[str, Any], *, dry: bool = False) -> None:
        """Creates a Job; one of the same name is fine. `dry`: the server only says what it would do."""
        _call("create a Job", self._batch.create_namespaced_job, self.namespace, manifest, fine=409, **_dry(dry))

    def delete(self, name: str, *, dry: bool = False) -> None:
        """Deletes a Job, its Pods follow; an absent one is fine."""
        options = {"propagation_policy": "Background", **_dry(dry)}
        _call("delete a Job", self._batch.delete_namespaced_job, name, self.namespace, fine=404, **options)


def connect(namespace: str) -> Cluster:
    """From inside a Pod by its ServiceAccount, else by KUBECONFIG. SettingsError when neither is there."""
    # 2 s and 60 MB: only the one who needs it pays
    from kubernetes import client, config

    settings = client.Configuration()
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
            config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        else:
            # named, because the library looks at the variable once, when it is imported
            config.load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=settings)  # type: ignore[no-untyped-call]
    except (config.ConfigException, OSError) as e:
        text = f"LUTHIER_TRAINING_LAUNCHER=kubernetes: neither a Pod's ServiceAccount nor KUBECONFIG can be read: {e}"
        raise SettingsError(text) from None
    return Cluster(client.ApiClient(settings), namespace or _own_namespace())


def _own_namespace() -> str:
    try:
        return (SERVICE_ACCOUNT / "namespace").read_text().strip()
    except OSError:
        raise SettingsError("LUTHIER_NAMESPACE is missing: outside of a Pod nothing else names it") from None


def _dry(dry: bool) -> dict[str, str]:
    return {"dry_run": "All"} if dry else {}


def _call(what: str, function: Callable[..., Any], *arguments: Any, fine: int = 0, **options: Any) -> Any:
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        return function(*arguments, _request_timeout=TIMEOUTS_S, **options)
    except HTTPError as e:
        raise Unavailable(f"the Kubernetes API does not answer: {e}", reason="KUBERNETES_UNAVAILABLE") from None
    except ApiException as e:
        if e.status == fine:
            return None
        raise _error(what, e) from None


def _error(what: str, refused: Any) -> Unavailable | PermissionDenied | FailedPrecondition:
    text = f"cannot {what}: {_message(refused)}"
    if refused.status == 403 and "exceeded quota" not in text:
        return PermissionDenied(text, reason="JOB_REFUSED")
    if refused.status in (400, 404, 405, 413, 422):
        return FailedPrecondition(text, reason="JOB_REFUSED")
    return Unavailable(text, reason="KUBERNETES_UNAVAILABLE")


def _message(refused: Any) -> str:
    try:
        return str(json.loads(refused.body)["message"])[:MAX_MESSAGE_CHARS]
    except (TypeError, ValueError, KeyError):
        return f"{refused.status} {refused.reason}"
