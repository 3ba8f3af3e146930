"""Uninstalling leaves the data and nothing else."""

import time

from tests.cluster.kube import run
from tests.cluster.release import Release, everything

KEPT = (
    "configmaps/scripts",
    "configmaps/kube-root-ca.crt",
    "secrets/luthier-s3",
    "secrets/luthier-database",
    "secrets/luthier-tls",
    "secrets/luthier-callers",
    "secrets/luthier-tokens",
    "serviceaccounts/default",
    "localqueues.kueue.x-k8s.io/training",
)
DATA = "persistentvolumeclaims/"


def test_only_data_is_left(installed: Release) -> None:
    run("helm", "uninstall", installed.name, "-n", installed.kube.namespace, "--wait", "--timeout", "5m", timeout_s=320)

    def left() -> list[str]:
        found = [name for name in everything(installed.kube) if name not in KEPT and not name.startswith(DATA)]
        return [name for name in found if not name.endswith("/render-load")]

    begun = time.monotonic()
    while left() and time.monotonic() - begun < 120:
        time.sleep(3)
    assert left() == []
    claims = [name for name in everything(installed.kube) if name.startswith(DATA)]
    assert any("minio" in name for name in claims)
    assert any("postgresql" in name for name in claims)
