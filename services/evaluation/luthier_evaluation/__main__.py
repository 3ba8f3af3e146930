"""python -m luthier_evaluation"""

import sys

from luthier_evaluation.service import build
from luthier_evaluation.settings import EvaluationSettings
from luthier_kit.rpc import main

if __name__ == "__main__":
    sys.exit(main(EvaluationSettings, build))
