"""Append-only series `<name>/<n>.json`, n = 1, 2, 3, …: runs, model versions, data sets. The newest entry is the state.

Each entry is created conditionally on the number after the newest, so numbers have no gaps, no entry is ever
overwritten, and of two writers racing for a number one takes the next.
"""

import re
import uuid
from typing import Generic

from google.protobuf.json_format import ParseError

from luthier.store.v1.store_pb2 import SeriesEntry
from luthier_kit.bounded_json import read_json
from luthier_kit.rpc import DataLoss
from luthier_kit.store._documents import M, OldForm, from_value, to_json
from luthier_kit.store._objects import ObjectStore

MAX_ENTRY_BYTES = 16 << 20
_NUMBERED = re.compile(r"([1-9][0-9]*)\.json")


class Series(Generic[M]):
    """The series of one name, whose documents are messages of one type.

    `old_form` reads a document of an entry that was stored before documents were messages; without it such a document
    is read as the message's JSON.
    """

    def __init__(self, objects: ObjectStore, kind: type[M], name: str, old_form: OldForm[M] | None = None) -> None:
        self._objects, self.kind, self.name, self._old_form = objects, kind, name, old_form

    def append(self, document: M, after: int = 0) -> int:
        """Add a document behind the newest, whatever others add meanwhile; returns its number.

        `after` is a number known to exist: it saves the search for the newest.
        """
        number = (after or self._newest()) + 1
        while not self.append_at(number, document):
            number += 1
        return number

    def append_at(self, number: int, document: M) -> bool:
        """Add a document as entry `number`, which must follow the newest known; False when someone else has it."""
        entry = SeriesEntry(commit=uuid.uuid4().hex)
        entry.written_at.GetCurrentTime()
        entry.document.Pack(document)
        data = to_json(entry)
        if len(data) > MAX_ENTRY_BYTES:
            raise ValueError(f"{self.name}: an entry has at most {MAX_ENTRY_BYTES} bytes, this one {len(data)}")
        return self._objects.create(self._key(number), data)

    def entry(self, number: int) -> M | None:
        """Entry `number`, None when there is none yet. DataLoss ENTRY_CORRUPT when it is none of this series."""
        key = self._key(number)
        data = self._objects.get(key, MAX_ENTRY_BYTES)
        if data is None:
            return None
        try:
            value = read_json(data, max_bytes=MAX_ENTRY_BYTES)["document"]
            if "@type" not in value:
                return from_value(self.kind, value, self._old_form)
            if value["@type"].rpartition("/")[2] != self.kind.DESCRIPTOR.full_name:
                raise ValueError(f"it holds a {value['@type']}")
            return from_value(self.kind, {name: item for name, item in value.items() if name != "@type"})
        except (ValueError, KeyError, TypeError, AttributeError, ParseError) as error:
            raise DataLoss(f"{key} is no entry of this series: {error}", reason="ENTRY_CORRUPT") from None

    def latest(self) -> tuple[int, M] | None:
        """The newest entry with its number, None when the series is empty."""
        while number := self._newest():
            document = self.entry(number)
            if document is not None:  # else: a heartbeat, deleted since the listing
                return number, document
        return None

    def entries(self, after: int = 0) -> list[tuple[int, M]]:
        """All entries behind number `after`, in order. Nothing new costs one request."""
        found: list[tuple[int, M]] = []
        while (document := self.entry(number := after + len(found) + 1)) is not None:
            found.append((number, document))
        return found

    def delete(self, number: int) -> None:
        """Remove an entry that is not needed any more (progress, heartbeats); an absent one is fine."""
        self._objects.delete(self._key(number))

    def delete_all(self) -> None:
        """Remove every entry."""
        for key in list(self._objects.keys(f"{self.name}/")):
            self._objects.delete(key)

    def _newest(self) -> int:
        keys = (key.rsplit("/", 1) for key in self._objects.keys(f"{self.name}/"))
        numbers = (_NUMBERED.fullmatch(last) for folder, last in keys if folder == self.name)
        return max((int(match[1]) for match in numbers if match), default=0)

    def _key(self, number: int) -> str:
        return f"{self.name}/{number}.json"
