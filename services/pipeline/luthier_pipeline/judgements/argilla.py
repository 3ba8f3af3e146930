"""Argilla 2: records and settings as its `Dataset.from_disk` reads them, and records as it writes them.

A record's id is the clip's. What was decided here is a suggestion to every question, by the `agent` who decided;
answers are `responses`, each of a user by their UUID. https://docs.argilla.io/latest/how_to_guides/import_export
"""

import html
from collections.abc import Iterator, Mapping
from typing import Final

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

FEWEST_VISIBLE: Final = 3
"""Options that Argilla lets one say are shown at once; all of fewer are."""
DISCARDED: Final = "discarded"
DRAFT: Final = "draft"
QUESTIONS: Final = ("verdict", "reason", "rating", "prompt", "remark")


def settings() -> dict[str, object]:
    """What the data set asks and shows, as Argilla's `Settings.from_json` reads it."""
    return {
        "guidelines": "Listen to the clip. Accept what a model should learn from; say why where you reject it.",
        "allow_extra_metadata": True,
        "fields": [
            _field("title", "Song", markdown=False),
            _field("audio", "Clip", markdown=True),
            _field("facts", "Facts", markdown=False),
            _field("captions", "Captions", markdown=False),
        ],
        "questions": [
            _choice("verdict", "Verdict", list(VERDICTS), required=True),
            _choice("reason", "Rejected because", list(REASONS), required=False),
            {
                "name": "rating", "title": "Rating", "description": None, "required": False,
                "settings": {"type": "rating", "options": [{"value": value} for value in range(1, MAX_RATING + 1)]},
            },
            _text("prompt", "A better caption"),
            _text("remark", "Remark"),
        ],
        "metadata": [{
            "name": "collection", "title": "Collection", "visible_for_annotators": True,
            "settings": {"type": "terms", "values": None},
        }],
        "vectors": [],
    }  # fmt: skip


def _field(name: str, title: str, *, markdown: bool) -> dict[str, object]:
    return {"name": name, "title": title, "required": True, "settings": {"type": "text", "use_markdown": markdown}}


def _choice(name: str, title: str, values: list[str], *, required: bool) -> dict[str, object]:
    options = [{"value": value, "text": value.replace("_", " "), "description": None} for value in values]
    visible = len(values) if len(values) >= FEWEST_VISIBLE else None
    chosen = {"type": "label_selection", "options": options, "visible_options": visible}
    return {"name": name, "title": title, "description": None, "required": required, "settings": chosen}


def _text(name: str, title: str) -> dict[str, object]:
    return {
        "name": name, "title": title, "description": None, "required": False,
        "settings": {"type": "text", "use_markdown": False},
    }  # fmt: skip


def record(clip: CuratedClip, audio: str) -> dict[str, object]:
    """A clip as a record; `audio` is the address at which the browser plays it. Argilla takes one suggestion for a
    question: the newest opinion's."""
    facts = described(clip)
    newest = max(clip.opinions, key=lambda opinion: opinion.at.ToMilliseconds(), default=None)
    return {
        "id": clip.clip_id,
        "fields": {
            "title": facts.title,
            "audio": f'<audio controls src="{html.escape(audio)}"></audio>',
            "facts": facts.text,
            "captions": "\n".join(prompt.text for prompt in clip.prompts) or "none",
        },
        "metadata": {"collection": clip.collection},
        "suggestions": _suggestions(newest) if newest else {},
        "responses": {},
        "vectors": {},
    }


def _suggestions(opinion: Opinion) -> dict[str, object]:
    answers: dict[str, object] = {"verdict": VERDICT_NAMES[opinion.verdict]}
    if opinion.reason:
        answers["reason"] = REASON_NAMES[opinion.reason]
    if opinion.rating:
        answers["rating"] = opinion.rating
    if opinion.remark:
        answers["remark"] = opinion.remark
    return {
        name: {"value": value, "score": None, "agent": opinion.reviewer, "type": "human"}
        for name, value in answers.items()
    }


def opinions(document: object, names: Mapping[str, str]) -> Iterator[ImportedOpinion]:
    """The opinions in a file of records. Responses that were discarded or are drafts, and users without a verdict, are
    passed over. UsageError names what cannot be meant. `names` are those of users by their UUID."""
    for index, exported in enumerate(objects("the file", document)):
        place = f"[{index}]"
        answered: dict[str, dict[str, object]] = {}
        responses = mapping(f"{place}.responses", exported.get("responses"))
        for question in QUESTIONS:
            given = objects(f"{place}.responses.{question}", responses.get(question) or [])
            for number, response in enumerate(given):
                if response.get("status") not in (DISCARDED, DRAFT):
                    user = text_of(f"{place}.responses.{question}[{number}].user_id", response.get("user_id"))
                    answered.setdefault(user, {})[question] = response.get("value")
        for user, answers in answered.items():
            if answers.get("verdict"):
                name = names.get(user, f"argilla user {user}")
                yield imported(place, exported.get("id"), name, _answers(f"{place}.responses", answers))


def _answers(place: str, given: Mapping[str, object]) -> Answers:
    def said(question: str) -> str:
        value = given.get(question)
        return "" if value is None else text_of(f"{place}.{question}", value)

    rating = given.get("rating")
    return Answers(
        verdict=said("verdict"),
        reason=said("reason"),
        rating=0 if rating is None else number_of(f"{place}.rating", rating),
        remark=said("remark"),
        prompts=[said("prompt")],
    )
