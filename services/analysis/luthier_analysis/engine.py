"""essentia, imported once and quiet. Its algorithms hold the GIL: they run in child processes (`workers.py`)."""

import essentia

essentia.log.infoActive = False
essentia.log.warningActive = False

import essentia.standard as algorithms  # noqa: E402  (the import itself logs)

VERSION = f"essentia-{essentia.__version__}"

__all__ = ["VERSION", "algorithms"]
