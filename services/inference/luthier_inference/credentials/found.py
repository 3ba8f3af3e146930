"""What a reader says of a file's credentials, as a message: text from outside, of which nothing is believed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference.credentials.statement import GENERATION, MADE_BY_MODEL, MADE_WITH_MODEL
from luthier_kit.bounded_json import read_json

MAX_BYTES: Final = 4 << 20
MAX_FAULTS: Final = 20
MAX_CHARS: Final = 1000
UNTRUSTED, EXPIRED = "signingCredential.untrusted", "signingCredential.expired"
UNFIT: Final = ("signingCredential.invalid", "signingCredential.ocsp.revoked")
"""What the specification's reader says of a signer's certificate. Of the file these say nothing."""
HOLDS: Final = frozenset({"claimSignature.validated", "assertion.dataHash.match"})
"""What it says of a file that is as it was signed."""
STAMP_HOLDS, STAMP_TRUSTED = "timeStamp.validated", "timeStamp.trusted"


def found_in(told: str, *, listed: bool) -> pb.FoundCredentials:
    """The message of what a reader told as JSON; `listed`: it was given a list of trusted certificates. ValueError
    where that is no manifest store.
    """
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
    good = {
        _text(_inside(each, "code")): _text(_inside(each, "explanation"))
        for each in _list(_inside(document, "validation_results", "activeManifest", "success"))
    }
    sound = good.keys() >= HOLDS and all(fault in (UNTRUSTED, EXPIRED, *UNFIT) for fault in faults)
    intact = sound or _text(document.get("validation_state")) in ("Valid", "Trusted")
    generators = _list(_inside(active, "claim_generator_info"))[:1]
    found = pb.FoundCredentials(
        finding=pb.CREDENTIALS_FINDING_INTACT if intact else pb.CREDENTIALS_FINDING_CHANGED,
        faults=[fault for fault in faults if fault != UNTRUSTED][:MAX_FAULTS],
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
    if not intact:
        return found
    found.trust = _trust(faults, listed=listed)
    stamped_at = _time(_inside(active, "signature_info", "time"))
    if STAMP_HOLDS in good and stamped_at:
        found.stamped_at.FromDatetime(stamped_at)
        found.time_authority = good[STAMP_HOLDS].partition(": ")[2]  # behind a sentence that says that it holds
        found.time_authority_trusted = STAMP_TRUSTED in good
    return found


def _trust(faults: Sequence[str], *, listed: bool) -> "pb.CredentialsTrust":
    """Whether the signer of an intact file is trusted."""
    if any(fault in UNFIT for fault in faults):
        return pb.CREDENTIALS_TRUST_UNFIT
    if EXPIRED in faults:
        return pb.CREDENTIALS_TRUST_EXPIRED
    if not listed:
        return pb.CREDENTIALS_TRUST_NOT_ASKED
    return pb.CREDENTIALS_TRUST_NOT_LISTED if UNTRUSTED in faults else pb.CREDENTIALS_TRUST_TRUSTED


def _time(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(_text(value))
    except ValueError:
        return None


def _inside(value: object, *names: str) -> object:
    """What a path of names leads to, None where it leads nowhere."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return value[:MAX_CHARS] if isinstance(value, str) else ""
