"""KEDA scales on work waiting and in flight; an absent series does not count as no work where work may wait."""

from typing import Any

from tests.chart.rendering import Helm, Manifest, named
from tests.chart.variants import PROMETHEUS, SCALED, SWITCHES

RENDERING = "luthier.rendering.v1.RenderingService"


def triggers(manifests: list[Manifest], name: str) -> dict[str, dict[str, Any]]:
    return {t["name"]: t["metadata"] for t in named(manifests, "ScaledObject")[name]["spec"]["triggers"]}


def scaled(helm: Helm, service: str, **more: Any) -> list[Manifest]:
    scaling = {"autoscaling": {"enabled": True, **more}}
    return helm.render("try", {"services": {service: scaling}, "prometheus": PROMETHEUS})


def test_nothing_is_scaled_unless_asked_for(trying: list[Manifest]) -> None:
    assert not named(trying, "ScaledObject")


def test_a_scaled_deployment_has_no_number_of_replicas(helm: Helm) -> None:
    for enabled in (False, True):
        values = {
            "services": {"rendering": {"replicas": 3, "autoscaling": {"enabled": enabled}}},
            "prometheus": PROMETHEUS,
        }
        spec = named(helm.render("try", values), "Deployment")["rendering"]["spec"]
        assert spec.get("replicas") == (None if enabled else 3)


def test_a_number_that_is_not_set_is_left_to_kubectl_scale(trying: list[Manifest]) -> None:
    """With a number, Helm would reset it at the next upgrade or report a conflict."""
    assert not [name for name, deployment in named(trying, "Deployment").items() if "replicas" in deployment["spec"]]


def test_switching_autoscaling_off_does_not_leave_zero_pods(helm: Helm) -> None:
    spec = named(scaled(helm, "rendering"), "ScaledObject")["rendering"]["spec"]
    assert spec["advanced"]["restoreToOriginalReplicaCount"] is True


def test_nothing_scales_on_cpu(variant: list[Manifest]) -> None:
    for plain in named(variant, "HorizontalPodAutoscaler").values():
        assert {metric["type"] for metric in plain["spec"]["metrics"]} == {"External"}
    for scaled_object in named(variant, "ScaledObject").values():
        assert {trigger["type"] for trigger in scaled_object["spec"]["triggers"]} == {"prometheus"}


def test_rendering_scales_up_from_zero_on_waiting_work_of_the_pipeline(helm: Helm) -> None:
    manifests = scaled(helm, "rendering")
    assert named(manifests, "ScaledObject")["rendering"]["spec"]["minReplicaCount"] == 0
    waiting = triggers(manifests, "rendering")["waiting"]
    assert waiting["query"] == 'max(luthier_pipeline_work_waiting{stage="rendering",namespace="music"})'
    assert waiting["ignoreNullValues"] == "false"


def test_rendering_keeps_workers_while_they_work(helm: Helm) -> None:
    at_work = triggers(scaled(helm, "rendering"), "rendering")["at-work"]
    for series in ("luthier_work_in_flight", "luthier_work_waiting"):
        assert f'sum({series}{{service="{RENDERING}",namespace="music"}})' in at_work["query"]
    assert at_work["ignoreNullValues"] == "true", "at zero workers nothing exports this series"


def test_inference_keeps_one(helm: Helm) -> None:
    manifests = scaled(helm, "inference")
    assert named(manifests, "ScaledObject")["inference"]["spec"]["minReplicaCount"] == 1
    assert triggers(manifests, "inference")["at-work"]["ignoreNullValues"] == "false"


def test_the_language_model_scales_on_requests_that_wait(helm: Helm) -> None:
    manifests = helm.render("try", SWITCHES["scaled-vllm"])
    assert triggers(manifests, "vllm")["waiting"]["query"] == 'sum(vllm:num_requests_waiting{namespace="music"})'


def test_bounds_and_intervals_are_values(helm: Helm) -> None:
    intervals = {"maxReplicas": 3, "pollingSeconds": 5, "cooldownSeconds": 20, "scaleDownSeconds": 15}
    spec = named(scaled(helm, "rendering", **intervals), "ScaledObject")["rendering"]["spec"]
    assert (spec["maxReplicaCount"], spec["pollingInterval"], spec["cooldownPeriod"]) == (3, 5, 20)
    behaviour = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behaviour["scaleDown"]["stabilizationWindowSeconds"] == 15


def test_without_matchers_the_queries_are_still_promql(helm: Helm) -> None:
    values = {"services": {"rendering": SCALED}, "prometheus": {"address": "http://p:9090"}}
    waiting = triggers(helm.render("try", values), "rendering")["waiting"]["query"]
    assert waiting == 'max(luthier_pipeline_work_waiting{stage="rendering",})', "PromQL allows a comma at the end"
