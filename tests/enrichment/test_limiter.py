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
