"""Quotas: what is refused, what replicas and restarts know of each other, and a store that is away."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from luthier_kit.quotas import STORE_FAILURES, Amount, Quota, Quotas, quotas_of
from luthier_kit.rpc import QuotaExceeded, SettingsError, Unavailable
from luthier_kit.store import Store
from tests.support.services import temp_store

NOON = datetime(2026, 11, 30, 12, 0, 0, tzinfo=UTC)


@dataclass
class Clock:
    at: datetime = NOON

    def __call__(self) -> datetime:
        return self.at


@dataclass
class Replicas:
    """Makes replicas over one store, by one clock."""

    store: Store
    clock: Clock = field(default_factory=Clock)

    def __call__(self, *entries: str, every_s: float = 3600) -> Quotas:
        return Quotas(self.store, quotas_of(entries), every_s=every_s, now=self.clock)


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[Replicas]:
    with temp_store(tmp_path) as store:
        yield Replicas(store)


def refusal(quotas: Quotas, caller: str, amount: Amount) -> QuotaExceeded:
    with pytest.raises(QuotaExceeded) as refused:
        quotas.reserve(caller, amount)
    return refused.value


def test_a_setting_names_callers_and_bounds() -> None:
    found = quotas_of(["shop=calls:1000+audio_seconds:3600.5+steps:100000", "*=calls:0", "free="])

    assert found == {"shop": Quota(1000, 3600.5, 100_000), "*": Quota(calls=0), "free": Quota()}


@pytest.mark.parametrize(
    "entry",
    ["shop", "=calls:1", "shop=calls", "shop=calls:-1", "shop=calls:1.5", "shop=calls:nan", "shop=songs:1",
     "shop=calls:1+calls:2", "shop=calls:one", "shop=calls:1:2", "shop=steps:1e13"],
)  # fmt: skip
def test_a_setting_that_is_wrong_is_named(entry: str) -> None:
    with pytest.raises(SettingsError, match="LUTHIER_CALLER_QUOTAS"):
        quotas_of([entry])


def test_a_caller_named_twice_is_refused() -> None:
    with pytest.raises(SettingsError, match="each name and quota once"):
        quotas_of(["shop=calls:1", "shop=steps:1"])


@pytest.mark.parametrize(
    ("quota", "each"),
    [("calls:2", Amount(calls=1)), ("audio_seconds:20", Amount(audio_seconds=10)), ("steps:200", Amount(steps=100))],
)
def test_what_is_beyond_is_refused_with_all_that_a_caller_needs_to_know(
    replicas: Replicas, quota: str, each: Amount
) -> None:
    name, _, bound = quota.partition(":")
    quotas = replicas(f"shop={quota}")
    quotas.reserve("shop", each)
    quotas.reserve("shop", each)

    error = refusal(quotas, "shop", each)

    assert error.reason == "QUOTA_SPENT"
    assert (error.metadata["quota"], error.metadata["bound"], error.metadata["spent"]) == (name, bound, bound)
    assert error.retry_after_s == 12 * 3600  # noon to midnight


def test_a_request_that_no_day_has_room_for_is_not_told_to_come_back(replicas: Replicas) -> None:
    error = refusal(replicas("shop=steps:100"), "shop", Amount(steps=101))

    assert (error.reason, error.retry_after_s) == ("QUOTA_TOO_SMALL", None)


def test_tenths_of_seconds_fill_a_quota_to_its_end(replicas: Replicas) -> None:
    quotas = replicas("shop=audio_seconds:1")
    for _ in range(10):  # 0.1 ten times is less than 1 in binary, three times more than 0.3
        quotas.reserve("shop", Amount(audio_seconds=0.1))

    assert refusal(quotas, "shop", Amount(audio_seconds=0.1)).reason == "QUOTA_SPENT"


def test_what_was_not_taken_is_given_back(replicas: Replicas) -> None:
    quotas = replicas("shop=steps:100")
    quotas.reserve("shop", Amount(steps=100)).settle(Amount(steps=30))

    quotas.reserve("shop", Amount(steps=70))

    assert quotas.spent("shop").steps == 100


def test_callers_who_are_not_named_have_the_quota_of_others_each_for_itself(replicas: Replicas) -> None:
    quotas = replicas("shop=calls:5", "*=calls:1")
    quotas.reserve("alice", Amount(calls=1))
    quotas.reserve("bob", Amount(calls=1))

    assert refusal(quotas, "alice", Amount(calls=1)).metadata["bound"] == "1"


def test_a_caller_without_a_quota_is_counted_and_not_refused(replicas: Replicas) -> None:
    quotas = replicas("shop=calls:0")
    quotas.reserve("alice", Amount(calls=10**6))

    assert quotas.spent("alice") == Amount(calls=10**6)
    assert quotas.callers() == ["alice", "shop"]


def test_replicas_sum_what_they_wrote(replicas: Replicas) -> None:
    one, two = replicas("shop=steps:100"), replicas("shop=steps:100")
    one.reserve("shop", Amount(steps=60))
    one.sync()
    two.sync()

    assert refusal(two, "shop", Amount(steps=50)).metadata["spent"] == "60"


def test_a_note_that_changed_is_read_again(replicas: Replicas) -> None:
    one, two = replicas("shop=steps:100"), replicas("shop=steps:100")
    seen = []
    for steps in (1, 2, 3):
        one.reserve("shop", Amount(steps=steps))
        one.sync()
        two.sync()
        seen.append(two.spent("shop").steps)

    assert seen == [1, 3, 6]


def test_a_restart_forgets_nothing(replicas: Replicas) -> None:
    before = replicas("shop=calls:1")
    before.start()
    before.reserve("shop", Amount(calls=1)).settle(Amount(calls=1))
    before.close()

    after = replicas("shop=calls:1")
    after.start()

    assert refusal(after, "shop", Amount(calls=1)).reason == "QUOTA_SPENT"
    after.close()


def test_what_a_killed_replica_had_reserved_stays_spent(replicas: Replicas) -> None:
    killed = replicas("shop=steps:100")
    killed.reserve("shop", Amount(steps=80))
    killed.sync()

    after = replicas("shop=steps:100")
    after.sync()

    assert after.spent("shop").steps == 80


def test_midnight_renews_every_quota(replicas: Replicas) -> None:
    one, two = replicas("shop=calls:1"), replicas("shop=calls:1")
    one.reserve("shop", Amount(calls=1))
    one.sync()
    two.sync()
    replicas.clock.at = NOON + timedelta(hours=12)

    one.reserve("shop", Amount(calls=1))
    two.reserve("shop", Amount(calls=1))

    assert one.spent("shop") == two.spent("shop") == Amount(calls=1)


def test_what_ends_after_midnight_is_given_back_to_the_day_before(replicas: Replicas) -> None:
    quotas = replicas("shop=steps:100")
    reservation = quotas.reserve("shop", Amount(steps=100))
    replicas.clock.at = NOON + timedelta(hours=12)
    reservation.settle(Amount(steps=10))

    quotas.sync()
    replicas.clock.at = NOON
    again = replicas("shop=steps:100")
    again.sync()

    assert again.spent("shop").steps == 10
    assert refusal(quotas, "shop", Amount(steps=91)).metadata["spent"] == "10"


def test_a_store_that_is_away_refuses_nobody_and_is_told_when_it_is_back(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    quotas, failures = replicas("shop=calls:3"), STORE_FAILURES._value.get()

    def away(*_: object) -> None:
        raise Unavailable("the store does not answer")

    with monkeypatch.context() as broken:
        broken.setattr(replicas.store, "put_note", away)
        quotas.reserve("shop", Amount(calls=1))
        quotas.sync()
        quotas.reserve("shop", Amount(calls=1))
        quotas.sync()
    quotas.sync()
    other = replicas("shop=calls:3")
    other.sync()

    assert other.spent("shop").calls == 2
    assert STORE_FAILURES._value.get() - failures == 2
    assert len([line for line in caplog.messages if "until the store answers" in line]) == 1


def test_a_damaged_note_does_not_give_back_what_it_said(replicas: Replicas) -> None:
    one, two = replicas("shop=calls:5"), replicas("shop=calls:5")
    one.reserve("shop", Amount(calls=4))
    one.sync()
    two.sync()
    (key,) = (found.key for found in replicas.store.objects.stored("quotas/2026-11-30/"))
    replicas.store.objects.delete(key)
    replicas.store.objects.create(key, b"{cut off")
    two.sync()

    assert two.spent("shop").calls == 4


def test_threads_that_race_never_have_more_than_the_quota(replicas: Replicas) -> None:
    quotas = replicas("shop=calls:100")

    def take(_: int) -> int:
        with suppress(QuotaExceeded):
            quotas.reserve("shop", Amount(calls=1))
            return 1
        return 0

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(take, range(400))) == 100
