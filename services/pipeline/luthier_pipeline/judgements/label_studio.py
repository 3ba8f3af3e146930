"""Label Studio: tasks to import there with the interface that shows them, and its JSON export.

A task's `data` names the clip and shows its facts; what people here think of it are predictions, each of a
`model_version` that is the reviewer's name, which anybody may correct. The export is the format that Label Studio calls
JSON: tasks with `annotations`; each is one person's. https://labelstud.io/guide/task_format, guide/export
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from xml.sax.saxutils import quoteattr

from luthier.curation.v1.curation_pb2 import CuratedClip, ImportedOpinion, Opinion
from luthier_pipeline.judgements.facts import described
from luthier_pipeline.judgements.opinions import (
    MAX_RATING,
    REASON_NAMES,
    REASONS,
    VERDICT_NAMES,
    VERDICTS,
    Answers,
    imported,
    mapping,
    number_of,
    objects,
    text_of,
)

VERDICT, REASON, RATING, REMARK, PROMPTS = "verdict", "reason", "rating", "remark", "prompts"
AUDIO: Final = "audio"


def interface() -> str:
    """The labelling interface (XML) of the tasks."""

    def choices(name: str, values: Sequence[str], more: str = "") -> str:
        inner = "".join(f"<Choice value={quoteattr(value)}/>" for value in values)
        return f'  <Choices name="{name}" toName="{AUDIO}" choice="single-radio"{more}>{inner}</Choices>'

    return "\n".join((
        "<View>",
        '  <Header value="$title"/>',
        f'  <Audio name="{AUDIO}" value="$audio"/>',
        '  <Text name="facts" value="$facts"/>',
        '  <Text name="captions" value="$captions"/>',
        choices(VERDICT, list(VERDICTS), ' required="true"'),
        choices(REASON, list(REASONS), f' visibleWhen="choice-selected" whenTagName="{VERDICT}" '
                                       'whenChoiceValue="rejected"'),
        f'  <Rating name="{RATING}" toName="{AUDIO}" maxRating="{MAX_RATING}"/>',
        f'  <TextArea name="{PROMPTS}" toName="{AUDIO}" placeholder="Better captions" maxSubmissions="16"/>',
        f'  <TextArea name="{REMARK}" toName="{AUDIO}" placeholder="Remark" maxSubmissions="1"/>',
        "</View>",
        "",
    ))  # fmt: skip


def task(clip: CuratedClip, audio: str) -> dict[str, object]:
    """A clip as a task; `audio` is the address at which Label Studio plays it."""
    facts = described(clip)
    return {
        "data": {
            "audio": audio,
            "clip_id": clip.clip_id,
            "collection": clip.collection,
            "title": facts.title,
            "facts": facts.text,
            "captions": "\n".join(prompt.text for prompt in clip.prompts),
        },
        "predictions": [
            {"model_version": opinion.reviewer, "result": _result(opinion)} for opinion in clip.opinions
        ],
    }  # fmt: skip


def _result(opinion: Opinion) -> list[dict[str, object]]:
    found = [_region(VERDICT, "choices", {"choices": [VERDICT_NAMES[opinion.verdict]]})]
    if opinion.reason:
        found.append(_region(REASON, "choices", {"choices": [REASON_NAMES[opinion.reason]]}))
    if opinion.rating:
        found.append(_region(RATING, "rating", {"rating": opinion.rating}))
    if opinion.remark:
        found.append(_region(REMARK, "textarea", {"text": [opinion.remark]}))
    return found


def _region(name: str, kind: str, value: Mapping[str, object]) -> dict[str, object]:
    return {"from_name": name, "to_name": AUDIO, "type": kind, "value": dict(value)}


def opinions(document: object, names: Mapping[str, str]) -> Iterator[ImportedOpinion]:
    """The opinions in an export. Annotations that were cancelled (skipped), or that give no verdict, are passed over.
    UsageError names what cannot be meant. `names` are those of users by their number or address."""
    for index, exported in enumerate(objects("the file", document)):
        place = f"[{index}]"
        clip_id = mapping(f"{place}.data", exported.get("data")).get("clip_id")
        for number, annotation in enumerate(objects(f"{place}.annotations", exported.get("annotations", []))):
            at = f"{place}.annotations[{number}]"
            answers = _answers(at, annotation)
            if not annotation.get("was_cancelled") and answers.verdict:
                yield imported(at, clip_id, _reviewer(at, annotation, names), answers)


def _reviewer(place: str, annotation: Mapping[str, object], names: Mapping[str, str]) -> str:
    """Who annotated: a number, or an object with address and number."""
    user = annotation.get("completed_by")
    if isinstance(user, dict):
        email, number = str(user.get("email") or ""), str(user.get("id") or "")
        return names.get(email) or names.get(number) or email or f"label-studio user {number}"
    number = str(number_of(f"{place}.completed_by", user))
    return names.get(number, f"label-studio user {number}")


def _answers(place: str, annotation: Mapping[str, object]) -> Answers:
    """The answers of an annotation; regions of other controls are passed over."""
    verdict, reason, rating, remark, prompts = "", "", 0, "", list[str]()
    for index, region in enumerate(objects(f"{place}.result", annotation.get("result", []))):
        at = f"{place}.result[{index}].value"
        value = mapping(at, region.get("value"))
        match region.get("from_name"):
            case "verdict":
                verdict = _chosen(at, value)
            case "reason":
                reason = _chosen(at, value)
            case "rating":
                rating = number_of(f"{at}.rating", value.get("rating"))
            case "remark":
                remark = "\n".join(_texts(f"{at}.text", value.get("text")))
            case "prompts":
                prompts += _texts(f"{at}.text", value.get("text"))
    return Answers(verdict, reason, rating, remark, prompts)


def _chosen(place: str, value: Mapping[str, object]) -> str:
    return next(iter(_texts(f"{place}.choices", value.get("choices"))), "")


def _texts(place: str, value: object) -> list[str]:
    """A list of texts, or one alone."""
    items = value if isinstance(value, list) else [value]
    return [text_of(f"{place}[{index}]", item) for index, item in enumerate(items)]
