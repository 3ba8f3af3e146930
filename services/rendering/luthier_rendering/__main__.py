"""`python -m luthier_rendering`: serve until SIGTERM."""

import logging
import os
import sys

from luthier.rendering.v1.rendering_pb2_grpc import add_RenderingServiceServicer_to_server
from luthier_kit.artifacts import open_artifacts
from luthier_kit.errors import LuthierError
from luthier_kit.server import Service, serve
from luthier_kit.settings import SettingsError, load
from luthier_rendering.backends import BACKENDS
from luthier_rendering.backends.base import BackendError
from luthier_rendering.engine import Engine
from luthier_rendering.pool import RenderPool
from luthier_rendering.service import RenderingServicer
from luthier_rendering.settings import RenderingSettings


def build(settings: RenderingSettings) -> Service:
    """The service as its settings say. SettingsError, BackendError, LuthierError (the store) or OSError otherwise."""
    config = settings.backends
    for fault in BACKENDS[settings.backend](config).faults():
        logging.getLogger(__name__).warning(fault)
    pool = RenderPool(
        config,
        workers=settings.slots,
        deadline_s=settings.render_timeout_s,
        songs_per_worker=settings.songs_per_worker,
        limits=settings.limits,
    )
    engine = Engine(open_artifacts(settings), pool, config, settings.limits, settings.scratch)
    servicer = RenderingServicer(engine, settings.backend)
    return Service(
        domain="rendering",
        name="luthier.rendering.v1.RenderingService",
        register=lambda server: add_RenderingServiceServicer_to_server(servicer, server),  # type: ignore[no-untyped-call]
        light={"InspectMidi", "ListInstruments"},
        close=pool.close,
    )


def main() -> None:
    try:
        settings = load(RenderingSettings, os.environ)
        service = build(settings)
    except (SettingsError, BackendError, LuthierError, OSError) as error:
        print(f"cannot start: {error}", file=sys.stderr)
        sys.exit(2)
    serve(service, settings)


if __name__ == "__main__":
    main()
