"""Numbers of steps that the device may still compute: they are taken one step late, so that no step waits for them."""

from collections.abc import Callable

import torch


class Pending:
    """Numbers (any,) of one step on their way from the device.

    Reading them waits for that step alone, not for what the device was given to do since.
    """

    def __init__(self, step: int, learning_rate: float, numbers: torch.Tensor) -> None:
        self.step, self.learning_rate = step, learning_rate
        self._numbers = numbers.to("cpu", non_blocking=True)  # from a GPU into pinned memory
        self._copied = torch.cuda.Event() if numbers.is_cuda else None  # type: ignore[no-untyped-call]
        if self._copied is not None:
            self._copied.record()

    def read(self) -> list[float]:
        """The numbers."""
        if self._copied is not None:
            self._copied.synchronize()
        values: list[float] = self._numbers.tolist()
        return values


class OneStepLate:
    """Hands each step's numbers to `take` when the next step's are there, or when they are wanted.

    `take` says whether the run should stop, which is what both methods return.
    """

    def __init__(self, take: Callable[[Pending], bool]) -> None:
        self._take = take
        self._newest: Pending | None = None

    def add(self, step: Pending) -> bool:
        """A step is given to the device: the numbers of the one before are taken."""
        stop = self.finish()
        self._newest = step
        return stop

    def finish(self) -> bool:
        """Takes the numbers of the newest step, if they were not."""
        step, self._newest = self._newest, None
        return step is not None and self._take(step)
