"""Meters: what their beat is, and how long bars of them last."""

from fractions import Fraction


def beat_quarters(numerator: int, denominator: int) -> float | None:
    """Length in quarter notes of the beat of a meter; None where the meter does not tell.

    Compound meters (6/8, 9/8, 12/8, 6/16, …) have dotted beats of three denominators; simple ones over 2 and 4 count
    their denominators. 3/8, 5/8 or 7/8 are beaten in more than one way, and so are 6/4 and 9/4.
    """
    if numerator > 3 and numerator % 3 == 0:
        return 12 / denominator if denominator >= 8 else None
    return 4 / denominator if denominator in (2, 4) else None


def bars_s(bars: int, numerator: int, denominator: int, tempo_bpm: float) -> float:
    """Seconds that bars of a meter last at a tempo above 0, which counts the beats of the meter, or quarter notes where
    the meter does not tell its beat. To the nearest number of 64 bits.
    """
    quarters = Fraction(4 * numerator, denominator)
    beats = quarters / Fraction(beat_quarters(numerator, denominator) or 1.0)
    return float(bars * beats * 60 / Fraction(tempo_bpm))
