"""monitor: serves what live runs publish as Prometheus metrics, until it is stopped."""

import threading

from luthier_kit.artifacts import open_artifacts
from luthier_kit.settings import StoreSettings, load
from luthier_pipeline.commands.context import Context, UsageError
from luthier_pipeline.monitor import Monitor, MonitorSettings, serve


def monitor(context: Context) -> None:
    """Serves `/metrics` and `/healthz`. The store may be down when it starts; settings that are wrong stop it."""
    environ = context.place.store_environ
    settings, store = load(MonitorSettings, context.place.environ), load(StoreSettings, environ)
    watched, stop = Monitor(lambda: open_artifacts(store, prove=False), settings), threading.Event()
    follower = threading.Thread(target=watched.follow, args=(stop,), name="monitor", daemon=True)
    try:
        server = serve(settings.metrics_address, watched, follower)
    except (OSError, ValueError) as error:
        raise UsageError(f"LUTHIER_METRICS_ADDRESS {settings.metrics_address!r} cannot be served: {error}") from None
    follower.start()
    context.say(f"/metrics and /healthz on port {server.server_port}; reads every {settings.every_s:g} s")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        stop.set()  # stopping a server is no failure
