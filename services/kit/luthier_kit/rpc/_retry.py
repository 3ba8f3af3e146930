"""Retries: exponential pauses with jitter inside a budget of seconds, by tenacity.

Each purpose has one policy: a `Channel` has that of calls, the store that of its requests; code that waits for anything
else (a database, a provider, an API) makes one by `retry_policy`.
"""

import logging
import time
from collections.abc import Callable

import tenacity

from luthier_kit.rpc._errors import LuthierError, Unavailable

LONGEST_PAUSE_S = 5.0
FIRST_PAUSE_S = 0.1
JITTER = 0.25  # share of a pause that is drawn on top: callers that failed together do not come back together


class RetryBudget:
    """The seconds for which one operation is tried again, counted from its first failure. One object per operation.

    The first attempt is not counted: when a server dies after minutes of work, as much is left as when it was never
    there.
    """

    def __init__(self, budget_s: float) -> None:
        self.budget_s = budget_s
        self.ends_at = float("inf")

    def left_s(self) -> float:
        """Seconds left; 0 or less = stop. Ask after each failure: the first question starts the clock."""
        if self.ends_at == float("inf"):
            self.ends_at = time.monotonic() + self.budget_s
        return self.ends_at - time.monotonic()


def _summary(error: BaseException) -> str:
    """Reason and message of our own errors; of others the type alone: their text may hold a URL with a signature."""
    return f"{error.reason}: {error}" if isinstance(error, LuthierError) else type(error).__name__


def retry_policy(
    budget: float | RetryBudget,
    retry_on: Callable[[BaseException], bool] | type[BaseException] | tuple[type[BaseException], ...],
    *,
    first_s: float = FIRST_PAUSE_S,
    longest_s: float = LONGEST_PAUSE_S,
    sleep: Callable[[float], object] = time.sleep,
    log: logging.Logger | None = None,
    summary: Callable[[BaseException], str] = _summary,
) -> tenacity.Retrying:
    """The policy of one operation: call it with a function and its arguments. The last error is raised as it is.

    `budget` is in seconds from the first failure on; the last pause is cut to what is left of it. `retry_on` says after
    which errors to try again: types, or a function of the error. Pauses double from `first_s` to `longest_s`, both in
    seconds; a server's hint makes one longer, up to `longest_s`; up to a quarter is drawn on top. `sleep` waits (a
    service that stops may wait on its own event). `log` gets one line for each pause, in which `summary` names the
    error.
    """
    left = budget if isinstance(budget, RetryBudget) else RetryBudget(budget)
    growing, jitter = tenacity.wait_exponential(multiplier=first_s, max=longest_s), tenacity.wait_random(0, JITTER)

    def pause(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        hint_s = min(error.retry_after_s, longest_s) if isinstance(error, Unavailable) else 0.0
        pause_s = max(growing(state), hint_s) * (1 + jitter(state))
        return min(pause_s, left.left_s())

    def tell(state: tenacity.RetryCallState) -> None:
        if log and state.outcome and (error := state.outcome.exception()):
            log.info("%s; next attempt in %.1f s", summary(error), state.upcoming_sleep)

    matching = tenacity.retry_if_exception_type if isinstance(retry_on, type | tuple) else tenacity.retry_if_exception
    return tenacity.Retrying(
        retry=matching(retry_on),  # type: ignore[arg-type]
        wait=pause,
        stop=lambda state: state.upcoming_sleep <= 0,
        sleep=sleep,  # type: ignore[arg-type]  # what it answers is of no interest
        before_sleep=tell,
        reraise=True,
    )
