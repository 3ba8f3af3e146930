"""Estimators that are extras of this project: whether one is installed, and the files that its package ships."""

import functools
import hashlib
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Final

BEATNET: Final = "BeatNet"  # names of packages
VIBENET: Final = "vibenet"


class NoEstimate(Exception):
    """Why an extra gives no answer."""


@functools.cache  # a millisecond or two, and each call asks
def identity(package: str) -> str:
    """Version of an installed package, or `absent`: whether the same question may be answered anew turns on it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def shipped(package: str, path: str, sha256: str) -> bytes:
    """A file of an installed package, without importing the package; the bytes that are checked are those returned.

    Raises NoEstimate where the package or file is absent, or the file is another one.
    """
    try:
        data = Path(str(distribution(package).locate_file(path))).read_bytes()
    except PackageNotFoundError as error:
        raise NoEstimate(f"the extra '{package.lower()}' is not installed") from error
    except OSError as error:
        raise NoEstimate(f"its weights cannot be read ({error.strerror})") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise NoEstimate(f"its weights have another SHA-256 than those of the {package} that is known")
    return data
