"""The token bucket keeps the rate, gives up in time, and pauses."""

import time

from luthier_enrichment.limiter import TokenBucket


def test_the_rate_holds_after_the_burst() -> None:
    bucket, started = TokenBucket(20.0, burst=2), time.monotonic()
    assert all(bucket.take(5.0) for _ in range(8))
    assert time.monotonic() - started >= (8 - 2) / 20


def test_who_would_wait_too_long_is_told_at_once() -> None:
    bucket, started = TokenBucket(0.1), time.monotonic()
    assert bucket.take(0)
    assert not bucket.take(1.0)
    assert time.monotonic() - started < 0.5


def test_a_pause_holds_everyone() -> None:
    bucket = TokenBucket(100.0)
    bucket.pause(30.0)
    assert not bucket.take(1.0)


def test_workers_share_a_rate_and_its_burst() -> None:
    buckets, started = [TokenBucket(40.0, burst=2, workers=4) for _ in range(4)], time.monotonic()
    assert all(bucket.take(5.0) for _ in range(3) for bucket in buckets)
    assert time.monotonic() - started >= (3 - 1) * 4 / 40  # each takes one at once, then one every 4/40 s


def test_one_worker_of_four_asks_at_a_quarter_of_the_rate() -> None:
    bucket, started = TokenBucket(40.0, workers=4), time.monotonic()
    assert all(bucket.take(5.0) for _ in range(4))
    assert time.monotonic() - started >= (4 - 1) * 4 / 40
