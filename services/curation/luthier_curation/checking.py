"""What is refused before the database or the store is touched: each fault with its field and bound."""

import math
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from luthier.common.v1.common_pb2 import MODE_MAJOR, MODE_MINOR, FactSource, InstrumentFact, Mode, Span, VoicePresence
from luthier.curation.v1 import curation_pb2 as pb
from luthier_curation.cutting import check_parts
from luthier_curation.listing import MAX_ID_CHARS
from luthier_curation.reviews import Edit
from luthier_curation.similar import MAX_FOUND
from luthier_curation.splits import Fractions
from luthier_curation.tables import (
    ACCEPTED,
    OPEN,
    REASON_NAMES,
    REASON_NUMBERS,
    REJECTED,
    VERDICT_NAMES,
    VERDICTS,
    ClipRow,
)
from luthier_curation.verdicts import Decision
from luthier_kit.rpc import MAX_PROMPT_CHARS, SHA256, SHA256_RULE, Checks, InvalidRequest
from luthier_music.instruments import family_of
from luthier_music.keys import TONICS

MAX_CLIPS, MAX_PROMPTS, MAX_REMARK_CHARS, MAX_REVIEWER_CHARS = 500, 16, 2000, 100
MAX_DESCRIPTORS, MAX_VERSIONS, MAX_LINEAGE, MAX_DISAGREEMENTS = 256, 256, 100, 100
MAX_TAGS, MAX_INSTRUMENTS, MAX_NAME_CHARS, MAX_TEXT_CHARS, MAX_QUERY_CHARS = 256, 64, 200, 10_000, 200
MAX_CLIP_BYTES = 1 << 20
"""of a clip's message: with edits of every field it still fits a page of 4 MiB."""
MAX_SONG_S = 86_400.0
MAX_AUDIO_BYTES = 4 << 30
MAX_TAG_CHARS = 64
MAX_PASSAGES = 32
MAX_DIGESTS = 500  # of a filter
TAG_KINDS = ("genre", "mood", "era", "instrument", "other")
GENERATED = "generated/"
"""Where audio lies that expires (`luthier gc --generated`): a clip of it would lose its sound."""
TEMPO_BPM = (20.0, 400.0)
MAX_BEAT_QUARTERS = 8.0
INSTRUMENT_BOUND = "must be a General MIDI program name, or Drums"
MAX_PARTS, MAX_VARIATIONS, MAX_PROGRAMS, MAX_RELATED = 4096, 1000, 128, 100
MAX_RATING, MAX_ASSIGNED, MAX_OPINIONS_PER_CLIP = 5, 50, 2
FINGERPRINT_BOUND = "must be 64 lowercase hexadecimal digits"
FILTER_TEXTS = (
    "collection", "text", "instrument", "song_fingerprint", "subset", "tonic", "tag", "tag_source", "artist",
    "composer", "related_to", "reviewer", "assigned_to",
)  # fmt: skip
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


def check_upsert(request: pb.UpsertClipsRequest) -> None:
    """The collection's name, the number of clips, and every clip."""
    checks = Checks()
    checks.name("collection", request.collection)
    checks.count("clips", request.clips, 1, MAX_CLIPS)
    checks.done()
    for index, clip in enumerate(request.clips):
        if clip.ByteSize() > MAX_CLIP_BYTES:
            bound = f"must have at most {MAX_CLIP_BYTES} bytes, got {clip.ByteSize()}"
            raise InvalidRequest(reason="CLIP_TOO_LARGE", violations=[(f"clips[{index}]", bound)])
        checks.prefix = f"clips[{index}]."
        if _has_few_items(checks, clip):
            _check_new_clip(checks, clip)
            for path, value in leaves(clip):
                _check_leaf(checks, path, value)
    checks.done()


def _has_few_items(checks: Checks, clip: pb.NewClip) -> bool:
    """Counted before anything looks at each."""
    facts, lineage = clip.facts, clip.lineage
    fits = [
        checks.count("facts.instruments", facts.instruments, 0, MAX_INSTRUMENTS),
        checks.count("facts.descriptors", facts.descriptors, 0, MAX_DESCRIPTORS),
        checks.count("tags", clip.tags, 0, MAX_TAGS),
        checks.count("prompts", clip.prompts, 0, MAX_PROMPTS),
        checks.count("lineage.inputs", lineage.inputs, 0, MAX_LINEAGE),
        checks.count("lineage.licences", lineage.licences, 0, MAX_LINEAGE),
        checks.count("lineage.versions", lineage.versions, 0, MAX_VERSIONS),
    ]
    fits += [
        checks.count(f"prompts[{index}].check.disagreements", prompt.check.disagreements, 0, MAX_DISAGREEMENTS)
        for index, prompt in enumerate(clip.prompts[:MAX_PROMPTS])
    ]
    return all(fits)


def _check_new_clip(checks: Checks, clip: pb.NewClip) -> None:
    source = clip.source
    print_ok = _FINGERPRINT.fullmatch(source.song_fingerprint) is not None
    checks.that(print_ok, "source.song_fingerprint", FINGERPRINT_BOUND)
    checks.within("source.span.start_s", source.span.start_s, 0, MAX_SONG_S)
    checks.above("source.span.end_s", source.span.end_s, source.span.start_s, MAX_SONG_S)
    checks.text("source.song.artist", source.song.artist, max_chars=MAX_NAME_CHARS)
    checks.text("source.song.title", source.song.title, max_chars=MAX_NAME_CHARS)
    if source.subset:
        checks.name("source.subset", source.subset)
    checks.within("source.part", source.part, 0, MAX_PARTS - 1)
    if source.HasField("variation"):
        checks.within("source.variation.number", source.variation.number, 1, MAX_VARIATIONS)
        for name in ("programs", "kits", "octaves"):
            checks.count(f"source.variation.{name}", getattr(source.variation, name), 0, MAX_PROGRAMS)
    for field, related in checks.items("source.related_fingerprints", source.related_fingerprints, 0, MAX_RELATED):
        checks.that(_FINGERPRINT.fullmatch(related) is not None, field, FINGERPRINT_BOUND)
    checks.artifact("audio", clip.audio, max_bytes=MAX_AUDIO_BYTES)
    lasts = not clip.audio.key.startswith(GENERATED)
    checks.that(lasts, "audio.key", f"must not be below {GENERATED}, which expires; store the audio as another kind")
    checks.above("facts.duration_s", clip.facts.duration_s, 0, MAX_SONG_S)
    if clip.facts.tempo.tempo_bpm:
        checks.within("facts.tempo.tempo_bpm", clip.facts.tempo.tempo_bpm, *TEMPO_BPM)
    if clip.facts.key.tonic:
        checks.one_of("facts.key.tonic", clip.facts.key.tonic, TONICS)
    checks.within("facts.voice.speech_share", clip.facts.voice.speech_share, 0, 1)
    checks.within("facts.voice.vocals_share", clip.facts.voice.vocals_share, 0, 1)
    for index, prompt in enumerate(clip.prompts):
        checks.text(f"prompts[{index}].text", prompt.text, max_chars=MAX_PROMPT_CHARS, blank=False)


def _check_leaf(checks: Checks, path: str, value: Any) -> None:
    """Numbers are finite, texts are bounded and hold no NUL (databases refuse it)."""
    if isinstance(value, float):
        checks.that(math.isfinite(value), path, f"must be a finite number, got {value}")
    elif isinstance(value, str):
        checks.that(len(value) <= MAX_TEXT_CHARS, path, f"must have at most {MAX_TEXT_CHARS} characters")
        clean(checks, path, value)


def clean(checks: Checks, field: str, value: str) -> bool:
    """Whether a text can be stored: no NUL, no lone surrogate (JSON can spell both)."""
    ok = "\x00" not in value and not any("\ud800" <= char <= "\udfff" for char in value)
    return checks.that(ok, field, "must be Unicode text without NUL characters")


def check_filter(which: pb.ClipFilter) -> None:
    """Bounds of a filter."""
    checks = Checks("filter.")
    checks.that(len(which.collection) <= 64, "collection", "must have at most 64 characters")
    checks.that(which.verdict in VERDICT_NAMES, "verdict", "must be a known verdict")
    checks.that(which.reason in REASON_NAMES, "reason", "must be a known RejectReason")
    checks.that(which.mode in Mode.values(), "mode", "must be a known Mode")
    checks.that(which.fact_source in FactSource.values(), "fact_source", "must be a known FactSource")
    known = which.disagreement in pb.EstimatorDisagreement.values()
    checks.that(known, "disagreement", "must be a known EstimatorDisagreement")
    checks.that(not which.tonic or which.tonic in TONICS, "tonic", f"must be one of {', '.join(TONICS)}")
    checks.within("min_rating", which.min_rating, 0, MAX_RATING)
    for name in ("tag", "tag_source", "composer", "related_to"):
        checks.text(name, getattr(which, name), max_chars=64)
    checks.text("artist", which.artist, max_chars=MAX_NAME_CHARS)
    for name in ("reviewer", "assigned_to"):
        checks.text(name, getattr(which, name), max_chars=MAX_REVIEWER_CHARS)
    checks.text("text", which.text, max_chars=MAX_QUERY_CHARS)
    checks.text("instrument", which.instrument, max_chars=64)
    checks.text("song_fingerprint", which.song_fingerprint, max_chars=64)
    checks.text("subset", which.subset, max_chars=64)
    for name in FILTER_TEXTS:
        clean(checks, name, getattr(which, name))
    for name in ("min_tempo_bpm", "max_tempo_bpm"):
        checks.finite(name, getattr(which, name))
    for name in ("midi_sha256", "audio_sha256"):
        for field, digest in checks.items(name, getattr(which, name), 0, MAX_DIGESTS):
            checks.that(bool(SHA256.fullmatch(digest)), field, SHA256_RULE)
    checks.done()


def check_list(request: pb.ListClipsRequest) -> None:
    """Bounds of what a list says beside its page."""
    check_filter(request.filter)
    checks = Checks()
    checks.text("for_reviewer", request.for_reviewer, max_chars=MAX_REVIEWER_CHARS)
    clean(checks, "for_reviewer", request.for_reviewer)
    checks.done()


def check_search(request: pb.SearchClipsRequest, size: int) -> None:
    """Bounds of a search by sound."""
    check_filter(request.filter)
    checks = Checks()
    checks.within("limit", size, 1, MAX_FOUND)
    if request.WhichOneof("query") == "clip_id":
        checks.text("clip_id", request.clip_id, max_chars=MAX_ID_CHARS, blank=False)
        clean(checks, "clip_id", request.clip_id)
    else:
        given = request.WhichOneof("query") == "text"
        if checks.that(given, "text", "must be given, or clip_id"):
            checks.text("text", request.text, max_chars=MAX_PROMPT_CHARS, blank=False)
            clean(checks, "text", request.text)
    checks.done()


def check_embed(which: pb.ClipFilter, reviewer: str) -> None:
    """Bounds of which clips are embedded, and who asks for it."""
    check_filter(which)
    checks = Checks()
    checks.that(bool(which.collection), "filter.collection", "must name a collection")
    check_reviewer(checks, "reviewer", reviewer)
    checks.done()


def check_reviewer(checks: Checks, field: str, reviewer: str) -> None:
    """Who it was is always recorded."""
    checks.text(field, reviewer, max_chars=MAX_REVIEWER_CHARS, blank=False)
    clean(checks, field, reviewer)


def check_edit(edit: Edit, expected_revision: int, reviewer: str) -> None:
    """Bounds of a person's edit."""
    checks = Checks()
    check_reviewer(checks, "reviewer", reviewer)
    checks.that(expected_revision >= 1, "expected_revision", f"must be 1 or more, got {expected_revision}")
    if edit.prompts is not None:
        for field, text in checks.items("prompts", edit.prompts, 1, MAX_PROMPTS):
            checks.text(field, text, max_chars=MAX_PROMPT_CHARS, blank=False)
            clean(checks, field, text)
    if edit.instruments is not None:
        _check_instruments(checks, edit.instruments)
    if edit.tempo is not None and edit.tempo.tempo_bpm:
        checks.within("tempo.tempo_bpm", edit.tempo.tempo_bpm, *TEMPO_BPM)
        checks.within("tempo.beat_quarters", edit.tempo.beat_quarters, 0, MAX_BEAT_QUARTERS)
    if edit.key is not None and edit.key.tonic:
        checks.one_of("key.tonic", edit.key.tonic, TONICS)
        checks.that(edit.key.mode in (MODE_MAJOR, MODE_MINOR), "key.mode", "must be MODE_MAJOR or MODE_MINOR")
    if edit.tags is not None:
        for field, (text, kind) in checks.items("tags", edit.tags, 0, MAX_TAGS):
            checks.text(f"{field}.text", text, max_chars=MAX_TAG_CHARS, blank=False)
            clean(checks, f"{field}.text", text)
            checks.one_of(f"{field}.kind", kind, TAG_KINDS)
    if edit.bad_passages is not None:
        for field, passage in checks.items("bad_passages", edit.bad_passages, 0, MAX_PASSAGES):
            checks.text(f"{field}.note", passage.note, max_chars=MAX_NAME_CHARS)
            clean(checks, f"{field}.note", passage.note)
    if edit.voice is not None:
        checks.that(edit.voice in VoicePresence.values(), "voice", "must be a known VoicePresence")
    if edit.remark is not None:
        checks.text("remark", edit.remark, max_chars=MAX_REMARK_CHARS)
        clean(checks, "remark", edit.remark)
    checks.done()


def _check_instruments(checks: Checks, instruments: list[InstrumentFact]) -> None:
    for field, fact in checks.items("instruments", instruments, 0, MAX_INSTRUMENTS):
        checks.text(f"{field}.instrument", fact.instrument, max_chars=64, blank=False)
        checks.that(is_instrument(fact.instrument), f"{field}.instrument", INSTRUMENT_BOUND)
        checks.within(f"{field}.share", fact.share, 0, 1)
    names = [fact.instrument.lower() for fact in instruments]
    checks.that(len(set(names)) == len(names), "instruments", "must name each instrument once")


def is_instrument(name: str) -> bool:
    """Whether it is a General MIDI program name or Drums, any case."""
    try:
        return bool(family_of(name))
    except KeyError:
        return False


def check_decision(decision: Decision, clip_ids: Iterable[str] = ()) -> None:
    """Bounds of a verdict about these clips."""
    checks = Checks()
    for index, clip_id in enumerate(clip_ids):
        clean(checks, f"clips[{index}].clip_id", clip_id)
    checks.one_of("verdict", decision.verdict, VERDICTS)
    check_reviewer(checks, "reviewer", decision.reviewer)
    checks.text("remark", decision.remark, max_chars=MAX_REMARK_CHARS)
    clean(checks, "remark", decision.remark)
    _check_judgement(checks, "", decision.verdict, decision.reason, decision.rating)
    by_person = not (decision.settle and decision.automatic)
    checks.that(by_person, "settle", "must not be set where a rule decides")
    checks.done()


def _check_judgement(checks: Checks, path: str, verdict: str, reason: str, rating: int) -> None:
    checks.that(reason in REASON_NUMBERS, f"{path}reason", "must be a known RejectReason")
    fits = not reason or verdict == REJECTED
    checks.that(fits, f"{path}reason", "must be given with VERDICT_REJECTED only")
    checks.within(f"{path}rating", rating, 0, MAX_RATING)
    judged = not rating or verdict != OPEN
    checks.that(judged, f"{path}rating", "must not be given with VERDICT_OPEN")


def check_skip(ids: Collection[str], reviewer: str) -> None:
    """Bounds of clips to be judged later."""
    checks = Checks()
    for field, clip_id in checks.items("clip_ids", ids, 1, MAX_CLIPS):
        clean(checks, field, clip_id)
    check_reviewer(checks, "reviewer", reviewer)
    checks.done()


def check_assignment(request: pb.AssignClipsRequest) -> None:
    """Bounds of who is asked about which clips."""
    check_filter(request.filter)
    checks = Checks()
    checks.that(bool(request.filter.collection), "filter.collection", "must name a collection")
    for field, name in checks.items("reviewers", request.reviewers, 1, MAX_ASSIGNED):
        check_reviewer(checks, field, name)
    checks.that(len(set(request.reviewers)) == len(request.reviewers), "reviewers", "must name each reviewer once")
    checks.within("per_clip", request.per_clip, 0, max(1, len(request.reviewers)))
    checks.done()


def check_collection(name: str, opinions_per_clip: int) -> None:
    """Bounds of what is decided about a collection."""
    checks = Checks()
    checks.name("name", name)
    checks.within("opinions_per_clip", opinions_per_clip, 1, MAX_OPINIONS_PER_CLIP)
    checks.done()


def check_import(opinions: Collection[pb.ImportedOpinion], imported_by: str) -> None:
    """Bounds of verdicts from elsewhere."""
    checks = Checks()
    seen = set[tuple[str, str]]()
    for path, item in checks.items("opinions", opinions, 1, MAX_CLIPS):
        opinion = item.opinion
        clean(checks, f"{path}.clip_id", item.clip_id)
        check_reviewer(checks, f"{path}.opinion.reviewer", opinion.reviewer)
        verdict = VERDICT_NAMES.get(opinion.verdict, "")
        checks.one_of(f"{path}.opinion.verdict", verdict, (ACCEPTED, REJECTED))
        checks.text(f"{path}.opinion.remark", opinion.remark, max_chars=MAX_REMARK_CHARS)
        clean(checks, f"{path}.opinion.remark", opinion.remark)
        reason = REASON_NAMES.get(opinion.reason, "?")
        _check_judgement(checks, f"{path}.opinion.", verdict, reason, opinion.rating)
        for field, text in checks.items(f"{path}.prompts", item.prompts, 0, MAX_PROMPTS):
            checks.text(field, text, max_chars=MAX_PROMPT_CHARS, blank=False)
            clean(checks, field, text)
        key = (item.clip_id, opinion.reviewer)
        checks.that(key not in seen, f"{path}", "must be another clip or reviewer than those before it")
        seen.add(key)
    check_reviewer(checks, "imported_by", imported_by)
    checks.done()


def check_cut(row: ClipRow, expected_revision: int, reviewer: str, parts: Sequence[Span]) -> None:
    """Bounds of the parts that a clip is cut into."""
    checks = Checks()
    check_reviewer(checks, "reviewer", reviewer)
    checks.that(expected_revision >= 1, "expected_revision", f"must be 1 or more, got {expected_revision}")
    check_parts(checks, parts, row.duration_s)
    checks.done()


def check_undo(batch_id: str, reviewer: str) -> None:
    """Bounds of an undo."""
    checks = Checks()
    checks.text("batch_id", batch_id, max_chars=32, blank=False)
    clean(checks, "batch_id", batch_id)
    check_reviewer(checks, "reviewer", reviewer)
    checks.done()


def check_export(collection: str, name: str, fractions: Fractions, exported_by: str) -> None:
    """Names, shares and the exporter of a data set."""
    checks = Checks()
    checks.name("collection", collection)
    checks.name("name", name)
    checks.within("validation_share", fractions.validation, 0, 0.5)
    checks.within("test_share", fractions.test, 0, 0.5)
    checks.that(fractions.train > 0, "validation_share", "must leave songs to train on beside test_share")
    check_reviewer(checks, "exported_by", exported_by)
    checks.done()


def leaves(message: Message, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every number and text of a message with its path, e.g. `facts.instruments[2].share`."""
    for field, value in message.ListFields():
        name = f"{path}{field.name}"
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            yield from ((f"{name}[{key}]", text) for key, item in value.items() for text in (key, item))
        else:
            for place, item in _items(name, value):
                if field.type == FieldDescriptor.TYPE_MESSAGE:
                    yield from leaves(item, f"{place}.")
                else:
                    yield place, item


def _items(name: str, value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, Message | str | bytes | int | float):
        return [(name, value)]
    return [(f"{name}[{index}]", item) for index, item in enumerate(value)]
