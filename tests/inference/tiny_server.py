"""The inference service as a program of its own, with the tiny model in its store: for tests of other projects.

`python -m tests.inference.tiny_server`, by the environment of inference, with settings as the service's.
"""

import sys
import tempfile
from pathlib import Path

from luthier_inference.__main__ import build
from luthier_inference.settings import InferenceSettings
from luthier_kit.registry import register
from luthier_kit.rpc import Service, main
from luthier_kit.store import open_store
from tests.inference.conftest import version_of
from tests.model.small import small_model


def with_tiny(settings: InferenceSettings) -> Service:
    """The service, once `tiny` is registered."""
    store = open_store(settings)
    with tempfile.TemporaryDirectory(dir=settings.scratch) as folder:
        if "tiny" not in store.names("models/"):
            register(store, version_of(store, small_model(Path(folder)), "tiny"))
    return build(settings)


if __name__ == "__main__":
    sys.exit(main(InferenceSettings, with_tiny))
