"""The callers that may come in by a token: one file each, named as the caller, with digests of its tokens.

A line is `sha256:` and 64 hex digits; several lines are several tokens, so that one can be replaced while both are
good. Empty lines and comments (`#`) are skipped, and so are files whose name starts with a dot.
"""

import hashlib
import hmac
import logging
import re
from collections.abc import Iterator
from pathlib import Path

from luthier_kit.reread import Reread
from luthier_kit.settings import SettingsError

log = logging.getLogger(__name__)
LINE = re.compile(r"sha256:([0-9a-fA-F]{64})")


class Tokens:
    """Knows callers by their tokens. The folder is read again when it is changed."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise SettingsError(f"LUTHIER_CALLERS {folder} is not a folder")
        try:
            faults = list(self._faults())
            self._known = Reread(self._watched, self._read)
        except (OSError, ValueError) as error:
            raise SettingsError(f"LUTHIER_CALLERS cannot be read: {error}") from None
        if faults:
            raise SettingsError("\n".join(f"LUTHIER_CALLERS {fault}" for fault in faults))
        if not self._known():
            log.warning("LUTHIER_CALLERS %s names no caller: every call will be refused", folder)

    def caller(self, token: str) -> str | None:
        """Whose token it is; None for nobody's. Every digest is compared, in constant time."""
        digest, found = hashlib.sha256(token.encode()).digest(), None
        for known, name in self._known():
            if hmac.compare_digest(known, digest):
                found = name
        return found

    def _files(self) -> list[Path]:
        return sorted(p for p in self._folder.iterdir() if not p.name.startswith(".") and p.is_file())

    def _watched(self) -> list[Path]:
        return [self._folder, *self._files()] if self._folder.is_dir() else [self._folder]

    def _lines(self) -> Iterator[tuple[str, int, str]]:
        for path in self._files():
            for number, line in enumerate(path.read_text().splitlines(), 1):
                if line.strip() and not line.startswith("#"):
                    yield path.name, number, line.strip()

    def _faults(self) -> Iterator[str]:
        """What is wrong, without the line itself: someone may have put the token there."""
        for name, number, line in self._lines():
            if not LINE.fullmatch(line):
                yield f"{name}, line {number}: must be sha256:<64 hex digits of the SHA-256 of a token>"

    def _read(self) -> list[tuple[bytes, str]]:
        """Digests and names. A line that is wrong does not keep what is right in it from counting (or from going)."""
        for fault in self._faults():
            log.error("LUTHIER_CALLERS %s", fault)
        found = ((LINE.fullmatch(line), name) for name, _, line in self._lines())
        return [(bytes.fromhex(match[1]), name) for match, name in found if match]
