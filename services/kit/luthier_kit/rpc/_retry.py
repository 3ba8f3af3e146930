"""One way to try again: exponential pauses with jitter inside a budget of seconds, by tenacity.

A purpose has one policy: a `Channel` has that of calls, the store that of its requests; who waits for anything else (a
database, a provider, an API) makes one by `retry_policy`.
"""

import logging
import time
from collections.abc import Callable

import tenacity

from luthier_kit.rpc._errors import LuthierError, Unavailable

LONGEST_PAUSE_S = 5.0
FIRST_PAUSE_S = 0.1


class RetryBudget:
    """The seconds that one operation may go on after its first failure. One object serves one operation.

    The first attempt is not counted: a server that dies after minutes of work leaves as much as one that was never
    there.
    """

    def __init__(self, budget_s: float) -> None:
        self.budget_s = budget_s
        self.ends_at = float("inf")

    def left_s(self) -> float:
        """What is left, asked after each failure; 0 or less = stop."""
        if self.ends_at == float("inf"):
            self.ends_at = time.monotonic() + self.budget_s
        return self.ends_at - time.monotonic()


def retry_policy(
    budget: float | RetryBudget,
    retry_on: Callable[[BaseException], bool] | type[BaseException] | tuple[type[BaseException], ...],
    *,
    first_s: float = FIRST_PAUSE_S,
    longest_s: float = LONGEST_PAUSE_S,
    sleep: Callable[[float], object] = time.sleep,
    log: logging.Logger | None = None,
) -> tenacity.Retrying:
    """The policy of one operation: call it with a function and its arguments. The last error is raised as it is.

    `budget` is in seconds from the first failure on; the last pause is cut to what is left of it. `retry_on` says which
    errors pass. Pauses grow from `first_s` to `longest_s`, both in seconds, and are never shorter than a server's hint.
    `sleep` waits (a service that stops may wait on its own event). `log` gets one line for each pause.
    """
    left = budget if isinstance(budget, RetryBudget) else RetryBudget(budget)
    growing = tenacity.wait_exponential(multiplier=first_s, max=longest_s)

    def pause(state: tenacity.RetryCallState) -> float:
        pause_s = growing(state) * (1 + 0.25 * tenacity.wait_random(0, 1)(state))
        error = state.outcome.exception() if state.outcome else None
        hint_s = error.retry_after_s if isinstance(error, Unavailable) else 0.0
        return min(max(pause_s, min(hint_s, longest_s)), left.left_s())

    def tell(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if log:
            log.info("%s; next attempt in %.1f s", _summary(error), state.upcoming_sleep)

    matching = tenacity.retry_if_exception_type if isinstance(retry_on, type | tuple) else tenacity.retry_if_exception
    return tenacity.Retrying(
        retry=matching(retry_on),  # type: ignore[arg-type]
        wait=pause,
        stop=lambda state: state.upcoming_sleep <= 0,
        sleep=sleep,  # type: ignore[arg-type]  # what it answers is of no interest
        before_sleep=tell,
        reraise=True,
    )


def _summary(error: BaseException | None) -> str:
    """Our own errors tell themselves; what a library says may hold a URL with a signature, so only its type is told."""
    return f"{error.reason}: {error}" if isinstance(error, LuthierError) else type(error).__name__
