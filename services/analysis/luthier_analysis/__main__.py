"""`python -m luthier_analysis`: serve until SIGTERM."""

if __name__ == "__main__":  # worker processes import this file, too: they need nothing of what follows
    import sys

    from luthier_analysis.service import build
    from luthier_analysis.settings import AnalysisSettings
    from luthier_kit.rpc import main

    sys.exit(main(AnalysisSettings, build))
