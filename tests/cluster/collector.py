"""OpenTelemetry's collector in the cluster; its log has the spans that it received."""

import re
from dataclasses import dataclass

from tests.cluster.kube import Kube, is_ready, wait_until
from tests.cluster.release import RESTRICTED

PORT = 4318
SPAN = re.compile(r"Trace ID\s+: (?P<trace>\w+).*?\n\s+Name\s+: (?P<name>[^\n]+)", re.DOTALL)


@dataclass(frozen=True)
class Span:
    """A span: its service, its name, and the id of its trace."""

    service: str
    name: str
    trace: str


@dataclass
class Collector:
    """One Pod and its Service."""

    kube: Kube
    image: str

    @property
    def url(self) -> str:
        """Its address, for OTLP over HTTP."""
        return f"http://collector.{self.kube.namespace}.svc:{PORT}"

    def install(self) -> None:
        """Starts it and waits until it runs."""
        container = {
            "name": "collector",
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "ports": [{"containerPort": PORT}],
            "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 2},
            "securityContext": RESTRICTED,
        }
        metadata = {"name": "collector", "labels": {"app": "collector"}}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}
        ports = {"selector": {"app": "collector"}, "ports": [{"port": PORT}]}
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "collector"}, "spec": ports}
        self.kube.apply(pod, service)
        wait_until("the collector runs", lambda: is_ready(self.kube.get("pod", "collector")), 120)

    def spans(self) -> list[Span]:
        """All spans received so far."""
        found = []
        for block in self.kube.logs("collector").split("ResourceSpans #")[1:]:
            service = re.search(r"service\.name: Str\(([^)]*)\)", block)
            assert service, block[:400]
            found += [Span(service[1], match["name"], match["trace"]) for match in SPAN.finditer(block)]
        return found
