"""`python -m luthier_training`: serves. Exit codes are those of `luthier_kit.rpc.main`."""

import sys

from luthier.training.v1 import training_pb2
from luthier_kit.rpc import Service, main
from luthier_kit.store import open_store
from luthier_training.launchers import LAUNCHERS
from luthier_training.scheduler import Scheduler
from luthier_training.service import TrainingServicer
from luthier_training.settings import TrainingSettings


def build(settings: TrainingSettings) -> Service:
    """The service over its store; the scheduler looks after runs while it serves."""
    store = open_store(settings)
    scheduler = Scheduler(store, LAUNCHERS[settings.launcher](settings))
    servicer = TrainingServicer(store, scheduler)
    return Service(
        contract=training_pb2.DESCRIPTOR.services_by_name["TrainingService"],
        servicer=servicer,
        light=[
            servicer.CreateTrainingRun,
            servicer.GetTrainingRun,
            servicer.ListTrainingRuns,
            servicer.CancelTrainingRun,
        ],
        watch=[servicer.WatchTrainingRun],
        prepare=scheduler.start,
        close=scheduler.close,
    )


if __name__ == "__main__":
    sys.exit(main(TrainingSettings, build))
