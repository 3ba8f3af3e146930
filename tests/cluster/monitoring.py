"""Prometheus in the cluster, for KEDA and for the tests' queries."""

import json
import urllib.parse
from dataclasses import dataclass
from typing import Any

from tests.cluster.kube import Kube, run, wait_until
from tests.cluster.release import RESTRICTED, namespace
from tests.cluster.settings import SERVICES

PORT = 9090


@dataclass
class Prometheus:
    """One Pod that finds its targets by DNS: every Pod behind the headless Services of a release."""

    kube: Kube
    image: str
    target_namespace: str
    release: str

    @property
    def address(self) -> str:
        """URL, as KEDA needs it."""
        return f"http://prometheus.{self.kube.namespace}.svc:{PORT}"

    def install(self) -> None:
        """Starts it and waits until it answers."""
        namespace(self.kube.namespace)
        self.kube.apply(self._configuration(), self._pod(), self._service())
        wait_until("Prometheus answers", lambda: self.query("vector(1)"), 120)

    def query(self, promql: str) -> list[dict[str, Any]]:
        """The series that answer a query now."""
        path = f"/api/v1/namespaces/{self.kube.namespace}/pods/prometheus:{PORT}/proxy/api/v1/query?query="
        answer = json.loads(run("kubectl", "get", "--raw", path + urllib.parse.quote(promql, safe="")))
        return list(answer["data"]["result"])

    def value(self, promql: str) -> float | None:
        """The one value of a query, None where there is no series."""
        found = self.query(promql)
        return float(found[0]["value"][1]) if found else None

    def _configuration(self) -> dict[str, Any]:
        ports = {**dict.fromkeys((*SERVICES, "monitor"), 7200), "vllm": 8000}
        jobs = [
            {
                "job_name": f"{self.release}-{service}",  # as the chart's ServiceMonitor names them
                "honor_labels": True,
                "dns_sd_configs": [
                    {
                        "names": [f"{self.release}-{service}.{self.target_namespace}.svc.cluster.local"],
                        "type": "A",
                        "port": port,
                        "refresh_interval": "5s",
                    }
                ],
            }
            for service, port in ports.items()
        ]
        text = json.dumps({"global": {"scrape_interval": "3s", "evaluation_interval": "5s"}, "scrape_configs": jobs})
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "prometheus"},
            "data": {"prometheus.yml": text},
        }

    def _pod(self) -> dict[str, Any]:
        container = {
            "name": "prometheus",
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "args": ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/data"],
            "ports": [{"containerPort": PORT}],
            "readinessProbe": {"httpGet": {"path": "/-/ready", "port": PORT}, "periodSeconds": 2},
            "securityContext": RESTRICTED,
            "volumeMounts": [
                {"name": "configuration", "mountPath": "/etc/prometheus"},
                {"name": "data", "mountPath": "/data"},
            ],
        }
        spec = {
            "containers": [container],
            "securityContext": {"fsGroup": 10001},
            "volumes": [
                {"name": "configuration", "configMap": {"name": "prometheus"}},
                {"name": "data", "emptyDir": {}},
            ],
        }
        labels = {"app": "prometheus"}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "prometheus", "labels": labels}, "spec": spec}

    def _service(self) -> dict[str, Any]:
        spec = {"selector": {"app": "prometheus"}, "ports": [{"port": PORT}]}
        return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "prometheus"}, "spec": spec}
