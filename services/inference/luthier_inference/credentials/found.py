"""What a reader says of a file's credentials, as a message: text from outside, of which nothing is believed."""

from collections.abc import Sequence
from typing import Final

from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference.credentials.statement import GENERATION, MADE_BY_MODEL, MADE_WITH_MODEL
from luthier_kit.bounded_json import read_json

MAX_BYTES: Final = 4 << 20
MAX_FAULTS: Final = 20
MAX_CHARS: Final = 1000
NO_TRUST: Final = "signingCredential.untrusted"
"""A fault that only says that no list of trusted certificates was asked."""


def found_in(told: str) -> pb.FoundCredentials:
    """The message of what a reader told as JSON. ValueError where that is no manifest store."""
    document = read_json(told.encode(), max_bytes=MAX_BYTES)
    if not isinstance(document, dict):
        raise ValueError("is no manifest store")
    active = _inside(document, "manifests", _text(document.get("active_manifest")))
    assertions = {_text(_inside(each, "label")): _inside(each, "data") for each in _list(_inside(active, "assertions"))}
    actions = [action for label, data in assertions.items() if label.startswith("c2pa.actions") for action in
               _list(_inside(data, "actions"))]  # fmt: skip
    sources = {_text(_inside(action, "digitalSourceType")) for action in actions}
    made = assertions.get(GENERATION)
    faults = [_text(_inside(each, "code")) for each in _list(document.get("validation_status"))]
    state = _text(document.get("validation_state"))
    generators = _list(_inside(active, "claim_generator_info"))[:1]
    return pb.FoundCredentials(
        finding=pb.CREDENTIALS_FINDING_INTACT if state in ("Valid", "Trusted") else pb.CREDENTIALS_FINDING_CHANGED,
        faults=[fault for fault in faults if fault != NO_TRUST][:MAX_FAULTS],
        issuer=_text(_inside(active, "signature_info", "issuer")),
        made_by_model=not sources.isdisjoint({MADE_BY_MODEL, MADE_WITH_MODEL}),
        model=_text(_inside(made, "model")),
        model_digest=_text(_inside(made, "model_digest")),
        seed=_text(_inside(made, "seed")),
        action_key=_text(_inside(made, "action")),
        claim_generator=" ".join(filter(None, (
            _text(_inside(each, name)) for each in generators for name in ("name", "version")
        ))),
    )  # fmt: skip


def _inside(value: object, *names: str) -> object:
    """What a path of names leads to, None where it leads nowhere."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return value[:MAX_CHARS] if isinstance(value, str) else ""
