"""Request ids: a repeated call is the same request, or it is refused.

What an id asked first is forgotten as the audio is that it made (`luthier gc`, after a week): from then on the id is as
good as new.
"""

import hashlib
from typing import Final

from google.protobuf.message import Message

from luthier.store.v1.store_pb2 import RequestClaim
from luthier_kit.rpc import FailedPrecondition, current_caller
from luthier_kit.store import Store

REQUESTS: Final = "requests/"
"""Where request ids are in the store."""


def claim_request(store: Store, kind: str, request_id: str, request: Message) -> None:
    """Binds a caller's request id to what it asked first; `request` without its id.

    FailedPrecondition REQUEST_ID_REUSED when that was something else. It is not recorded as an action's outcome.
    """
    asked = hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()
    owner = hashlib.sha256(f"{current_caller.get()}\0{request_id}".encode()).hexdigest()
    series = store.series(RequestClaim, f"{REQUESTS}{kind}/{owner}")
    if series.append_at(1, RequestClaim(request_sha256=asked)):
        return
    first = series.entry(1)
    if first and first.request_sha256 != asked:
        text = f"request id {request_id!r} asked for something else before; use a new one"
        raise FailedPrecondition(text, reason="REQUEST_ID_REUSED")
