"""essentia, imported once and quiet.

Its algorithms hold the GIL for seconds: they run in worker processes only.
"""

import essentia

essentia.log.infoActive = False
essentia.log.warningActive = False

import essentia.standard as algorithms  # noqa: E402  (the import itself logs)

__all__ = ["algorithms"]
