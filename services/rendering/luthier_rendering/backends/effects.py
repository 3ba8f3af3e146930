"""Effects on a stem, by pedalboard, in the order of the paper's authors: distortion, phaser, chorus, bitcrush, delay,
reverb; then compressor and equaliser.

A stem is brought to EFFECTS_LUFS first, so that a drive or a threshold in dB means the same for every instrument.
No effect moves the music: what is not delayed stays at least as loud as what is (`mix` ends at a half where the other
half is late), the length stays, and a test sends an impulse through each of them at its bounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from luthier.rendering.v1 import rendering_pb2 as pb
from luthier_music.audio import SAMPLE_RATE_HZ, Samples, peak
from luthier_rendering.backends.base import BackendError

EFFECTS_LUFS: Final = -20.0
_BUFFER_FRAMES: Final = 8192  # pinned: what an effect does must not depend on it, and with some it might


@dataclass(frozen=True)
class Bound:
    """What a parameter may be, and what it is when nothing is said."""

    low: float
    high: float
    default: float


@dataclass(frozen=True)
class Kind:
    """An effect: its class in pedalboard, and the bounds within which it is still music."""

    plugin: str
    parameters: dict[str, Bound]


_SHELF: Final = {"gain_db": Bound(-24, 24, 0), "q": Bound(0.1, 10, 0.707)}
KINDS: Final[dict[str, Kind]] = {
    "distortion": Kind("Distortion", {"drive_db": Bound(0, 40, 12)}),
    "phaser": Kind(
        "Phaser",
        {
            "rate_hz": Bound(0.01, 20, 1),
            "depth": Bound(0, 1, 0.5),
            "centre_frequency_hz": Bound(50, 10_000, 1300),
            "feedback": Bound(-0.9, 0.9, 0),
            "mix": Bound(0, 0.5, 0.5),
        },
    ),
    "chorus": Kind(
        "Chorus",
        {
            "rate_hz": Bound(0.01, 20, 1),
            "depth": Bound(0, 1, 0.25),
            "centre_delay_ms": Bound(1, 30, 7),
            "feedback": Bound(-0.9, 0.9, 0),
            "mix": Bound(0, 0.5, 0.5),
        },
    ),
    "bitcrush": Kind("Bitcrush", {"bit_depth": Bound(4, 16, 8)}),
    "delay": Kind(
        "Delay", {"delay_seconds": Bound(0.01, 2, 0.5), "feedback": Bound(0, 0.9, 0.3), "mix": Bound(0, 0.5, 0.3)}
    ),
    "reverb": Kind(
        "Reverb",
        {
            "room_size": Bound(0, 1, 0.5),
            "damping": Bound(0, 1, 0.5),
            "wet_level": Bound(0, 0.5, 0.15),
            "dry_level": Bound(0.2, 0.5, 0.5),  # 0.5 leaves the dry sound as it is: pedalboard doubles it
            "width": Bound(0, 1, 1),
        },
    ),
    "compressor": Kind(
        "Compressor",
        {
            "threshold_db": Bound(-60, 0, -20),
            "ratio": Bound(1, 20, 4),
            "attack_ms": Bound(0.1, 200, 5),
            "release_ms": Bound(1, 2000, 100),
        },
    ),
    "low_shelf": Kind("LowShelfFilter", {"cutoff_frequency_hz": Bound(20, 2000, 200), **_SHELF}),
    "peak": Kind("PeakFilter", {"cutoff_frequency_hz": Bound(20, 18_000, 1000), **_SHELF}),
    "high_shelf": Kind("HighShelfFilter", {"cutoff_frequency_hz": Bound(500, 18_000, 5000), **_SHELF}),
}
"""All effects, in the order in which they are applied whatever the order of a map is."""

ORDER: Final = {name: place for place, name in enumerate(KINDS)}


def apply(samples: Samples, effects: Sequence[pb.Effect]) -> Samples:
    """What effects make of samples [frames, 2]: as many frames. BackendError when it is not finite, or silence."""
    import pedalboard
    from pedalboard._pedalboard import Pedalboard

    plugins = (getattr(pedalboard, KINDS[effect.name].plugin) for effect in effects)
    chain: list[Any] = [plugin(**dict(effect.values.items())) for plugin, effect in zip(plugins, effects, strict=True)]
    # a board of its own for each stem: it starts without a tail of another
    played = Pedalboard(chain).process(samples.T, SAMPLE_RATE_HZ, buffer_size=_BUFFER_FRAMES, reset=True)
    if not np.isfinite(peak(played)) or (samples.any() and not played.any()):
        named = ", ".join(effect.name for effect in effects)
        raise BackendError(f"the effects {named} made silence or what is no sound: {_values(effects)}")
    return np.ascontiguousarray(played.T)


def _values(effects: Sequence[pb.Effect]) -> str:
    return "; ".join(f"{effect.name} {dict(sorted(effect.values.items()))}" for effect in effects)


def faults(effect: pb.Effect) -> list[str]:
    """What is wrong with an effect of a record, empty for nothing."""
    kind = KINDS.get(effect.name)
    if kind is None:
        return [f"must be one of {', '.join(KINDS)}, got {effect.name[:80]!r}"]
    if effect.values.keys() != kind.parameters.keys():
        return [f"{effect.name} must have the values {', '.join(kind.parameters)}"]
    return [
        f"{effect.name}.{name} must be between {bound.low:g} and {bound.high:g}"
        for name, bound in kind.parameters.items()
        if not bound.low <= effect.values[name] <= bound.high
    ]
