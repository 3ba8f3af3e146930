"""Writes the songbook: `python -m luthier_pipeline.songbook FOLDER`."""

import sys
from pathlib import Path

from luthier_pipeline.songbook import compose

if __name__ == "__main__":
    compose(Path(sys.argv[1]))
