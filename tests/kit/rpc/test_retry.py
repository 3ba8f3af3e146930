"""Trying again: which errors, how long, with what pauses."""

import logging
from collections.abc import Callable, Iterator

import pytest

from luthier_kit.rpc import RetryBudget, Unavailable, retry_policy
from luthier_kit.rpc import _retry as retries


class Clock:
    """Time that passes only by `sleep`; `pauses` are what was slept."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("luthier_kit.rpc._retry.time.monotonic", clock.monotonic)
    return clock


@pytest.fixture
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "JITTER", 0.0)


def failing(*errors: Exception) -> Callable[[], str]:
    """Fails once with each error, then answers."""
    left: Iterator[Exception] = iter(errors)

    def attempt() -> str:
        if error := next(left, None):
            raise error
        return "answer"

    return attempt


def test_it_returns_what_the_first_good_attempt_returns(clock: Clock) -> None:
    policy = retry_policy(10, OSError, sleep=clock.sleep)
    assert policy(failing(OSError("1"), OSError("2"))) == "answer"
    assert len(clock.pauses) == 2


def test_arguments_are_passed_on(clock: Clock) -> None:
    assert retry_policy(1, OSError, sleep=clock.sleep)(divmod, 7, 2) == (3, 1)


def test_what_will_not_pass_is_raised_at_once_as_it_is(clock: Clock) -> None:
    wrong = ValueError("wrong")
    with pytest.raises(ValueError, match="wrong") as caught:
        retry_policy(10, OSError, sleep=clock.sleep)(failing(wrong))
    assert caught.value is wrong
    assert clock.pauses == []


@pytest.mark.parametrize("retry_on", [OSError, (KeyError, OSError), lambda error: isinstance(error, OSError)])
def test_which_errors_pass_is_a_type_types_or_a_function(
    clock: Clock, retry_on: type[OSError] | tuple[type[Exception], ...] | Callable[[BaseException], bool]
) -> None:
    assert retry_policy(10, retry_on, sleep=clock.sleep)(failing(OSError())) == "answer"


@pytest.mark.usefixtures("no_jitter")
def test_pauses_double_up_to_the_longest(clock: Clock) -> None:
    policy = retry_policy(100, OSError, first_s=0.5, longest_s=3, sleep=clock.sleep)
    policy(failing(*[OSError()] * 6))
    assert clock.pauses == [0.5, 1, 2, 3, 3, 3]


def test_up_to_a_quarter_is_drawn_on_top_so_that_callers_spread(clock: Clock) -> None:
    for _ in range(50):
        retry_policy(100, OSError, first_s=1, sleep=clock.sleep)(failing(OSError()))
    assert all(1 <= pause <= 1.25 for pause in clock.pauses)
    assert len(set(clock.pauses)) > 40


@pytest.mark.usefixtures("no_jitter")
def test_a_server_s_hint_makes_a_pause_longer_up_to_the_longest_and_never_shorter(clock: Clock) -> None:
    hints = [Unavailable("", retry_after_s=hint) for hint in (2.0, 0.01, 60.0)]
    retry_policy(100, Unavailable, first_s=0.5, longest_s=5, sleep=clock.sleep)(failing(*hints))
    assert clock.pauses == [2.0, 1.0, 5.0]


@pytest.mark.usefixtures("no_jitter")
def test_the_last_error_is_raised_when_the_budget_is_spent_and_the_last_pause_is_cut_to_it(clock: Clock) -> None:
    errors = [OSError(str(number)) for number in range(100)]
    with pytest.raises(OSError, match=r"^5$"):
        retry_policy(13, OSError, first_s=1, longest_s=5, sleep=clock.sleep)(failing(*errors))
    assert clock.pauses == [1, 2, 4, 5, 1]


def test_the_budget_begins_with_the_first_failure(clock: Clock) -> None:
    """A server that dies after minutes of work leaves as much as one that was never there."""

    def attempt() -> str:
        if not clock.pauses:
            clock.now += 600
            raise OSError
        return "answer"

    assert retry_policy(5, OSError, sleep=clock.sleep)(attempt) == "answer"


def test_no_budget_is_one_attempt(clock: Clock) -> None:
    with pytest.raises(OSError, match="only"):
        retry_policy(0, OSError, sleep=clock.sleep)(failing(OSError("only")))
    assert clock.pauses == []


def test_a_budget_is_spent_from_the_first_time_it_is_asked(clock: Clock) -> None:
    budget = RetryBudget(10)
    clock.now += 100
    assert budget.left_s() == 10
    clock.now += 4
    assert budget.left_s() == 6


def test_each_pause_is_a_line_of_the_log_that_holds_no_url(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    errors = [OSError("https://store/?X-Amz-Signature=1"), Unavailable("the store is down", reason="STORE_UNAVAILABLE")]
    retry_policy(60, (OSError, Unavailable), sleep=clock.sleep, log=logging.getLogger("here"))(failing(*errors))
    assert [message.split("; next attempt in ")[0] for message in caplog.messages] == [
        "OSError", "STORE_UNAVAILABLE: the store is down",
    ]  # fmt: skip
