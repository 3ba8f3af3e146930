"""What a run can do. A new recipe is a module, a field of the request's `recipe` and a line here."""

from collections.abc import Callable

from luthier.training.v1.training_pb2 import TrainingResult
from luthier_kit.registry import ModelVersion
from luthier_training.job import Job
from luthier_training.recipes import autoencoder, fidelity, fine_tune, tiny_base

RECIPES: dict[str, Callable[[Job], ModelVersion]] = {
    "fine_tune": fine_tune.run,
    "tiny_base": tiny_base.run,
    "autoencoder": autoencoder.run,
}
"""Recipe -> what makes the version that is then registered."""
MEASUREMENTS: dict[str, Callable[[Job], TrainingResult]] = {"fidelity": fidelity.run}
"""Recipe -> what makes the result of a run that registers nothing."""
