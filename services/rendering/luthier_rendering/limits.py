"""How much music one file may hold, and how a file beyond it is refused.

The bounds are checked while the bytes are walked, before notes become arrays and long before audio is allocated.
"""

from dataclasses import asdict, dataclass
from typing import NoReturn

from luthier_kit.errors import InvalidRequest


@dataclass(frozen=True)
class MidiLimits:
    """Upper bounds of a MIDI file; the defaults hold every song of a real corpus several times over."""

    size_bytes: int = 8 << 20
    tracks: int = 256
    events: int = 500_000
    notes: int = 200_000
    ticks: int = 100_000_000
    duration_s: float = 1200.0
    bars: int = 10_000
    stems: int = 96
    stem_s: float = 4 * 3600.0  # stems times length: what is synthesised and kept on scratch

    def changed(self) -> dict[str, float]:
        """The bounds that are not the default: they belong to the name of an action, as they decide refusals."""
        default = asdict(MidiLimits())
        return {name: value for name, value in asdict(self).items() if value != default[name]}


def refuse(reason: str, message: str) -> NoReturn:
    """Raise InvalidRequest for the field `midi` with a stable UPPER_SNAKE reason."""
    raise InvalidRequest(message, reason=reason, violations=[("midi", message)])


def within(reason: str, what: str, value: float, bound: float) -> None:
    """Refuse a value above its bound, naming both."""
    if value > bound:
        refuse(reason, f"the file holds {value:.10g} {what}, the bound is {bound:.10g}")
