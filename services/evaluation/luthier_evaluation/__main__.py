"""python -m luthier_evaluation"""

import sys

from luthier_evaluation.service import service
from luthier_evaluation.settings import EvaluationSettings
from luthier_kit.artifacts import open_artifacts
from luthier_kit.errors import LuthierError
from luthier_kit.server import serve
from luthier_kit.settings import SettingsError, load

if __name__ == "__main__":
    try:
        settings = load(EvaluationSettings)
        store = open_artifacts(settings)
    except (SettingsError, LuthierError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    serve(service(store, settings), settings)
