"""The three Grafana dashboards, as tables of panels. Writes their JSON into the chart, or into FOLDER:

python3 deploy/grafana/dashboards.py [FOLDER]
"""

import sys
from pathlib import Path

from panels import Dashboard, Panel, Query, Variable

CHART = Path(__file__).parents[2] / "charts/luthier/files/dashboards"

SCOPE = 'namespace=~"$namespace"'  # the namespaces chosen in the dashboard
TARGETS = f'job=~"luthier-.+", {SCOPE}'
RENDERING = 'service="luthier.rendering.v1.RenderingService"'
INFERENCE = 'service="luthier.inference.v1.InferenceService"'
CALLS = "rpc_server_duration_seconds"
GENERATE = f'rpc_service="luthier.inference.v1.InferenceService", rpc_method=~"Generate|StreamGenerate", {SCOPE}'
COLLECTION = f'collection=~"$collection", {SCOPE}'


def rate(series: str) -> str:
    """Per second, over Grafana's window for the zoom."""
    return f"rate({series}[$__rate_interval])"


def quantile(share: float, series: str, *labels: str) -> str:
    """The quantile `share` (0 to 1) of a histogram's buckets."""
    return f"histogram_quantile({share}, sum by ({', '.join((*labels, 'le'))}) ({rate(series)}))"


def by_service(gauge: str) -> str:
    """Sum of a gauge over all Pods of a service."""
    return f"sum by (service) ({gauge}{{{SCOPE}}})"


def by_status(match: str) -> str:
    """Calls per second by gRPC status."""
    return f"sum by (rpc_grpc_status_code) ({rate(f'{CALLS}_count{{{match}}}')})"


def work_queries(which: str) -> tuple[Query, ...]:
    """Calls in flight, calls that wait, and slots of one service."""
    names = {"in flight": "luthier_work_in_flight", "waiting": "luthier_work_waiting", "slots": "luthier_work_slots"}
    return tuple(Query(f"sum({name}{{{which}, {SCOPE}}}) or vector(0)", legend) for legend, name in names.items())


def finished(part: str, method: str) -> str:
    """`part` (bucket or count) of the successful calls of a method."""
    return f'{CALLS}_{part}{{rpc_method="{method}", rpc_grpc_status_code="OK", {SCOPE}}}'


def error_share(match: str, *labels: str) -> str:
    """Share of calls that ended with INTERNAL, DATA_LOSS or UNAVAILABLE; 0 where all calls succeeded."""
    by = f"sum by ({', '.join(labels)}) " if labels else "sum "
    errors = 'rpc_grpc_status_code=~"INTERNAL|DATA_LOSS|UNAVAILABLE"'
    calls = f"{by}({rate(f'{CALLS}_count{{{match}}}')})"
    return f"({by}({rate(f'{CALLS}_count{{{errors}, {match}}}')}) or 0 * {calls}) / {calls}"


PLATFORM = Dashboard(
    "luthier-platform",
    "Luthier: platform",
    "Calls, errors, latency, queues and processes of every service.",
    (
        Panel("Pods that answer", "short", (
            Query(f"sum by (job) (up{{{TARGETS}}})", "{{job}}"),
        ), "Reached by Prometheus."),
        Panel("Restarts in the last hour", "short", (
            Query(f"sum by (job) (changes(process_start_time_seconds{{{TARGETS}}}[1h]))", "{{job}}"),
        ), "Of containers whose Pod stayed; new Pods are not counted."),
        Panel("Calls", "reqps", (
            Query(f"sum by (rpc_service) ({rate(f'{CALLS}_count{{{SCOPE}}}')})", "{{rpc_service}}"),
        ), stacked=True),
        Panel("Calls by status", "reqps", (
            Query(by_status(SCOPE), "{{rpc_grpc_status_code}}"),
        ), "UNAVAILABLE holds the calls that a full queue refused.", stacked=True),
        Panel("Calls that fail", "percentunit", (Query(error_share(SCOPE, "rpc_service"), "{{rpc_service}}"),),
              "INTERNAL, DATA_LOSS and UNAVAILABLE (a full queue included) of all calls."),
        Panel("Refused: queue full", "reqps", (
            Query(f"sum by (service) ({rate(f'luthier_work_refused_total{{{SCOPE}}}')})", "{{service}}"),
        ), "Callers retry after the delay that the answer names."),
        Panel("Refused: a caller's limit", "reqps", (
            Query(
                f"sum by (service) ({rate(f'luthier_calls_refused_by_caller_limit_total{{{SCOPE}}}')})", "{{service}}"
            ),
        ), "By the limit auth.callerInFlight; the log lines of the calls name the caller."),
        Panel("Latency, 95th percentile", "s", (
            Query(quantile(0.95, f"{CALLS}_bucket{{{SCOPE}}}", "rpc_service", "rpc_method"), "{{rpc_method}}"),
        ), "On the server, waiting for a slot included. Watch… methods last as long as the run that they watch."),
        Panel("Latency, median", "s", (
            Query(quantile(0.5, f"{CALLS}_bucket{{{SCOPE}}}", "rpc_service", "rpc_method"), "{{rpc_method}}"),
        )),
        Panel("In flight", "short", (
            Query(by_service("luthier_work_in_flight"), "{{service}}"),
        ), "Calls that hold a slot.", stacked=True),
        Panel("Waiting for a slot", "short", (
            Query(by_service("luthier_work_waiting"), "{{service}}"),
        ), "At most one for each slot; beyond that calls are refused.", stacked=True),
        Panel("Slots in use", "percentunit", (
            Query(f"{by_service('luthier_work_in_flight')} / {by_service('luthier_work_slots')}", "{{service}}"),
        )),
        Panel("Slots", "short", (Query(by_service("luthier_work_slots"), "{{service}}"),),
              "Calls that all Pods of a service can process at once."),
        Panel("Memory", "bytes", (
            Query(f"process_resident_memory_bytes{{{TARGETS}}}", "{{job}} {{instance}}"),
        ), "Resident memory of the serving process, without its worker processes."),
        Panel("CPU", "short", (
            Query(rate(f"process_cpu_seconds_total{{{TARGETS}}}"), "{{job}} {{instance}}"),
        ), "Cores used by the serving process, without its worker processes."),
    ),
)  # fmt: skip

PIPELINE = Dashboard(
    "luthier-pipeline",
    "Luthier: pipeline and scale",
    "Progress of the corpora, work that waits for render workers, and load of the workers.",
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
        Panel("Time left", "s", (
            Query(
                f"max by (collection) (luthier_pipeline_run_eta_seconds{{{COLLECTION}}})"
                f" or 0 * sum by (collection) (luthier_pipeline_songs{{{COLLECTION}}})",
                "{{collection}}",
            ),
        ), "Of the slowest shard; 0 where nothing runs."),
        Panel("Clips", "short", (
            Query(f"sum by (collection) (luthier_pipeline_clips{{{COLLECTION}}})", "{{collection}}"),
        ), "Made by runs that reported within the last hour."),
        Panel("Work waiting for render workers", "short", (
            Query(f'sum(luthier_pipeline_work_waiting{{stage="rendering", {SCOPE}}})', "songs"),
        ), "What KEDA scales render workers on. No line: the monitor cannot read the store."),
        Panel("Render workers", "short", (
            Query(f"count(luthier_work_slots{{{RENDERING}, {SCOPE}}}) or vector(0)", "workers"),
        ), "Pods that answer with slots for rendering."),
        Panel("Rendering: in flight, waiting, slots", "short", work_queries(RENDERING)),
        Panel("Rendering: seconds a song", "s", tuple(
            Query(f"histogram_quantile({share}, sum by (le) (rate({finished('bucket', 'RenderSong')}[30m])))", legend)
            for share, legend in ((0.5, "median"), (0.95, "95th percentile"))
        ), "Over the last half hour, so that workers which were removed meanwhile count too."),
        Panel("Songs rendered, cut and upserted", "short", tuple(
            Query(f"60 * sum({rate(finished('count', method))}) or vector(0)", method)
            for method in ("RenderSong", "CutClips", "UpsertClips")
        ), "Successful calls per minute."),
        Panel("Shards by state", "short", (
            Query(f"sum by (collection, state) (luthier_pipeline_shards{{{COLLECTION}}})", "{{collection}} {{state}}"),
        ), "Indexes of the pipeline's Job. Silent: the Pod has not reported for a minute.", stacked=True),
        Panel("Songs that failed", "short", (
            Query(f'sum by (collection) (luthier_pipeline_songs{{{COLLECTION}, state="failed"}})', "{{collection}}"),
        ), "`luthier status` names them with their reasons."),
        Panel("Refused by rendering", "reqps", (
            Query(f"sum({rate(f'luthier_work_refused_total{{{RENDERING}, {SCOPE}}}')}) or vector(0)", "refused"),
        )),
    ),
    (Variable("collection", "Collection", "label_values(luthier_pipeline_songs, collection)"),),
)  # fmt: skip

GENERATION = Dashboard(
    "luthier-inference",
    "Luthier: inference",
    "Latency and errors of Generate, and work of the models.",
    (
        Panel("Generate: seconds a call", "s", (
            Query(f"sum by (le) (increase({CALLS}_bucket{{{GENERATE}}}[$__rate_interval]))"),
        ), "Each cell is a number of calls; waiting for a slot included.", heatmap=True),
        Panel("Generate: percentiles of successful calls", "s", tuple(
            Query(quantile(share, f'{CALLS}_bucket{{rpc_grpc_status_code="OK", {GENERATE}}}'), legend)
            for share, legend in ((0.5, "median"), (0.95, "95th percentile"), (0.99, "99th percentile"))
        )),
        Panel("Generate by status", "reqps", (
            Query(by_status(GENERATE), "{{rpc_grpc_status_code}}"),
        ), stacked=True),
        Panel("Generate that fails", "percentunit", (Query(error_share(GENERATE), "share"),),
              "INTERNAL, DATA_LOSS and UNAVAILABLE (a full queue included) of all calls."),
        Panel("In flight, waiting, slots", "short", work_queries(INFERENCE)),
        Panel("Refused: queue full", "reqps", (
            Query(f"sum({rate(f'luthier_work_refused_total{{{INFERENCE}, {SCOPE}}}')}) or vector(0)", "refused"),
        )),
        Panel("Audio generated", "short", (
            Query(f"sum by (model) ({rate(f'luthier_inference_audio_seconds_total{{{SCOPE}}}')})", "{{model}}"),
        ), "Seconds of audio in a second: 1 is real time."),
        Panel("Seconds a denoising step", "s", tuple(
            Query(quantile(share, f"luthier_inference_step_seconds_bucket{{{SCOPE}}}", "model"), "{{model}} " + legend)
            for share, legend in ((0.5, "median"), (0.95, "95th percentile"))
        )),
        Panel("Denoising steps", "ops", (
            Query(f"sum by (model) ({rate(f'luthier_inference_steps_total{{{SCOPE}}}')})", "{{model}}"),
        )),
        Panel("Models in memory", "short", (
            Query(f"luthier_inference_models_loaded{{{SCOPE}}}", "{{instance}}"),
        )),
        Panel("Reused and cancelled", "reqps", (
            Query(f"sum({rate(f'luthier_inference_reused_total{{{SCOPE}}}')})", "answered from an earlier generation"),
            Query(f"sum({rate(f'luthier_inference_cancelled_total{{{SCOPE}}}')})", "cancelled by the caller"),
        )),
        Panel("Memory", "bytes", (
            Query(f'process_resident_memory_bytes{{job="luthier-inference", {SCOPE}}}', "{{instance}}"),
        ), "Resident memory on the host, without the GPU's."),
    ),
)  # fmt: skip


def main(folder: Path) -> None:
    """Writes each dashboard as `<uid>.json`."""
    for dashboard in (PLATFORM, PIPELINE, GENERATION):
        (folder / f"{dashboard.uid}.json").write_text(dashboard.to_json())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else CHART)
