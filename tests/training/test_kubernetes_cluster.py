"""The launcher before a real API server: KUBECONFIG, and LUTHIER_TEST_NAMESPACE, a namespace to make Jobs in. The Jobs
are suspended, so that no image is needed.
"""

import copy
import os
import time
from typing import Any

import pytest
import yaml

from luthier.training.v1.training_pb2 import CreateTrainingRunRequest
from luthier_kit.registry import RUN_STATE_CANCELLED, RunLog
from luthier_kit.rpc import load
from luthier_kit.store import Store
from luthier_training.launchers.kubernetes_jobs import KubernetesLauncher
from luthier_training.launchers.launcher import WorkState
from luthier_training.runs import KIND
from luthier_training.scheduler import Scheduler
from luthier_training.settings import TrainingSettings
from tests.kubernetes_api import TEMPLATE

from .conftest import WriteTemplate

NEEDED = ("KUBECONFIG", "LUTHIER_TEST_NAMESPACE")
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not all(map(os.environ.get, NEEDED)), reason=f"needs {' and '.join(NEEDED)}"),
]


@pytest.fixture
def launcher(template: WriteTemplate, monkeypatch: pytest.MonkeyPatch) -> KubernetesLauncher:
    document: dict[str, Any] = copy.deepcopy(TEMPLATE)
    document["spec"]["suspend"] = True
    monkeypatch.setenv("LUTHIER_JOB_TEMPLATE", str(template(yaml.safe_dump(document))))
    settings = {"DEVICE": "cpu", "LUTHIER_TRAINING_LAUNCHER": "kubernetes"}
    settings["LUTHIER_NAMESPACE"] = os.environ["LUTHIER_TEST_NAMESPACE"]
    return KubernetesLauncher(load(TrainingSettings, {**os.environ, **settings}))


def test_a_run_waits_is_found_again_and_is_cancelled(store: Store, launcher: KubernetesLauncher) -> None:
    run = RunLog.create(store, KIND, f"cluster-{time.time()}", CreateTrainingRunRequest(request_id="r", model_name="m"))
    for _ in range(3):  # each as if the service had started just now
        Scheduler(store, launcher).reconcile()
    assert launcher.list_work()[run.id].state == WorkState.WAITING
    assert run.read().waiting_for == "its Job is suspended"
    run.cancel("me", "enough")
    Scheduler(store, launcher).reconcile()
    deadline = time.monotonic() + 30
    while run.id in launcher.list_work():
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert run.read().state == RUN_STATE_CANCELLED
