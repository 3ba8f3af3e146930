"""The three dashboards, as tables of panels. Writes them where the chart takes them from, or into another folder:

python3 deploy/grafana/dashboards.py [FOLDER]
"""

import json
import sys
from pathlib import Path

from panels import Dashboard, Panel, Query

CHART = Path(__file__).parents[2] / "charts/luthier/files/dashboards"

HERE = 'namespace=~"$namespace"'
OURS = f'job=~"luthier-.+", {HERE}'
RENDERING = 'service="luthier.rendering.v1.RenderingService"'
INFERENCE = 'service="luthier.inference.v1.InferenceService"'
CALLS = "rpc_server_duration_seconds"
GENERATE = f'rpc_service="luthier.inference.v1.InferenceService", rpc_method=~"Generate|StreamGenerate", {HERE}'
COLLECTION = f'collection=~"$collection", {HERE}'


def rate(series: str) -> str:
    """Per second, over the window that suits the zoom."""
    return f"rate({series}[$__rate_interval])"


def quantile(share: float, series: str, *labels: str) -> str:
    """A percentile of a histogram's buckets."""
    return f"histogram_quantile({share}, sum by ({', '.join((*labels, 'le'))}) ({rate(series)}))"


def by_service(gauge: str) -> str:
    """All Pods of a service together."""
    return f"sum by (service) ({gauge}{{{HERE}}})"


def by_status(match: str) -> str:
    """Calls per second by the status that they ended with."""
    return f"sum by (rpc_grpc_status_code) ({rate(f'{CALLS}_count{{{match}}}')})"


def busy(which: str) -> tuple[Query, ...]:
    """In flight, waiting and slots of one service."""
    names = {"in flight": "luthier_work_in_flight", "waiting": "luthier_work_waiting", "slots": "luthier_work_slots"}
    return tuple(Query(f"sum({name}{{{which}, {HERE}}}) or vector(0)", legend) for legend, name in names.items())


def finished(part: str, method: str) -> str:
    """Buckets or count of the calls of a method that ended well."""
    return f'{CALLS}_{part}{{rpc_method="{method}", rpc_grpc_status_code="OK", {HERE}}}'


def failing(match: str, *labels: str) -> str:
    """Share of calls that ended badly; 0 where calls came and none did."""
    by = f"sum by ({', '.join(labels)}) " if labels else "sum "
    bad = 'rpc_grpc_status_code=~"INTERNAL|DATA_LOSS|UNAVAILABLE"'
    every = f"{by}({rate(f'{CALLS}_count{{{match}}}')})"
    return f"({by}({rate(f'{CALLS}_count{{{bad}, {match}}}')}) or 0 * {every}) / {every}"


PLATFORM = Dashboard(
    "luthier-platform",
    "Luthier: platform",
    "Calls, errors, latency, queues and processes of every service.",
    (
        Panel("Pods that answer", "short", (
            Query(f"sum by (job) (up{{{OURS}}})", "{{job}}"),
        ), "Reached by Prometheus."),
        Panel("Restarts in the last hour", "short", (
            Query(f"sum by (job) (changes(process_start_time_seconds{{{OURS}}}[1h]))", "{{job}}"),
        ), "Of containers whose Pod stayed; new Pods are not counted."),
        Panel("Calls", "reqps", (
            Query(f"sum by (rpc_service) ({rate(f'{CALLS}_count{{{HERE}}}')})", "{{rpc_service}}"),
        ), stacked=True),
        Panel("Calls by status", "reqps", (
            Query(by_status(HERE), "{{rpc_grpc_status_code}}"),
        ), "UNAVAILABLE holds the calls that a full queue refused.", stacked=True),
        Panel("Calls that fail", "percentunit", (Query(failing(HERE, "rpc_service"), "{{rpc_service}}"),),
              "INTERNAL, DATA_LOSS and UNAVAILABLE (a full queue included) of all calls."),
        Panel("Refused: queue full", "reqps", (
            Query(f"sum by (service) ({rate(f'luthier_work_refused_total{{{HERE}}}')})", "{{service}}"),
        ), "Callers come back after the hint that they got."),
        Panel("Refused: a caller's limit", "reqps", (
            Query(
                f"sum by (service) ({rate(f'luthier_calls_refused_by_caller_limit_total{{{HERE}}}')})", "{{service}}"
            ),
        ), "auth.callerInFlight; the log lines of the calls name the caller."),
        Panel("Latency, 95th percentile", "s", (
            Query(quantile(0.95, f"{CALLS}_bucket{{{HERE}}}", "rpc_service", "rpc_method"), "{{rpc_method}}"),
        ), "The server's side, waiting for a slot included. Watch… lasts as long as what it watches."),
        Panel("Latency, median", "s", (
            Query(quantile(0.5, f"{CALLS}_bucket{{{HERE}}}", "rpc_service", "rpc_method"), "{{rpc_method}}"),
        )),
        Panel("In flight", "short", (
            Query(by_service("luthier_work_in_flight"), "{{service}}"),
        ), "Calls of work that hold a slot.", stacked=True),
        Panel("Waiting for a slot", "short", (
            Query(by_service("luthier_work_waiting"), "{{service}}"),
        ), "At most one for each slot; beyond that calls are refused.", stacked=True),
        Panel("Slots in use", "percentunit", (
            Query(f"{by_service('luthier_work_in_flight')} / {by_service('luthier_work_slots')}", "{{service}}"),
        )),
        Panel("Slots", "short", (Query(by_service("luthier_work_slots"), "{{service}}"),),
              "What all Pods of a service can do at once."),
        Panel("Memory", "bytes", (
            Query(f"process_resident_memory_bytes{{{OURS}}}", "{{job}} {{instance}}"),
        ), "Resident, of the serving process; workers that it starts are not in it."),
        Panel("CPU", "short", (
            Query(rate(f"process_cpu_seconds_total{{{OURS}}}"), "{{job}} {{instance}}"),
        ), "Cores, of the serving process; workers that it starts are not in it."),
    ),
)  # fmt: skip

PIPELINE = Dashboard(
    "luthier-pipeline",
    "Luthier: pipeline and scale",
    "How far the corpora are, what waits for render workers, and what the workers do.",
    (
        Panel("Songs by state", "short", (
            Query(f"sum by (collection, state) (luthier_pipeline_songs{{{COLLECTION}}})", "{{collection}} {{state}}"),
        ), "What the pipeline's Pods have published in the store.", stacked=True),
        Panel("Songs done", "short", (
            Query(
                "60 * sum by (collection) (clamp_min("
                f'deriv(luthier_pipeline_songs{{{COLLECTION}, state="done"}}[10m]), 0))',
                "{{collection}}",
            ),
        ), "Per minute, over ten minutes."),
        Panel("Time to go", "s", (
            Query(
                f"max by (collection) (luthier_pipeline_run_eta_seconds{{{COLLECTION}}})"
                f" or 0 * sum by (collection) (luthier_pipeline_songs{{{COLLECTION}}})",
                "{{collection}}",
            ),
        ), "Of the slowest shard; 0 where nothing runs."),
        Panel("Clips", "short", (
            Query(f"sum by (collection) (luthier_pipeline_clips{{{COLLECTION}}})", "{{collection}}"),
        ), "Made by runs of which something was heard within the hour."),
        Panel("Work waiting for render workers", "short", (
            Query(f'sum(luthier_pipeline_work_waiting{{stage="rendering", {HERE}}})', "songs"),
        ), "What KEDA scales render workers on. No line: the monitor cannot read the store."),
        Panel("Render workers", "short", (
            Query(f"count(luthier_work_slots{{{RENDERING}, {HERE}}}) or vector(0)", "workers"),
        ), "Pods that answer with slots for rendering."),
        Panel("Rendering: in flight, waiting, slots", "short", busy(RENDERING)),
        Panel("Rendering: seconds a song", "s", tuple(
            Query(f"histogram_quantile({share}, sum by (le) (rate({finished('bucket', 'RenderSong')}[30m])))", legend)
            for share, legend in ((0.5, "median"), (0.95, "95th percentile"))
        ), "Of the last half hour, so that it outlives workers that were scaled in."),
        Panel("Songs rendered, cut and upserted", "short", tuple(
            Query(f"60 * sum({rate(finished('count', method))}) or vector(0)", method)
            for method in ("RenderSong", "CutClips", "UpsertClips")
        ), "Calls per minute that ended well."),
        Panel("Shards by state", "short", (
            Query(f"sum by (collection, state) (luthier_pipeline_shards{{{COLLECTION}}})", "{{collection}} {{state}}"),
        ), "Indexes of the pipeline's Job. Silent: a Pod that has said nothing for a minute.", stacked=True),
        Panel("Songs that failed", "short", (
            Query(f'sum by (collection) (luthier_pipeline_songs{{{COLLECTION}, state="failed"}})', "{{collection}}"),
        ), "`luthier status` names them with their reasons."),
        Panel("Refused by rendering", "reqps", (
            Query(f"sum({rate(f'luthier_work_refused_total{{{RENDERING}, {HERE}}}')}) or vector(0)", "refused"),
        )),
    ),
    (("collection", "Collection", "label_values(luthier_pipeline_songs, collection)"),),
)  # fmt: skip

GENERATION = Dashboard(
    "luthier-inference",
    "Luthier: inference",
    "What callers of Generate get, and what the models do.",
    (
        Panel("Generate: seconds a call", "s", (
            Query(f"sum by (le) (increase({CALLS}_bucket{{{GENERATE}}}[$__rate_interval]))"),
        ), "Every cell is a number of calls; waiting for a slot included.", kind="heatmap"),
        Panel("Generate: percentiles of calls that ended well", "s", tuple(
            Query(quantile(share, f'{CALLS}_bucket{{rpc_grpc_status_code="OK", {GENERATE}}}'), legend)
            for share, legend in ((0.5, "median"), (0.95, "95th percentile"), (0.99, "99th percentile"))
        )),
        Panel("Generate by status", "reqps", (
            Query(by_status(GENERATE), "{{rpc_grpc_status_code}}"),
        ), stacked=True),
        Panel("Generate that fails", "percentunit", (Query(failing(GENERATE), "share"),),
              "INTERNAL, DATA_LOSS and UNAVAILABLE (a full queue included) of all calls."),
        Panel("In flight, waiting, slots", "short", busy(INFERENCE)),
        Panel("Refused: queue full", "reqps", (
            Query(f"sum({rate(f'luthier_work_refused_total{{{INFERENCE}, {HERE}}}')}) or vector(0)", "refused"),
        )),
        Panel("Audio generated", "short", (
            Query(f"sum by (model) ({rate(f'luthier_inference_audio_seconds_total{{{HERE}}}')})", "{{model}}"),
        ), "Seconds of audio in a second: 1 is real time."),
        Panel("Seconds a denoising step", "s", tuple(
            Query(quantile(share, f"luthier_inference_step_seconds_bucket{{{HERE}}}", "model"), "{{model}} " + legend)
            for share, legend in ((0.5, "median"), (0.95, "95th percentile"))
        )),
        Panel("Denoising steps", "ops", (
            Query(f"sum by (model) ({rate(f'luthier_inference_steps_total{{{HERE}}}')})", "{{model}}"),
        )),
        Panel("Models in memory", "short", (
            Query(f"luthier_inference_models_loaded{{{HERE}}}", "{{instance}}"),
        )),
        Panel("Reused and cancelled", "reqps", (
            Query(f"sum({rate(f'luthier_inference_reused_total{{{HERE}}}')})", "answered from an earlier generation"),
            Query(f"sum({rate(f'luthier_inference_cancelled_total{{{HERE}}}')})", "caller went away"),
        )),
        Panel("Memory", "bytes", (
            Query(f'process_resident_memory_bytes{{job="luthier-inference", {HERE}}}', "{{instance}}"),
        ), "Resident memory of the host; a device's own is not in it."),
    ),
)  # fmt: skip


def main(folder: Path) -> None:
    """Writes each dashboard as `<uid>.json`."""
    for dashboard in (PLATFORM, PIPELINE, GENERATION):
        text = json.dumps(dashboard.document(), indent=2, ensure_ascii=False)
        (folder / f"{dashboard.uid}.json").write_text(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else CHART)
