"""What went wrong with one file, and what ends a whole run."""

from dataclasses import dataclass

from luthier_kit.errors import LuthierError, PermissionDenied, Unauthenticated, Unavailable, Unimplemented


@dataclass(frozen=True)
class Failure:
    """A file that could not be used: `stage` where it failed, `reason` the stable ErrorInfo reason."""

    path: str
    stage: str
    reason: str
    message: str


class StageError(Exception):
    """A stage of a song failed for good."""

    def __init__(self, stage: str, error: LuthierError) -> None:
        super().__init__(f"{stage}: {error}")
        self.stage = stage
        self.error = error


def fatal(error: LuthierError) -> bool:
    """True when no song can go on: a service or the store stays away, or lets nobody in."""
    return isinstance(error, Unavailable | Unauthenticated | PermissionDenied | Unimplemented)
