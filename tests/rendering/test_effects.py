"""Effects: bounded, in their order, the same each time, and no later than the music."""

import itertools

import numpy as np
import pytest

from luthier.rendering.v1 import rendering_pb2 as pb
from luthier_rendering.backends import effects
from luthier_rendering.backends.base import BackendError
from luthier_rendering.backends.effects import KINDS, apply, faults

RATE = 44_100
STRUCK = 5000  # the frame of the impulse


def effect(name: str, **values: float) -> pb.Effect:
    """An effect with these values, the others at their defaults."""
    return pb.Effect(name=name, values={one: bound.default for one, bound in KINDS[name].parameters.items()} | values)


def corners(name: str) -> list[pb.Effect]:
    """An effect with each combination of the lowest and highest values of its parameters."""
    bounds = KINDS[name].parameters
    sides = itertools.product(*((bound.low, bound.high) for bound in bounds.values()))
    return [pb.Effect(name=name, values=dict(zip(bounds, values, strict=True))) for values in sides]


def noise(seconds: float = 2.0) -> np.ndarray:
    return (np.random.default_rng(5).normal(size=(round(seconds * RATE), 2)) * 0.1).astype(np.float32)


@pytest.mark.parametrize("name", KINDS)
def test_an_impulse_is_neither_early_nor_late_at_any_bound(name: str) -> None:
    impulse = np.zeros((RATE, 2), np.float32)
    impulse[STRUCK] = 0.5
    for one in corners(name):
        heard = apply(impulse, [one])
        assert heard.shape == impulse.shape
        assert not heard[:STRUCK].any()
        assert np.abs(heard[STRUCK]).max() > 1e-4
        if name in ("chorus", "delay", "reverb"):  # what filters do to an impulse is longer than that by nature
            assert np.abs(heard[STRUCK]).max() >= 0.999 * np.abs(heard).max()  # nothing late is louder


@pytest.mark.parametrize("name", KINDS)
def test_what_comes_out_is_finite_and_music_at_any_bound(name: str) -> None:
    sound = noise()
    for one in corners(name):
        heard = apply(sound, [one])
        assert np.isfinite(heard).all()
        assert 1e-3 < np.abs(heard).max() < 1e3


@pytest.mark.parametrize("name", KINDS)
def test_an_effect_is_the_same_each_time_and_remembers_nothing(name: str) -> None:
    first = apply(noise(), [effect(name)])
    apply(np.ones((RATE, 2), np.float32), [effect(name)])
    assert np.array_equal(apply(noise(), [effect(name)]), first)
    assert not np.array_equal(first, noise()) or name in ("low_shelf", "peak", "high_shelf")  # 0 dB by default


def test_a_shelf_raises_what_it_says() -> None:
    """6 dB far below its frequency, nothing far above, as the cookbook's formulae have it."""
    heard = apply(noise(10), [effect("low_shelf", cutoff_frequency_hz=500, gain_db=6)])
    before, after = (np.abs(np.fft.rfft(one[:, 0])) ** 2 for one in (noise(10), heard))
    hz = np.fft.rfftfreq(10 * RATE, 1 / RATE)
    rise = [10 * np.log10(after[band].sum() / before[band].sum()) for band in ((hz < 60), (hz > 5000))]
    assert rise == pytest.approx([6, 0], abs=0.2)


def test_a_reverb_leaves_the_dry_sound_at_its_level_by_default() -> None:
    impulse = np.zeros((RATE, 2), np.float32)
    impulse[STRUCK] = 0.5
    assert apply(impulse, [effect("reverb")])[STRUCK] == pytest.approx([0.5, 0.5], abs=1e-6)


def test_effects_that_make_silence_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = effects.Bound(0, 1, 0.5)
    monkeypatch.setitem(KINDS, "gate", effects.Kind("NoiseGate", {"threshold_db": quiet, "ratio": quiet}))
    sound = np.zeros((RATE, 2), np.float32)
    sound[10] = 1e-30
    with pytest.raises(BackendError, match=r"the effects gate made silence .*threshold_db"):
        apply(sound, [pb.Effect(name="gate", values={"threshold_db": 0, "ratio": 100})])


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (pb.Effect(name="fuzz"), "must be one of distortion, phaser"),
        (pb.Effect(name="distortion"), "must have the values drive_db"),
        (effect("distortion", drive_db=41), "drive_db must be between 0 and 40"),
        (effect("reverb", room_size=float("nan")), "room_size must be between 0 and 1"),
    ],
)
def test_an_effect_beyond_its_bounds_is_refused(one: pb.Effect, said: str) -> None:
    (fault,) = faults(one)
    assert said in fault


def test_the_order_is_that_of_the_papers_authors() -> None:
    assert list(KINDS)[:6] == ["distortion", "phaser", "chorus", "bitcrush", "delay", "reverb"]


def test_defaults_lie_within_their_bounds() -> None:
    assert all(b.low <= b.default <= b.high for kind in KINDS.values() for b in kind.parameters.values())
