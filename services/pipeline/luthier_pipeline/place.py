"""Where the services and the store are.

In order: `LUTHIER_<NAME>_ADDRESS` and `LUTHIER_STORE…` in the environment; what `make up` wrote into `.luthier/`
(`LUTHIER_HOME` moves it; it is looked for here and in the folders above); the usual ports on loopback.
"""

import json
import os
import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from luthier.analysis.v1.analysis_pb2_grpc import AnalysisServiceStub
from luthier.curation.v1.curation_pb2_grpc import CurationServiceStub
from luthier.enrichment.v1.enrichment_pb2_grpc import EnrichmentServiceStub
from luthier.evaluation.v1.evaluation_pb2_grpc import EvaluationServiceStub
from luthier.inference.v1.inference_pb2_grpc import InferenceServiceStub
from luthier.prompting.v1.prompting_pb2_grpc import PromptingServiceStub
from luthier.rendering.v1.rendering_pb2_grpc import RenderingServiceStub
from luthier.training.v1.training_pb2_grpc import TrainingServiceStub
from luthier_kit.artifacts import Artifacts, open_artifacts
from luthier_kit.client import Client
from luthier_kit.ports import PORTS
from luthier_kit.settings import StoreSettings, load

STUBS: dict[str, Callable[..., Any]] = {
    "rendering": RenderingServiceStub,
    "analysis": AnalysisServiceStub,
    "enrichment": EnrichmentServiceStub,
    "prompting": PromptingServiceStub,
    "curation": CurationServiceStub,
    "training": TrainingServiceStub,
    "inference": InferenceServiceStub,
    "evaluation": EvaluationServiceStub,
}


class Place:
    """The clients of all services and the store, opened when first used."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self.environ = environ
        self.home = _home(environ)
        self._clients: dict[str, Client] = {}
        self._lock = threading.Lock()

    def __getitem__(self, service: str) -> Client:
        """The client of a service."""
        with self._lock:
            if service not in self._clients:
                self._clients[service] = Client(self.address(service), STUBS[service])
            return self._clients[service]

    def address(self, service: str) -> str:
        """host:port of a service."""
        known = _read(self.home / "services.json").get(service, {}).get("address")
        return self.environ.get(f"LUTHIER_{service.upper()}_ADDRESS") or known or f"127.0.0.1:{PORTS[service]}"

    @property
    def page(self) -> str:
        """host:port of the curation page; empty when unknown."""
        return str(_read(self.home / "services.json").get("curation", {}).get("web", ""))

    @cached_property
    def store(self) -> Artifacts:
        """The store that the services use."""
        return open_artifacts(load(StoreSettings, self.store_environ))

    @property
    def store_environ(self) -> dict[str, str]:
        """The settings of the store, where nothing names one as `make up` wrote them."""
        written = {} if "LUTHIER_STORE" in self.environ else _read(self.home / "store.json")
        return {**self.environ, **written}

    def close(self) -> None:
        """Closes all channels; calls that run are cancelled."""
        with self._lock:
            clients = list(self._clients.values())
        for client in clients:
            client.close()


def _home(environ: Mapping[str, str]) -> Path:
    if named := environ.get("LUTHIER_HOME"):
        return Path(named)
    here = Path.cwd()
    found = [folder / ".luthier" for folder in (here, *here.parents) if (folder / ".luthier/services.json").exists()]
    return found[0] if found else here / ".luthier"


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return {}
