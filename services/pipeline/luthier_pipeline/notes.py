"""Notes below `songs/`: what a run found out that the next one need not ask again.

None is needed: where the store refuses one, as it does a key whose policy is of an older version, everything is asked.
"""

import logging
from typing import Final, TypeVar

from google.protobuf.message import Message

from luthier_kit.rpc import LuthierError, PermissionDenied, Unavailable
from luthier_kit.store import Store

log = logging.getLogger(__name__)
M = TypeVar("M", bound=Message)
ROOT: Final = "songs/"
REFUSED: Final = frozenset({"STORE_ACCESS_DENIED", "STORE_CREDENTIALS_REFUSED"})
"""Why a store gives no note to this key: its policy has no `songs/`, or the store takes the key for nothing at all."""


def folder_of(collection: str) -> str:
    """Below which the notes of a collection lie."""
    return f"{ROOT}{collection}/"


def find_note(store: Store, kind: type[M], key: str) -> M | None:
    """A note that an earlier run kept."""
    try:
        return store.note(kind, key)
    except (PermissionDenied, Unavailable) as error:
        if error.reason not in REFUSED:
            raise
        return None


def keep_note(store: Store, key: str, note: Message) -> None:
    """Keeps a note for the next run, in place of the one before."""
    try:
        store.put_note(key, note)
    except LuthierError as error:
        log.warning("%s is not kept, the next run asks again: %s", key, error)
