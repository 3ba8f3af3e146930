"""Sets of audio: systems of which only the audio is at hand (ground truth, other models, published samples), and what
Fréchet distances compare with. A set is an artifact, `audio-sets/<sha256>.json`; its digest stands for a model's.
"""

from collections.abc import Mapping
from typing import Final

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier_kit.rpc import Checks, InvalidRequest, in_field
from luthier_kit.store import Store

MAX_SYSTEM_ITEMS: Final = 5000
"""As many as a suite has rows."""
MAX_ITEMS: Final = 50_000
MAX_SET_BYTES: Final = 64 << 20  # 50,000 items of some 400 bytes, with names of 500 characters twice that
MAX_AUDIO_BYTES: Final = 1 << 30  # as analysis takes it
MAX_TOLD: Final = 20  # faulty items of a set that an error names
PREFIX: Final = "audio:"
"""Of the name that stands for a model's."""


def system_of(store: Store, ref: ArtifactRef, field: str, rows: int) -> pb.EvaluatedModel:
    """The system that a set is, `audio:NAME`: one item for each of the suite's `rows`.

    Raises InvalidRequest naming `field` where it is no such set, NotFound where it is not there.
    """
    found = _read(store, ref, field, MAX_SYSTEM_ITEMS)
    checks = Checks()
    checks.that(
        len(found.items) == rows,
        f"{field}.items",
        f"must be {rows}, one for each row of the suite, got {len(found.items)}",
    )
    checks.done()
    return pb.EvaluatedModel(model=f"{PREFIX}{found.name}", model_digest=f"sha256:{ref.sha256}", audio=ref)


def check_references(store: Store, ref: ArtifactRef) -> None:
    """Raises as `system_of` where the artifact is no set that distances can be taken from."""
    _read(store, ref, "reference_audio", MAX_ITEMS)


def sets_of(store: Store, plan: pb.EvaluationPlan) -> Mapping[str, pb.AudioSet]:
    """The sets that stand in place of models, by the name of the system."""
    return {model.model: store.get(pb.AudioSet, model.audio) for model in plan.models if model.HasField("audio")}


def _read(store: Store, ref: ArtifactRef, field: str, most: int) -> pb.AudioSet:
    with in_field(field):
        found = store.get(pb.AudioSet, ref, reason="AUDIO_SET_INVALID")
    checks = Checks(f"{field}.")
    checks.text("name", found.name, max_chars=100, blank=False)
    checks.that(found.name.isprintable(), "name", "must have no characters that do not print")
    for at, item in checks.items("items", found.items, 1, most):
        checks.artifact(f"{at}.audio", item.audio, max_bytes=MAX_AUDIO_BYTES)
        checks.text(f"{at}.name", item.name, max_chars=500)
        if len(checks.violations) > MAX_TOLD:
            break
    if checks.violations:
        raise InvalidRequest(reason="AUDIO_SET_INVALID", violations=checks.violations)
    return found
