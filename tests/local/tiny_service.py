"""A gRPC server that only answers health, started as a service is: settings by environment, SIGTERM ends it.

A file `<scratch>/wrong` makes it refuse to start as wrong settings do; `<scratch>/slow` lets it stop slowly.
"""

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


def main() -> None:
    scratch = Path(os.environ["LUTHIER_SCRATCH"])
    print(
        "settings:",
        {key: value for key, value in os.environ.items() if key.startswith(("LUTHIER_", "DEVICE"))},
    )
    if (scratch / "wrong").exists():
        print("LUTHIER_SOUNDFONT: no such file: /nowhere.sf2")
        sys.exit(2)
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port(os.environ["LUTHIER_ADDRESS"])
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server.start()
    stop.wait()
    if (scratch / "slow").exists():
        time.sleep(1.5)
    print("stopped gracefully", flush=True)


main()
