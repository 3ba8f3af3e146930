"""`python -m luthier_training`: serves."""

import os
import sys

import grpc

from luthier.training.v1.training_pb2_grpc import add_TrainingServiceServicer_to_server
from luthier_kit.artifacts import open_artifacts
from luthier_kit.errors import LuthierError
from luthier_kit.server import Service, serve
from luthier_kit.settings import SettingsError, load
from luthier_training.launchers import LAUNCHERS
from luthier_training.scheduler import Scheduler
from luthier_training.service import TrainingServicer
from luthier_training.settings import TrainingSettings, check_device

METHODS = {"GetTrainingRun", "ListTrainingRuns", "CancelTrainingRun", "CreateTrainingRun"}


def service(settings: TrainingSettings) -> Service:
    """The service over its store; the scheduler looks after runs while it serves."""
    store = open_artifacts(settings)
    scheduler = Scheduler(store, LAUNCHERS[settings.launcher](settings))
    servicer = TrainingServicer(store, scheduler)

    def register(server: grpc.Server) -> None:
        add_TrainingServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]

    name = "luthier.training.v1.TrainingService"
    return Service(
        "training",
        name,
        register,
        light=METHODS,
        watch={"WatchTrainingRun"},
        prepare=scheduler.start,
        close=scheduler.close,
    )


def main() -> None:
    """Exits with 2 when the settings cannot work."""
    try:
        settings = load(TrainingSettings, os.environ)
        if settings.launcher == "local":  # a Job's Pods look for their own
            check_device(settings.device)
        serve(service(settings), settings)
    except (SettingsError, LuthierError) as e:
        sys.stderr.write(f"{e}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
