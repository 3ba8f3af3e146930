"""Which autoencoders a report of fidelity compares. Free of torch: the service asks before it queues a run."""

import contextlib

from luthier.training.v1.training_pb2 import MeasureFidelity
from luthier_kit.registry import ModelVersion, resolve
from luthier_kit.rpc import InvalidRequest, NotFound
from luthier_kit.store import Store
from luthier_model.registered import fetch_configuration, statuses

AUTOENCODER_TRAINED = "trained"
"""Note of a version whose autoencoder was trained here: `decoder` or `autoencoder`."""


def compared(store: Store, asked: MeasureFidelity) -> list[ModelVersion]:
    """The model and, where there is one, that beside it. InvalidRequest when they are of different sound."""
    versions = [resolve(store, asked.model)]
    if asked.baseline:
        versions.append(resolve(store, asked.baseline))
    elif AUTOENCODER_TRAINED in versions[0].notes:
        with contextlib.suppress(NotFound):  # taken away since
            versions.append(resolve(store, versions[0].notes["base"]))
    forms = []
    for version in versions:
        with statuses(version):
            known = fetch_configuration(store, version.configuration)
        forms.append((known.sample_rate_hz, known.channels))
    if len(set(forms)) > 1:
        told = " and ".join(f"{rate} Hz with {channels} channels" for rate, channels in forms)
        bound = f"must have the sample rate and the channels of the model: {told}"
        raise InvalidRequest(violations=[("fidelity.baseline", bound)])
    return versions
