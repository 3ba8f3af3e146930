"""`python -m luthier_rendering`: serve until SIGTERM."""

if __name__ == "__main__":  # worker processes import this file, too: they need nothing of what follows
    import sys

    from luthier_kit.rpc import main
    from luthier_rendering.service import build
    from luthier_rendering.settings import RenderingSettings

    sys.exit(main(RenderingSettings, build))
