"""`python -m luthier_rendering`: serve until SIGTERM."""

import os
import sys


def main() -> None:
    """Exit 2 when a setting is missing or wrong. Imports stand inside: worker processes import this file, too."""
    from luthier_kit.errors import LuthierError
    from luthier_kit.server import serve
    from luthier_kit.settings import SettingsError, load
    from luthier_rendering.backends.base import BackendError
    from luthier_rendering.service import build
    from luthier_rendering.settings import RenderingSettings

    try:
        settings = load(RenderingSettings, os.environ)
        service = build(settings)
    except (SettingsError, BackendError, LuthierError, OSError) as error:
        print(f"cannot start: {error}", file=sys.stderr)
        sys.exit(2)
    serve(service, settings)


if __name__ == "__main__":
    main()
