"""Whether an autoencoder's crops fit the model. Free of torch: the service asks before it queues a run."""

from luthier.training.v1.training_pb2 import TrainAutoencoder
from luthier_kit.registry import ModelVersion
from luthier_kit.rpc import InvalidRequest
from luthier_kit.store import Store
from luthier_model.configuration import Configuration
from luthier_model.registered import fetch_configuration, statuses


def check_window(store: Store, base: ModelVersion, asked: TrainAutoencoder) -> Configuration:
    """The base's configuration. InvalidRequest unless a crop is whole latents of it."""
    with statuses(base):
        known = fetch_configuration(store, base.configuration)
    if asked.window_samples % known.downsampling_ratio:
        bound = f"must be a multiple of the {known.downsampling_ratio} samples of a latent, got {asked.window_samples}"
        raise InvalidRequest(violations=[("autoencoder.window_samples", bound)])
    return known
