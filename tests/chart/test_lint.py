"""Helm's linter reports nothing, and every manifest conforms to the schema of its kind."""

import subprocess
from pathlib import Path

import pytest

from tests.chart import kubernetes_schemas
from tests.chart.rendering import CHART, NAMESPACE, Helm, jobs
from tests.chart.variants import VARIANTS
from tests.support.services import require_tool

KINDS = {
    "configmap-v1", "cronjob-batch-v1", "deployment-apps-v1", "horizontalpodautoscaler-autoscaling-v2",
    "ingress-networking-v1", "job-batch-v1",
    "networkpolicy-networking-v1", "persistentvolumeclaim-v1", "pod-v1", "poddisruptionbudget-policy-v1",
    "role-rbac-v1", "rolebinding-rbac-v1", "service-v1", "serviceaccount-v1", "statefulset-apps-v1",
}  # fmt: skip
CUSTOM = Path(__file__).parent / "custom-schemas"


@pytest.mark.parametrize("profile", ["try", "production"])
def test_the_linter_reports_nothing(helm: Helm, profile: str) -> None:
    output = helm.run("lint", str(CHART), "--strict", "-n", NAMESPACE, "-f", str(CHART / f"values-{profile}.yaml"))
    assert "0 chart(s) failed" in output


def test_the_linter_has_no_warning_of_values_that_only_a_user_knows() -> None:
    """Helm warns of each place where a chart asks for such a value by `required`."""
    done = subprocess.run(
        [require_tool("helm"), "lint", str(CHART), "--strict"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "WARN" not in done.stdout + done.stderr


def test_every_manifest_conforms_to_its_schema(helm: Helm, tmp_path: Path) -> None:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "manifests").mkdir()
    for name, (profile, values) in VARIANTS.items():
        (tmp_path / f"manifests/{name}.yaml").write_text(helm.text(profile, values))
        for key in jobs(helm.render(profile, values)):
            text = next(m for m in helm.render(profile, values) if m["metadata"]["name"] == "lt-jobs")["data"][key]
            (tmp_path / f"manifests/{name}-{key}").write_text(text)
    own = kubernetes_schemas.write(tmp_path / "schemas", KINDS)
    done = kubeconform(tmp_path / "manifests", own, f"{CUSTOM}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json")
    assert done.returncode == 0, done.stdout
    assert ", Invalid: 0, Errors: 0, Skipped: 0" in done.stdout


def test_an_unknown_field_is_reported(tmp_path: Path) -> None:
    (tmp_path / "schemas").mkdir()
    own = kubernetes_schemas.write(tmp_path / "schemas", {"service-v1"})
    manifest = tmp_path / "service.yaml"
    manifest.write_text("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIp: None}\n")
    done = kubeconform(manifest, own)
    assert done.returncode == 1
    assert "clusterIp" in done.stdout


def kubeconform(manifests: Path, *schemas: str) -> subprocess.CompletedProcess[str]:
    """kubeconform with local schemas only."""
    where = [word for schema in schemas for word in ("-schema-location", schema)]
    command = [str(require_tool("kubeconform")), "-strict", "-summary", *where, str(manifests)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
