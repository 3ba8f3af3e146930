"""python -m luthier_evaluation"""

import sys

from luthier_evaluation.settings import EvaluationSettings
from luthier_kit.rpc import Service, main
from luthier_kit.store import open_store


def build(settings: EvaluationSettings) -> Service:
    """The service over the store that the settings name."""
    from luthier_evaluation.service import service  # seconds, for scipy and matplotlib: not before settings are right

    return service(open_store(settings), settings)


if __name__ == "__main__":
    sys.exit(main(EvaluationSettings, build))
