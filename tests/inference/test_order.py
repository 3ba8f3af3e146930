"""Who goes next: slowdown, deadlines, slots; the estimates against closed forms."""

import math
from dataclasses import replace

import pytest

from luthier_inference.order import MAX_SLOWDOWN, Load, in_order, ready_times


def load(total_s: float, *, came: float = 0.0, left_s: float | None = None, **more: float | bool) -> Load:
    return Load(came, total_s, total_s if left_s is None else left_s, **more)  # type: ignore[arg-type]


def test_slowdown_is_the_time_in_all_over_the_time_alone() -> None:
    assert load(4.0, came=10.0, left_s=1.0).slowdown(now=18.0) == pytest.approx((8 + 1) / 4)


def test_a_short_request_goes_before_a_long_one_that_came_with_it() -> None:
    assert in_order([load(100), load(1)], now=1.0, slots=2) == [1, 0]


def test_a_long_request_goes_before_short_ones_once_it_has_waited_in_proportion() -> None:
    waited_long = load(10.0, came=0.0)
    just_came = load(1.0, came=20.0)

    assert in_order([just_came, waited_long], now=20.1, slots=2) == [1, 0]


def test_who_would_miss_the_deadline_goes_first() -> None:
    urgent = load(10.0, came=5.0, deadline=15.5)

    assert in_order([load(1.0), urgent], now=5.0, slots=2) == [1, 0]
    assert in_order([load(1.0), replace(urgent, deadline=100.0)], now=5.0, slots=2) == [0, 1]


def test_a_deadline_that_was_promised_is_kept_whatever_comes_without_one() -> None:
    promised = load(10.0, deadline=12.0)

    ready = ready_times([promised, *(load(1.0) for _ in range(20))], now=0.0, slots=30)

    assert ready[0] <= 12.0


def test_nobody_starves_behind_deadlines() -> None:
    starved = load(1.0, came=0.0)
    urgent = load(10.0, came=50.0, deadline=60.5)
    now = MAX_SLOWDOWN * 1.0 + 31

    assert in_order([urgent, starved], now=now, slots=2) == [1, 0]


def test_no_more_begin_than_there_are_slots() -> None:
    loads = [load(9.0, began=True), load(1.0), load(2.0), load(3.0)]

    assert sorted(in_order(loads, now=1.0, slots=2)) == [0, 1]


def test_one_request_alone_is_ready_after_what_it_needs() -> None:
    assert ready_times([load(7.0, left_s=3.0)], now=100.0, slots=1) == pytest.approx([103.0])


def test_the_device_is_never_idle_so_the_last_is_ready_when_all_is_done() -> None:
    loads = [load(5.0), load(2.0), load(11.0)]

    assert max(ready_times(loads, now=0.0, slots=2)) == pytest.approx(18.0)


def test_two_alike_that_share_the_device_are_ready_at_the_end_of_both() -> None:
    first, second = ready_times([load(4.0), load(4.0)], now=0.0, slots=2)

    assert min(first, second) > 7.5
    assert max(first, second) == pytest.approx(8.0)


def test_a_short_one_beside_a_long_one_is_ready_in_proportion_to_itself() -> None:
    """Equal slowdowns: behind a long one that is half done and was never held up it hardly waits."""
    long, short = load(100.0, came=-50.0, left_s=50.0, began=True), load(1.0)

    ready = ready_times([long, short], now=0.0, slots=2)

    assert ready[1] < 3.5
    assert ready[0] == pytest.approx(51.0)


def test_nothing_to_do_is_ready_now() -> None:
    assert ready_times([], now=5.0, slots=1) == []
    assert ready_times([load(0.0)], now=5.0, slots=1) == [5.0]
    assert math.isfinite(ready_times([load(1e-12), load(1.0)], now=5.0, slots=1)[0])
