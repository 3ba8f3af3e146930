"""Append-only series `<name>/<n>.json`, n = 1, 2, 3, …: runs and model versions. The newest document is the state.

Each entry is created conditionally on the number after the newest, so numbers have no gaps, no entry is ever
overwritten, and of two writers racing for a number one takes the next.
"""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, datetime
from typing import Any

from luthier_kit.artifacts.objects import ObjectStore
from luthier_kit.errors import DataLoss

Document = dict[str, Any]
MAX_ENTRY_BYTES = 16 << 20
_NUMBERED = re.compile(r"([1-9][0-9]*)\.json")


class Series:
    """Series of JSON documents in one bucket."""

    objects: ObjectStore

    def append(self, name: str, document: Document, after: int = 0) -> int:
        """Add a document behind the newest, whatever others add meanwhile; returns its number.

        `after` is a number known to exist: it saves the search for the newest.
        """
        number = (after or self._newest(name)) + 1
        while not self.append_at(name, number, document):
            number += 1
        return number

    def append_at(self, name: str, number: int, document: Document) -> bool:
        """Add a document as entry `number`, which must follow the newest known; False when someone else has it."""
        entry = {
            "commit": uuid.uuid4().hex,
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "document": document,
        }
        data = json.dumps(entry, indent=1, ensure_ascii=False, allow_nan=False).encode()
        if len(data) > MAX_ENTRY_BYTES:
            raise ValueError(f"{name}: an entry has at most {MAX_ENTRY_BYTES} bytes, this one {len(data)}")
        return self.objects.create(_key(name, number), data)

    def entry(self, name: str, number: int) -> Document | None:
        """Entry `number`, None when there is none yet."""
        key = _key(name, number)
        data = self.objects.get(key, MAX_ENTRY_BYTES)
        if data is None:
            return None
        try:
            document = json.loads(data)["document"]
        except (ValueError, KeyError, TypeError):
            raise DataLoss(f"{key} is not a series entry", reason="ENTRY_CORRUPT") from None
        return dict(document)

    def latest(self, name: str) -> tuple[int, Document] | None:
        """The newest entry with its number, None for a series that nobody began."""
        while number := self._newest(name):
            document = self.entry(name, number)
            if document is not None:  # else: a heartbeat, swept since the listing
                return number, document
        return None

    def series(self, name: str, after: int = 0) -> list[tuple[int, Document]]:
        """All entries behind number `after`, in order. Nothing new costs one request."""
        found: list[tuple[int, Document]] = []
        while (document := self.entry(name, number := after + len(found) + 1)) is not None:
            found.append((number, document))
        return found

    def names(self, prefix: str) -> list[str]:
        """Names directly below a folder that begin as `prefix` says, e.g. `models/` or `runs/training-`."""
        folder, slash, start = prefix.rpartition("/")
        return [name for name in self.objects.children(folder + slash) if name.startswith(start)]

    def _newest(self, name: str) -> int:
        keys = (key.rsplit("/", 1) for key in self.objects.keys(f"{name}/"))
        numbers = (_NUMBERED.fullmatch(last) for folder, last in keys if folder == name)
        return max((int(match[1]) for match in numbers if match), default=0)


def _key(name: str, number: int) -> str:
    return f"{name}/{number}.json"
