"""The launcher before a real API server: KUBECONFIG, and LUTHIER_TEST_NAMESPACE, a namespace to make Jobs in. The Jobs
are suspended, so that no image is needed.
"""

import copy
import os
import time

import pytest
import yaml

from luthier_kit.runs import RunLog
from luthier_kit.settings import load
from luthier_training.launchers.kubernetes_jobs import KubernetesLauncher
from luthier_training.launchers.launcher import WAITING
from luthier_training.scheduler import KIND, Scheduler
from luthier_training.settings import TrainingSettings
from tests.kubernetes_api import TEMPLATE

NEEDED = ("KUBECONFIG", "LUTHIER_TEST_NAMESPACE")
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not all(map(os.environ.get, NEEDED)), reason=f"needs {' and '.join(NEEDED)}"),
]


@pytest.fixture
def launcher(template, monkeypatch):
    document = copy.deepcopy(TEMPLATE)
    document["spec"]["suspend"] = True
    monkeypatch.setenv("LUTHIER_JOB_TEMPLATE", str(template(yaml.safe_dump(document))))
    settings = {"DEVICE": "cpu", "LUTHIER_TRAINING_LAUNCHER": "kubernetes"}
    settings["LUTHIER_NAMESPACE"] = os.environ["LUTHIER_TEST_NAMESPACE"]
    return KubernetesLauncher(load(TrainingSettings, {**os.environ, **settings}))


def test_a_run_waits_is_found_again_and_is_cancelled(store, launcher):
    run = RunLog.create(store, KIND, f"cluster-{time.time()}", {"request_id": "r", "model_name": "m"})
    for _ in range(3):  # each as if the service had started just now
        Scheduler(store, launcher).look()
    assert launcher.look()[run.id].state == WAITING
    assert run.read().progress["stage"] == "its Job is suspended"
    run.cancel("me", "enough")
    Scheduler(store, launcher).look()
    deadline = time.monotonic() + 30
    while run.id in launcher.look():
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert run.read().state == "CANCELLED"
