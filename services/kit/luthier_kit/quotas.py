"""Quotas: how much each caller may have in a day (UTC), across all replicas of a service and their restarts.

    reserve what a request may take ─ make it ─ settle: what it took stays, the rest is given back

There is no database. Each replica writes what its callers had, with what is reserved, into one note of its own for each
day, `quotas/<day>/<replica>.json`, every `every_s` seconds while it changes, and reads those of the others as often.

* Several replicas may let more through than the quota: what the others admit within the last 2 * `every_s`, which a
  replica has not read yet. One replica alone lets nothing through that is beyond.
* A replica that ends writes once more. One that is killed forgets what its callers had in its last `every_s`, and what
  was reserved in it stays spent.
* While the store does not answer nobody is refused for that: this replica goes on with what it last knew of the others
  and its own count, and writes it when the store is back.
"""

import logging
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from prometheus_client import Counter, Gauge

from luthier.store.v1.store_pb2 import QuotaSpending
from luthier_kit.rpc import LuthierError, QuotaExceeded, SettingsError
from luthier_kit.store import Store

log = logging.getLogger(__name__)
PREFIX: Final = "quotas/"
"""Where notes of spending are in the store."""
ANY_CALLER: Final = "*"
EVERY_S: Final = 5.0
SPENT: Final = "QUOTA_SPENT"
"""Reason of a refusal that ends with the day."""
TOO_SMALL: Final = "QUOTA_TOO_SMALL"
"""Reason of a refusal that no waiting helps: the request alone is beyond a day's quota."""
MAX_BOUND: Final = 10**12
_SLACK: Final = 1e-6  # of sums of seconds: float64 adds a million durations to better than this

SPENT_TODAY = Gauge("luthier_quota_spent", "What a caller had today of all replicas", ("caller", "quota"))
BOUND = Gauge("luthier_quota_bound", "What a caller may have in a day", ("caller", "quota"))
REFUSED = Counter("luthier_quota_refused", "Requests refused by a quota", ("caller", "quota"))
STORE_FAILURES = Counter("luthier_quota_store_failures", "Times that spending could not be written or read")


@dataclass(frozen=True)
class Amount:
    """What a request takes, or what a caller had: pieces of audio, seconds of audio, denoising steps."""

    calls: int = 0
    audio_seconds: float = 0.0
    steps: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(
            self.calls + other.calls, self.audio_seconds + other.audio_seconds, self.steps + other.steps
        )  # fmt: skip

    def __sub__(self, other: "Amount") -> "Amount":
        return self + Amount(-other.calls, -other.audio_seconds, -other.steps)


NAMES: Final = tuple(field.name for field in fields(Amount))


@dataclass(frozen=True)
class Quota:
    """What a caller may have in a day; None = any amount."""

    calls: int | None = None
    audio_seconds: float | None = None
    steps: int | None = None


def quotas_of(entries: Iterable[str]) -> dict[str, Quota]:
    """Quotas by caller, from `name=calls:1000+audio_seconds:3600+steps:100000`; what is not named has no bound.

    SettingsError names the entry that is wrong.
    """
    found: dict[str, Quota] = {}
    for entry in entries:
        name, equals, listed = (part.strip() for part in entry.partition("="))
        try:
            if not name or not equals or name in found:
                raise ValueError
            pairs = [part.split(":") for part in listed.split("+") if part.strip()]
            bounds = {key.strip(): float(value) for key, value in pairs}
            if len(bounds) < len(pairs) or not all(0 <= bound <= MAX_BOUND for bound in bounds.values()):
                raise ValueError
            whole = {key: int(bound) for key, bound in bounds.items() if key in ("calls", "steps")}
            if any(bounds[key] != bound for key, bound in whole.items()):
                raise ValueError
            found[name] = Quota(**{**bounds, **whole})  # type: ignore[arg-type]  # TypeError for other names
        except (ValueError, TypeError):
            text = f"must be name=quota:bound+quota:bound of {', '.join(NAMES)}, each name and quota once, bounds 0 to"
            raise SettingsError(f"LUTHIER_CALLER_QUOTAS {entry!r} {text} {MAX_BOUND}") from None
    return found


@dataclass(frozen=True)
class _Noted:
    """What another replica's note said when it was read. `settled`: it was read again after it had changed, for stores
    tell the second of writing and not more."""

    written_at: float
    spent: Mapping[str, Amount]
    settled: bool


class Reservation:
    """What a request may take at most. `settle` once, with what it took."""

    def __init__(self, quotas: "Quotas", day: str, caller: str, reserved: Amount) -> None:
        self._quotas, self._day, self._caller, self._reserved = quotas, day, caller, reserved

    def settle(self, took: Amount) -> None:
        """Gives back what was not taken, to the day in which it was reserved."""
        self._quotas._add(self._day, self._caller, took - self._reserved)


class Quotas:
    """Counts what callers have, and refuses what is beyond. Threads may share it.

    `now` tells the time, UTC: its date is the day.
    """

    def __init__(
        self, store: Store, quotas: Mapping[str, Quota], *, every_s: float = EVERY_S,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:  # fmt: skip
        self._store, self._quotas, self._every_s, self._now = store, dict(quotas), every_s, now
        self._replica = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._own: dict[str, dict[str, Amount]] = {}  # by day and caller
        self._unwritten: set[str] = set()  # days
        self._others: dict[str, _Noted] = {}  # by replica, of self._day
        self._day = ""
        self._failed = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="quotas", daemon=True)
        for caller, quota in self._quotas.items():
            for name in NAMES:
                if (bound := getattr(quota, name)) is not None:
                    BOUND.labels(caller, name).set(bound)

    def start(self) -> None:
        """Reads what was spent today, then goes on writing and reading."""
        self.sync()
        self._thread.start()

    def close(self) -> None:
        """Writes the last time."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self.sync()

    def of(self, caller: str) -> Quota:
        """The quota of a caller: its own, else that of callers who are not named."""
        return self._quotas.get(caller) or self._quotas.get(ANY_CALLER) or Quota()

    def fits(self, caller: str, amount: Amount) -> bool:
        """Whether there is room for a request now."""
        with self._lock:
            self._today(self._now())
            return self._beyond(caller, amount) is None

    def reserve(self, caller: str, amount: Amount) -> Reservation:
        """Room for a request. QuotaExceeded QUOTA_SPENT, with the seconds until midnight, or QUOTA_TOO_SMALL."""
        now = self._now()
        with self._lock:
            day = self._today(now)
            if (name := self._beyond(caller, amount)) is not None:
                REFUSED.labels(caller, name).inc()
                bound, had = getattr(self.of(caller), name), getattr(self._spent(caller), name)
                raise _refusal(caller, name, bound, had, getattr(amount, name), self.renewed_at(now) - now)
            self._change(day, caller, amount)
        return Reservation(self, day, caller, amount)

    def spent(self, caller: str) -> Amount:
        """What a caller had today of all replicas, as far as it is known here."""
        with self._lock:
            self._today(self._now())
            return self._spent(caller)

    def callers(self) -> list[str]:
        """Callers that had anything today or are named in the setting, sorted."""
        with self._lock:
            day = self._today(self._now())
            known = {*self._own.get(day, ()), *(caller for noted in self._others.values() for caller in noted.spent)}
        return sorted((known | self._quotas.keys()) - {ANY_CALLER})

    def renewed_at(self, now: datetime | None = None) -> datetime:
        """The next midnight, UTC."""
        midnight = (now or self._now()).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight + timedelta(days=1)

    def sync(self) -> None:
        """Writes what changed and reads what others wrote. A store that fails is logged once, and counted."""
        try:
            self._write()
            self._read()
        except LuthierError as error:
            STORE_FAILURES.inc()
            if not self._failed:
                log.warning("spending of quotas is counted in this process alone until the store answers: %s", error)
            self._failed = True
        else:
            self._failed = False
        for caller in self.callers():
            spent = self.spent(caller)
            for name in NAMES:
                SPENT_TODAY.labels(caller, name).set(getattr(spent, name))

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self.sync()
            except Exception:  # the next time may be better, and calls go on meanwhile
                log.exception("spending of quotas was not written or read")

    def _write(self) -> None:
        with self._lock:
            days, self._unwritten = self._unwritten, set()
            notes = {day: _message(self._own[day]) for day in days if day in self._own}
        for day, note in notes.items():
            try:
                self._store.put_note(f"{PREFIX}{day}/{self._replica}.json", note)
            except BaseException:
                with self._lock:
                    self._unwritten |= days
                raise
        with self._lock:
            kept = {self._day, *self._unwritten}
            self._own = {day: spent for day, spent in self._own.items() if day >= min(kept)}

    def _read(self) -> None:
        with self._lock:
            day, known = self._today(self._now()), dict(self._others)
        for found in self._store.objects.stored(f"{PREFIX}{day}/"):
            replica = found.key.rpartition("/")[2].removesuffix(".json")
            before = known.get(replica)
            changed = before is None or before.written_at != found.written_at
            if replica == self._replica or (before and before.settled and not changed):
                continue
            note = self._store.note(QuotaSpending, found.key)
            if note is not None:  # else it is damaged: what was known of it holds
                known[replica] = _Noted(found.written_at, _amounts(note), settled=not changed)
        with self._lock:
            if self._day == day:
                self._others = known

    def _today(self, now: datetime) -> str:
        """The day; what others spent the day before is over."""
        day = now.astimezone(UTC).date().isoformat()
        if day != self._day:
            self._day, self._others = day, {}
        return day

    def _spent(self, caller: str) -> Amount:
        others = (noted.spent.get(caller, Amount()) for noted in self._others.values())
        return sum(others, self._own.get(self._day, {}).get(caller, Amount()))

    def _beyond(self, caller: str, amount: Amount) -> str | None:
        """The quota that a request is beyond."""
        quota, spent = self.of(caller), self._spent(caller)
        for name in NAMES:
            bound, had, wanted = getattr(quota, name), getattr(spent, name), getattr(amount, name)
            if bound is not None and wanted > 0 and had + wanted > bound + _SLACK:
                return name
        return None

    def _add(self, day: str, caller: str, amount: Amount) -> None:
        with self._lock:
            self._change(day, caller, amount)

    def _change(self, day: str, caller: str, amount: Amount) -> None:
        spent = self._own.setdefault(day, {})
        spent[caller] = spent.get(caller, Amount()) + amount
        self._unwritten.add(day)


def _refusal(
    caller: str, name: str, bound: float, had: float, wanted: float, left: timedelta
) -> QuotaExceeded:  # fmt: skip
    refused = partial(
        QuotaExceeded, quota=name, bound=f"{bound:.12g}", spent=f"{had:.12g}", asked=f"{wanted:.12g}"
    )  # fmt: skip
    if wanted > bound + _SLACK:
        text = f"this request takes {wanted:.12g} {name}, and {caller} may have {bound:.12g} a day"
        return refused(text, reason=TOO_SMALL)
    text = f"{caller} has spent {had:.12g} of {bound:.12g} {name} of today (UTC), and this request takes {wanted:.12g}"
    return refused(text, reason=SPENT, retry_after_s=left.total_seconds())


def _message(spent: Mapping[str, Amount]) -> QuotaSpending:
    note = QuotaSpending()
    for caller, amount in sorted(spent.items()):
        had = max(amount.audio_seconds, 0.0)  # what was given back may leave less than nothing, by rounding
        note.callers.add(caller=caller, calls=amount.calls, audio_seconds=had, steps=amount.steps)
    return note


def _amounts(note: QuotaSpending) -> dict[str, Amount]:
    return {each.caller: Amount(each.calls, each.audio_seconds, each.steps) for each in note.callers}
