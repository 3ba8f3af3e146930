"""Starts the service: `python -m luthier_inference`."""

import sys

from luthier_inference.settings import InferenceSettings
from luthier_kit.rpc import Service, main
from luthier_kit.store import open_store


def build(settings: InferenceSettings) -> Service:
    """The service as its settings say."""
    from luthier_inference.app import build_service  # torch takes seconds: a wrong setting is named before

    return build_service(settings, open_store(settings))


if __name__ == "__main__":
    sys.exit(main(InferenceSettings, build))
