"""An untrained tiny model, made in seconds: `python -m luthier_model.untrained FOLDER`.

Enough to see that an installation stores, registers, loads and generates before anybody has brought weights.
"""

import json
import sys
from pathlib import Path
from typing import Final

from luthier_model import tiny

PROMPTS: Final = ["calm piano in D minor at 90 BPM", "loud drums and bass, funk, 120 BPM"]


def write(folder: Path) -> None:
    """Writes `weights.safetensors`, `config.json` and `text_encoder/`; the same bytes each time."""
    folder.mkdir(parents=True, exist_ok=True)
    configuration = tiny.configuration()
    tiny.write_random(configuration, PROMPTS, folder, seed=1)
    (folder / "config.json").write_text(json.dumps(dict(configuration.document), indent=1))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
