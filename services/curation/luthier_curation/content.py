"""What a clip holds, and the rules by which the pipeline's values and people's edits meet.

Facts, prompts, tags and references are the contract's messages in protobuf's JSON form with snake_case names
(`common.proto` says what each field means), so the domain needs no protobuf and new fields pass through.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from luthier_music.instruments import DRUMS, PROGRAM_NAMES, family_of, program_of

Json = dict[str, Any]
PERSON = "person"
EDITABLE_FACTS = ("instruments", "tempo", "key")
HEARD = ("audio_sha256", "facts", "prompts")
"""What a verdict was about: when one of these changes, the verdict opens again."""


@dataclass(frozen=True)
class NewClip:
    """A clip as the pipeline sends it."""

    source: Json
    audio: Json
    facts: Json
    tags: list[Json]
    prompts: list[Json]
    lineage: Json

    @property
    def start_ms(self) -> int:
        """Start in the song, rounded to the millisecond: a part of the identity."""
        return round(self.source["span"].get("start_s", 0.0) * 1000)

    @property
    def end_ms(self) -> int:
        """End in the song, rounded to the millisecond."""
        return round(self.source["span"]["end_s"] * 1000)

    def incoming(self) -> Json:
        """What an edit may later hide: kept beside it."""
        return {"facts": self.facts, "prompts": self.prompts}


def clip_id(collection: str, song_fingerprint: str, start_ms: int, end_ms: int) -> str:
    """`clip-` and 24 hexadecimal digits of the digest of the identity."""
    identity = json.dumps([collection, song_fingerprint, start_ms, end_ms])
    return "clip-" + hashlib.sha256(identity.encode()).hexdigest()[:24]


def all_checked(prompts: list[Json]) -> bool:
    """Whether there are prompts and every one passed its check."""
    return bool(prompts) and all(prompt.get("check", {}).get("passed", False) for prompt in prompts)


def unchecked(prompts: list[Json]) -> list[Json]:
    """The same prompts without their checks: those were about other facts."""
    return [{name: value for name, value in prompt.items() if name != "check"} for prompt in prompts]


def edited_prompts(texts: list[str], current: list[Json]) -> list[Json]:
    """A person's list of prompts: a text that was there keeps its origin and check; a person's own come first."""
    known = {prompt["text"]: prompt for prompt in current}
    prompts = [known.get(text, {"text": text, "composer": PERSON}) for text in dict.fromkeys(texts)]
    return sorted(prompts, key=lambda prompt: prompt.get("composer") != PERSON)


def merged(new: NewClip, facts: Json, prompts: list[Json], edited: list[str]) -> tuple[Json, list[Json]]:
    """New facts and prompts under a person's edits: every edited field keeps the value that the person gave it.

    `facts` and `prompts` are the current ones, `edited` the names of edited fields. Checks of prompts survive only
    where they were made against the facts that hold now.
    """
    result = dict(new.facts)
    for name in (field.removeprefix("facts.") for field in edited if field.startswith("facts.")):
        result.pop(name, None)
        if name in facts:
            result[name] = facts[name]
    kept = prompts if "prompts" in edited else new.prompts
    reference = facts if "prompts" in edited else new.facts
    return result, kept if result == reference else unchecked(kept)


def by_person(fact: Json) -> Json:
    """A tempo or key as a person states it: the source says so, no estimator speaks."""
    return {
        **{name: value for name, value in fact.items() if name not in ("estimator", "confidence", "strength")},
        "source": "FACT_SOURCE_PERSON",
    }


def person_instruments(named: list[tuple[str, float]]) -> list[Json]:
    """Instruments (name, share of the clip) in their General MIDI spelling; an unknown name is left for the checks."""
    return [
        {"instrument": spelled, "family": family, "share": share}
        for (spelled, family), share in ((_spelled(name), share) for name, share in named)
    ]


def _spelled(name: str) -> tuple[str, str]:
    try:
        family = family_of(name)
    except KeyError:
        return name, ""
    return (DRUMS if family == DRUMS else PROGRAM_NAMES[program_of(name)]), family


def sort_key(collection: str, source: Json, start_ms: int, end_ms: int) -> str:
    """Collection, artist, title, song, time: the order of every list, unique per clip."""
    song = source.get("song", {})
    names = (collection, song.get("artist", "").lower(), song.get("title", "").lower())
    return "\x1f".join((*names, source["song_fingerprint"], f"{start_ms:012d}", f"{end_ms:012d}"))


def derived(source: Json, facts: Json, tags: list[Json], prompts: list[Json]) -> Json:
    """The columns to filter by that follow from the content."""
    song = source.get("song", {})
    instruments = [fact.get(name, "") for fact in facts.get("instruments", []) for name in ("instrument", "family")]
    words = [
        song.get("artist", ""),
        song.get("title", ""),
        *(prompt["text"] for prompt in prompts),
        *(tag.get("text", "") for tag in tags),
        *dict.fromkeys(instruments),
    ]
    return {
        "checked": all_checked(prompts),
        "tempo_bpm": facts.get("tempo", {}).get("tempo_bpm") or None,
        "duration_s": facts.get("duration_s", 0.0),
        "instruments": "|" + "|".join(dict.fromkeys(name.lower() for name in instruments)) + "|",
        "search": "\n".join(words).lower(),
    }
