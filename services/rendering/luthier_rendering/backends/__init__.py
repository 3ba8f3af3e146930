"""What can play a performance. A new back end is one file here, one line in `BACKENDS` and one test."""

from collections.abc import Callable
from typing import Final

from luthier_rendering.backends import soundfont, vst3
from luthier_rendering.backends.base import Backend, BackendConfig

BACKENDS: Final[dict[str, Callable[[BackendConfig], Backend]]] = {
    "soundfont": soundfont.open_backend,
    "vst3": vst3.open_backend,
}
