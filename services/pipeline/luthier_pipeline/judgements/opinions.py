"""Opinions as other tools write them: names, numbers and words from outside, each fault named with its place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from luthier.curation.v1.curation_pb2 import (
    VERDICT_ACCEPTED,
    VERDICT_REJECTED,
    ImportedOpinion,
    Opinion,
    RejectReason,
    Verdict,
)
from luthier_pipeline.console import UsageError

VERDICTS: Final[dict[str, Verdict]] = {"accepted": VERDICT_ACCEPTED, "rejected": VERDICT_REJECTED}
REASONS: Final[dict[str, RejectReason]] = {
    name.removeprefix("REJECT_REASON_").lower(): cast("RejectReason", number)
    for name, number in RejectReason.items()
    if number
}
REASON_NAMES: Final = {number: name for name, number in REASONS.items()}
VERDICT_NAMES: Final = {number: name for name, number in VERDICTS.items()}
MAX_RATING: Final = 5


@dataclass(frozen=True)
class Answers:
    """What one person answered about a clip; empty and 0 = not said."""

    verdict: str = ""
    reason: str = ""
    rating: int = 0
    remark: str = ""
    prompts: Sequence[str] = field(default_factory=tuple)


def imported(place: str, clip_id: object, reviewer: str, answers: Answers) -> ImportedOpinion:
    """The opinion as curation takes it. UsageError names the place and what is wrong there."""
    if not isinstance(clip_id, str) or not clip_id:
        raise UsageError(f"{place}: clip_id must name a clip")
    if answers.verdict not in VERDICTS:
        raise UsageError(f"{place}: verdict must be one of {', '.join(VERDICTS)}, got {answers.verdict[:80]!r}")
    if answers.reason and answers.reason not in REASONS:
        raise UsageError(f"{place}: reason must be one of {', '.join(REASONS)}, got {answers.reason[:80]!r}")
    if not 0 <= answers.rating <= MAX_RATING:
        raise UsageError(f"{place}: rating must be between 1 and {MAX_RATING}, got {answers.rating}")
    rejected = answers.verdict == "rejected"  # a reason that a form still shows after a change of mind is none
    return ImportedOpinion(
        clip_id=clip_id,
        opinion=Opinion(
            reviewer=reviewer,
            verdict=VERDICTS[answers.verdict],
            reason=REASONS[answers.reason] if answers.reason and rejected else None,
            rating=answers.rating,
            remark=answers.remark,
        ),
        prompts=[text for text in answers.prompts if text.strip()],
    )


def reviewer_names(entries: Sequence[str]) -> dict[str, str]:
    """Names of the other tool's users, from `ID=NAME`. UsageError for an entry that is none."""
    found = {}
    for entry in entries:
        user, equals, name = entry.partition("=")
        if not (user and equals and name.strip()):
            raise UsageError(f"--reviewer {entry!r} must be ID=NAME")
        found[user] = name.strip()
    return found


def objects(place: str, value: object) -> list[Mapping[str, object]]:
    """A list of JSON objects. UsageError."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise UsageError(f"{place} must be a list of objects")
    return value


def mapping(place: str, value: object) -> Mapping[str, object]:
    """A JSON object; nothing (null) is an empty one. UsageError."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"{place} must be an object")
    return value


def text_of(place: str, value: object) -> str:
    """A text. UsageError."""
    if not isinstance(value, str):
        raise UsageError(f"{place} must be a text")
    return value


def number_of(place: str, value: object) -> int:
    """A whole number. UsageError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise UsageError(f"{place} must be a whole number")
    return int(value)
