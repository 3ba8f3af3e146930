"""Checks of a request that name the field and the bound, all of them at once."""

import math
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TypeVar

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.rpc._errors import InvalidRequest, Violation
from luthier_kit.rpc._references import REF_INVALID, ref_violations

T = TypeVar("T")
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")  # collections, data sets, models


class Checks:
    """Collects violations; `done` raises one InvalidRequest that names every field and bound.

    `prefix` is put before each field path, e.g. `clips[3].`.
    """

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.violations: list[Violation] = []
        self._of_references = 0

    def that(self, ok: bool, field: str, bound: str) -> bool:
        """Any condition; `bound` completes the sentence `<field>: …`."""
        if not ok:
            self.violations.append((self.prefix + field, bound))
        return ok

    def finite(self, field: str, value: float) -> bool:
        """Neither nan nor infinite."""
        return self.that(math.isfinite(value), field, f"must be a finite number, got {value}")

    def within(self, field: str, value: float, low: float, high: float) -> bool:
        """low <= value <= high; nan is refused."""
        return self.that(low <= value <= high, field, f"must be between {low:g} and {high:g}, got {value:g}")

    def above(self, field: str, value: float, low: float, high: float) -> bool:
        """low < value <= high; nan is refused."""
        return self.that(low < value <= high, field, f"must be above {low:g} and at most {high:g}, got {value:g}")

    def text(self, field: str, value: str, *, max_chars: int, blank: bool = True) -> bool:
        """At most `max_chars` characters; not only white space unless `blank`."""
        fits = self.that(len(value) <= max_chars, field, f"must have at most {max_chars} characters, got {len(value)}")
        return self.that(blank or bool(value.strip()), field, "must not be empty") and fits

    def name(self, field: str, value: str) -> bool:
        """A name that is safe as part of an object key."""
        return self.that(
            NAME_PATTERN.fullmatch(value) is not None,
            field,
            f"must be 1 to 64 of a-z, 0-9, '-', '_', '.', got {value[:80]!r}",
        )

    def one_of(self, field: str, value: str, allowed: Collection[str]) -> bool:
        """One of a known set."""
        return self.that(value in allowed, field, f"must be one of {', '.join(sorted(allowed))}, got {value[:80]!r}")

    def count(self, field: str, items: Collection[object], low: int, high: int) -> bool:
        """low <= number of items <= high."""
        return self.that(low <= len(items) <= high, field, f"must have {low} to {high} items, got {len(items)}")

    def items(self, field: str, items: Collection[T], low: int, high: int) -> Iterator[tuple[str, T]]:
        """Counts; then each item with its path, `tags[3]`. None when there are too many: a message of 4 MiB can hold
        two million, and to look at each would take seconds and gigabytes.
        """
        fits = self.count(field, items, low, high)
        return ((f"{field}[{index}]", item) for index, item in enumerate(items if fits else ()))

    def artifact(self, field: str, ref: ArtifactRef, *, max_bytes: int | None = None) -> bool:
        """An artifact reference is there, well formed, and not larger than a bound."""
        named = self.that(bool(ref.key), field, "must name an artifact")
        for part, bound in ref_violations(ref) if named else ():
            named = self.that(False, f"{field}.{part}", bound)
            self._of_references += 1
        small = max_bytes is None or ref.size_bytes <= max_bytes
        return self.that(small, field, f"must have at most {max_bytes} bytes, got {ref.size_bytes}") and named

    def done(self, *, reason: str = "") -> None:
        """Raises InvalidRequest when anything was wrong: ARTIFACT_REF_INVALID when that was the form of references."""
        if self.violations:
            only_references = len(self.violations) == self._of_references
            raise InvalidRequest(violations=self.violations, reason=reason or (REF_INVALID if only_references else ""))


@contextmanager
def in_field(field: str) -> Iterator[None]:
    """What is invalid in the block is in this field of the request: the error says so.

    For errors of code that does not know the request: about a file that it names, or about a reference.
    """
    try:
        yield
    except InvalidRequest as error:
        own = [name for name, _ in error.violations]
        if any(name == field or name.startswith((f"{field}.", f"{field}[")) for name in own):
            raise
        error.violations = tuple((f"{field}.{name}", what) for name, what in error.violations) or ((field, str(error)),)
        raise
