"""Starts the service: `python -m luthier_inference`."""

import os
import sys

from luthier_inference.settings import InferenceSettings
from luthier_kit.errors import LuthierError
from luthier_kit.settings import SettingsError, load


def main() -> None:
    """Serves until told to stop; exits with 2 when a setting is missing or wrong, or the store is not fit."""
    try:
        settings = load(InferenceSettings, os.environ)
        from luthier_inference.app import build  # torch takes seconds: a wrong setting is named before
        from luthier_kit.server import serve

        served = build(settings)
    except (SettingsError, LuthierError) as error:
        sys.stderr.write(f"cannot start:\n{error}\n")
        sys.exit(2)
    serve(served, settings)


if __name__ == "__main__":
    main()
