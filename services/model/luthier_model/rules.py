"""Rules for the fields of a configuration: what a value must be, in words that name its bound."""

import math
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True)
class Integer:
    """A whole number in [low, high]."""

    low: int
    high: int

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value; None when nothing is."""
        if isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high:
            return None
        return f"must be a whole number between {self.low} and {self.high}, got {value!r}"[:200]


@dataclass(frozen=True)
class Real:
    """A finite number in [low, high]."""

    low: float
    high: float

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value; None when nothing is."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and self.low <= value <= self.high:  # NaN is not; a whole number may be too large for a float
            return None
        return f"must be a number between {self.low} and {self.high}, got {value!r}"[:200]


@dataclass(frozen=True)
class Choice:
    """One of the named values; True is not 1."""

    values: tuple[Any, ...]

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value; None when nothing is."""
        if any(value == allowed and type(value) is type(allowed) for allowed in self.values):
            return None
        return f"must be one of {', '.join(map(repr, self.values))}, got {value!r}"[:300]


@dataclass(frozen=True)
class Text:
    """A text of 1 to `longest` characters."""

    longest: int

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value; None when nothing is."""
        if isinstance(value, str) and 0 < len(value) <= self.longest:
            return None
        return f"must be a name of 1 to {self.longest} characters, got {value!r}"[:200]


@dataclass(frozen=True)
class Integers:
    """A list of 1 to `longest` whole numbers, each in [low, high]."""

    low: int
    high: int
    longest: int

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value; None when nothing is."""
        each = Integer(self.low, self.high)
        if isinstance(value, list) and 0 < len(value) <= self.longest and not any(map(each.problem, value)):
            return None
        return f"must be 1 to {self.longest} whole numbers between {self.low} and {self.high}, got {value!r}"[:200]


@dataclass(frozen=True)
class Shares:
    """A list of `count` numbers of 0 or more that sum to 1."""

    count: int

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value; None when nothing is."""
        each = Real(0, 1)
        shares = isinstance(value, list) and len(value) == self.count and not any(map(each.problem, value))
        if shares and math.isclose(math.fsum(value), 1, abs_tol=1e-6):
            return None
        return f"must be {self.count} numbers of 0 or more that sum to 1, got {value!r}"[:200]


Rule = Integer | Real | Choice | Text | Integers | Shares
BOOL: Final = Choice((True, False))
