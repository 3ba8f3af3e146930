"""What can play a performance. A new back end is one file here, one line in `BACKENDS` and one test."""

from collections.abc import Callable
from typing import Final

from luthier_rendering.backends import mapped, soundfont
from luthier_rendering.backends.base import Backend, BackendConfig

BACKENDS: Final[dict[str, Callable[[BackendConfig], Backend]]] = {
    soundfont.SOUNDFONT: soundfont.open_backend,
    mapped.MAP: mapped.open_backend,
}
OLDER_NAMES: Final = {"vst3": mapped.MAP}
"""Names that requests and settings may still use."""
