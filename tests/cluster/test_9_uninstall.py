"""Uninstalling leaves the data and nothing else."""

from tests.cluster.kube import wait_until
from tests.cluster.release import Release, everything

OURS = (
    "configmaps/scripts",
    "configmaps/kube-root-ca.crt",
    "secrets/luthier-s3",
    "secrets/luthier-database",
    "serviceaccounts/default",
)
DATA = "persistentvolumeclaims/"


def test_only_data_is_left(installed: Release) -> None:
    from tests.cluster.kube import run

    installed.kube("delete", "jobs,pods", "-l", "app.kubernetes.io/managed-by=luthier", "--ignore-not-found")
    run("helm", "uninstall", installed.name, "-n", installed.kube.namespace, "--wait", "--timeout", "5m", timeout_s=320)

    def left() -> list[str]:
        found = [name for name in everything(installed.kube) if name not in OURS and not name.startswith(DATA)]
        return [name for name in found if "kueue" not in name and "render-load" not in name]

    wait_until("nothing is left but the data", lambda: not left(), 120)
    claims = [name for name in everything(installed.kube) if name.startswith(DATA)]
    assert any("minio" in name for name in claims)
    assert any("postgresql" in name for name in claims)
