"""Starts the service: `python -m luthier_analysis`."""

from luthier_kit.rpc import LuthierError, SettingsError, load
import os
import sys

from luthier_analysis.settings import AnalysisSettings


def main() -> None:
    """Serve until told to stop; exit 2 when a setting is missing or wrong, or the store is not fit."""
    from luthier_analysis.service import service
    from luthier_kit.server import serve

    try:
        settings = load(AnalysisSettings, os.environ)
        served = service(settings)
    except (SettingsError, LuthierError) as error:
        sys.stderr.write(f"cannot start:\n{error}\n")
        sys.exit(2)
    serve(served, settings)


if __name__ == "__main__":
    main()
