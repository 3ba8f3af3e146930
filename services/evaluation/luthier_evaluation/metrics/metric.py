"""What a metric is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from luthier_evaluation.measurement import Measurement
from luthier_evaluation.suite import SuiteRow

Pairs = Sequence[tuple[SuiteRow, Measurement]]
"""Rows with what one model did with them; rows that failed are left out."""


@dataclass(frozen=True)
class Chance:
    """What a model reaches that does not heed the prompt, and how that was found."""

    value: float | None
    note: str


@dataclass(frozen=True)
class Metric:
    """A number for each row, averaged over the rows to which it applies.

    `of` gives None for a row to which the metric does not apply. A `gate` metric must not get worse at a promotion.
    """

    name: str
    title: str
    unit: str
    about: str
    of: Callable[[SuiteRow, Measurement], float | None]
    chance: Callable[[Pairs], Chance] | None = None
    gate: bool = False


@dataclass(frozen=True)
class Absent:
    """A published metric that is not computed here, and why."""

    name: str
    title: str
    reason: str
