"""Data sets: frozen, canonical, leak-free, numbered."""

import json

import pytest
from google.protobuf.json_format import ParseDict

from luthier.common.v1.common_pb2 import (
    FACT_SOURCE_NOTES,
    FACT_SOURCE_PERSON,
    LICENSED_USE_COMMERCIAL,
    LICENSED_USE_RESEARCH,
    MODE_MAJOR,
    ArtifactRef,
    ClipFacts,
    Descriptor,
    Disagreement,
    InstrumentFact,
    KeyFact,
    MeterChange,
    PromptCheck,
    Tag,
    TempoFact,
)
from luthier.curation.v1.curation_pb2 import ClipFilter, NewClip
from luthier.curation.v1.dataset_pb2 import DatasetManifest, DatasetRow, DatasetVersion
from luthier_curation.curation import Curation
from luthier_curation.datasets import Export, audio_folder_metadata, find, manifest_of
from luthier_curation.reviews import Edit
from luthier_curation.splits import Fractions
from luthier_curation.tables import ACCEPTED, OPEN, REJECTED
from luthier_curation.verdicts import Decision
from luthier_kit.rpc import FailedPrecondition, InvalidRequest, NotFound
from luthier_kit.store import Store

from .builders import PROMPT, clip, fingerprint

TENTHS = Fractions(0.8, 0.1, 0.1)
DEMO = ClipFilter(collection="demo")


@pytest.fixture
def ids(curation: Curation) -> list[str]:
    """Five songs of three clips each, all accepted."""
    clips = [clip(curation.store, song=song, start_s=start) for song in range(5) for start in (0.0, 30.0, 60.0)]
    found, *_ = curation.upsert("demo", clips)
    curation.review_all(DEMO, Decision(ACCEPTED, "Ada"))
    return found


def export(curation: Curation, name: str = "") -> Export:
    return curation.export("demo", name, TENTHS, "Ada")


def manifest(curation: Curation, done: Export) -> DatasetManifest:
    return manifest_of(curation.store, done.entry)


def test_every_clip_of_a_song_is_in_one_split(curation: Curation, ids: list[str]) -> None:
    splits: dict[str, set[str]] = {}
    for row in manifest(curation, export(curation)).rows:
        splits.setdefault(row.song_fingerprint, set()).add(row.split)
    assert len(splits) == 5
    assert all(len(found) == 1 for found in splits.values())


def test_a_row_says_what_training_needs(curation: Curation, ids: list[str]) -> None:
    rows = {row.clip_id: row for row in manifest(curation, export(curation)).rows}
    row, sent = rows[ids[0]], clip(curation.store, song=0)
    assert row.audio == sent.audio
    assert list(row.prompts) == [PROMPT]
    assert row.facts == sent.facts
    assert row.song_fingerprint == fingerprint(0)
    assert list(row.licences) == ["CC0-1.0", "MIT"]
    assert row.lineage.seed == 2**63
    assert row.split in ("train", "validation", "test")


def test_near_duplicates_are_in_one_split(curation: Curation) -> None:
    pairs = [clip(curation.store, song=song) for song in range(40)]
    for first, second in zip(pairs[::2], pairs[1::2], strict=True):
        second.source.related_fingerprints.append(first.source.song_fingerprint)
    curation.upsert("demo", pairs)
    curation.review_all(DEMO, Decision(ACCEPTED, "Ada"))
    splits = {row.song_fingerprint: row.split for row in manifest(curation, export(curation)).rows}
    assert len(set(splits.values())) == 3
    assert all(splits[fingerprint(song)] == splits[fingerprint(song + 1)] for song in range(0, 40, 2))


def test_a_row_names_the_subset_that_its_clip_names(curation: Curation) -> None:
    solo = clip(curation.store)
    solo.source.subset = "monophonic"
    curation.upsert("demo", [solo])
    curation.review_all(DEMO, Decision(ACCEPTED, "Ada"))
    [row] = manifest(curation, export(curation)).rows
    assert row.source.subset == "monophonic"


def captioned(store: Store, *reasons: str) -> NewClip:
    """A clip with a caption that lay beside its recording, and what is wrong with it."""
    recorded = clip(store)
    wrong = [Disagreement(subject="tempo", reason=reason) for reason in reasons]
    recorded.prompts.add(text="By the label", composer="file", check=PromptCheck(disagreements=wrong))
    return recorded


@pytest.mark.parametrize(
    ("reason", "leaves"), [("CONTRADICTS_FACTS", [PROMPT]), ("NOT_IN_FACTS", [PROMPT, "By the label"])]
)
def test_a_caption_that_the_facts_deny_stays_behind(curation: Curation, reason: str, leaves: list[str]) -> None:
    curation.upsert("demo", [captioned(curation.store, reason)])
    curation.review_all(DEMO, Decision(ACCEPTED, "Ada"))
    [row] = manifest(curation, export(curation)).rows
    assert list(row.prompts) == leaves
    assert len(row.composers) == len(leaves)


def test_a_caption_that_a_person_kept_leaves(curation: Curation) -> None:
    [clip_id], *_ = curation.upsert("demo", [captioned(curation.store, "CONTRADICTS_FACTS")])
    curation.edit(clip_id, 1, "Ada", Edit(prompts=["By the label"]))
    curation.review_all(DEMO, Decision(ACCEPTED, "Ada"))
    [row] = manifest(curation, export(curation)).rows
    assert list(zip(row.prompts, row.composers, strict=True)) == [("By the label", "file")]


@pytest.mark.parametrize(("caption", "leaves"), [("A song in A major", False), ("A song in D major", True)])
def test_a_caption_is_held_against_corrected_facts(curation: Curation, caption: str, leaves: bool) -> None:
    new = captioned(curation.store, "CONTRADICTS_FACTS")
    new.prompts[1].text = caption
    [clip_id], *_ = curation.upsert("demo", [new])
    corrected = KeyFact(tonic="D", mode=MODE_MAJOR, source=FACT_SOURCE_PERSON)
    curation.edit(clip_id, 1, "Ada", Edit(key=corrected))
    curation.review_all(DEMO, Decision(ACCEPTED, "Ada"))
    [row] = manifest(curation, export(curation)).rows
    assert (caption in row.prompts) == leaves


def test_a_caption_that_a_person_holds_for_true_as_it_is_leaves(curation: Curation) -> None:
    alone = captioned(curation.store, "CONTRADICTS_FACTS")
    del alone.prompts[0]
    [clip_id], *_ = curation.upsert("demo", [alone])
    curation.review_all(DEMO, Decision(ACCEPTED, "Ada"))
    with pytest.raises(FailedPrecondition, match="only captions"):
        export(curation)
    curation.edit(clip_id, 2, "Ada", Edit(prompts=["By the label"]))
    [row] = manifest(curation, export(curation)).rows
    assert list(row.prompts) == ["By the label"]


def test_an_unchanged_collection_is_the_same_manifest_and_no_new_number(curation: Curation, ids: list[str]) -> None:
    first, again = export(curation), export(curation)
    assert again.entry == first.entry
    assert (again.version, again.unchanged, first.unchanged) == (1, True, False)


def test_a_changed_collection_is_the_next_number_and_the_old_one_stays(curation: Curation, ids: list[str]) -> None:
    first = export(curation)
    curation.edit(ids[0], 2, "Ada", Edit(prompts=["By hand"]))
    second = export(curation)
    assert second.version == 2
    assert curation.store.series(DatasetVersion, "datasets/demo").entry(1) == first.entry
    assert {PROMPT} == {row.prompts[0] for row in manifest(curation, first).rows}


def test_back_as_it_was_the_manifest_is_as_it_was(curation: Curation, ids: list[str]) -> None:
    first = export(curation)
    _, batch = curation.edit(ids[0], 2, "Ada", Edit(prompts=["By hand"]))
    curation.undo(batch, "Ada")
    assert export(curation).entry.manifest == first.entry.manifest


def test_only_accepted_clips_leave(curation: Curation, ids: list[str]) -> None:
    curation.review({ids[0]: 2}, Decision(REJECTED, "Ada"))
    curation.review({ids[1]: 2}, Decision(OPEN, "Ada"))
    left = {row.clip_id for row in manifest(curation, export(curation)).rows}
    assert left == set(ids[2:])


def test_a_rejected_clip_does_not_move_the_songs_others(curation: Curation, ids: list[str]) -> None:
    before = {row.clip_id: row.split for row in manifest(curation, export(curation)).rows}
    curation.review({ids[0]: 2}, Decision(REJECTED, "Ada"))
    after = {row.clip_id: row.split for row in manifest(curation, export(curation)).rows}
    assert all(before[name] == split for name, split in after.items())


def test_the_metadata_is_an_audio_folders(curation: Curation, ids: list[str]) -> None:
    done = export(curation)
    lines = []
    for split in done.entry.splits:
        data = curation.store.blobs.read(split.metadata).decode().splitlines()
        assert len(data) == split.clips
        lines += [json.loads(line) for line in data]
    assert {line["file_name"] for line in lines} == {f"{name}.flac" for name in ids}
    assert {line["text"] for line in lines} == {PROMPT}


def kinds(value: object) -> object:
    """The type of a JSON value as Arrow's reader infers it: a list by its first item, an object key by key."""
    if isinstance(value, dict):
        return {name: kinds(item) for name, item in value.items()}
    return [kinds(value[0])] if isinstance(value, list) else type(value).__name__


def test_a_line_of_metadata_has_every_key_in_one_type_whatever_is_known() -> None:
    """Hugging Face `datasets` refuses splits whose columns differ; an empty list or null has no type there."""
    full = DatasetRow(
        clip_id="clip-1", audio=ArtifactRef(key="clips/a.flac"), prompts=["A song", "Another"], song_fingerprint="f",
        licences=["CC0-1.0", "MIT"], tags=[Tag(text="jazz", kind="genre"), Tag(text="calm", kind="mood")],
        facts=ClipFacts(
            duration_s=30, tempo=TempoFact(tempo_bpm=120, source=FACT_SOURCE_NOTES),
            key=KeyFact(tonic="C", mode=MODE_MAJOR, source=FACT_SOURCE_NOTES), loudness_lufs=-14,
            instruments=[InstrumentFact(instrument="Drums"), InstrumentFact(instrument="Fiddle")],
            meter=MeterChange(numerator=3, denominator=4), descriptors=[Descriptor(name="spectral_centroid_hz")],
        ),
    )  # fmt: skip
    bare = DatasetRow(clip_id="clip-2", audio=ArtifactRef(key="clips/b.flac"), prompts=["A sound"])
    known, unknown = (json.loads(line) for line in audio_folder_metadata([full, bare]).splitlines())
    assert kinds(known) == kinds(unknown)
    assert (known["tags"], known["licences"], unknown["tags"]) == ("jazz, calm", "CC0-1.0, MIT", "")
    assert known["facts"] == {
        "duration_s": 30.0, "tempo_bpm": 120.0, "tempo_unit": "BPM", "tempo_changes": False, "tempo_source": "notes",
        "key": "C major", "key_source": "notes", "meter": "3/4", "instruments": "Drums, Fiddle", "loudness_lufs": -14.0,
    }  # fmt: skip
    assert (unknown["facts"]["key"], unknown["facts"]["tempo_bpm"], unknown["facts"]["meter"]) == ("", 0.0, "")
    assert unknown["facts"]["tempo_unit"] == ""
    assert json.loads(known["details"])["facts"]["descriptors"] == [{"name": "spectral_centroid_hz"}]


def test_a_line_of_metadata_has_the_whole_row(curation: Curation, ids: list[str]) -> None:
    rows = {row.clip_id: row for row in manifest(curation, export(curation)).rows}
    row = rows[ids[0]]
    details = json.loads(json.loads(audio_folder_metadata([row]))["details"])
    assert ParseDict(details, DatasetRow()) == row
    assert details["source"]["song"] == {"artist": "The Band", "title": "Song 0"}


@pytest.mark.parametrize(
    ("tempo", "unit"),
    [
        (TempoFact(tempo_bpm=120, beat_quarters=1.5), "BPM by the dotted quarter"),
        (TempoFact(tempo_bpm=180, notated=True), "quarter notes per minute"),
    ],
)
def test_metadata_says_what_the_tempo_counts(tempo: TempoFact, unit: str) -> None:
    row = DatasetRow(
        clip_id="clip-1", audio=ArtifactRef(key="a.flac"), prompts=["A song"], facts=ClipFacts(tempo=tempo)
    )
    assert json.loads(audio_folder_metadata([row]))["facts"]["tempo_unit"] == unit


def test_an_export_of_an_earlier_release_is_given_todays_metadata(curation: Curation, ids: list[str]) -> None:
    done = export(curation)
    series = curation.store.series(DatasetVersion, "datasets/demo")
    old = DatasetVersion()
    old.CopyFrom(done.entry)
    old.splits[0].metadata.CopyFrom(curation.store.blobs.put_bytes("metadata", b'{"facts": {}}\n', "jsonl"))
    series.append(old)
    again = export(curation)
    assert (again.version, again.unchanged) == (2, True)
    assert again.entry.splits[0].metadata == done.entry.splits[0].metadata


def test_splits_are_summed_up(curation: Curation, ids: list[str]) -> None:
    splits = export(curation).entry.splits
    assert [split.split for split in splits] == ["train", "validation", "test"]
    assert sum(split.songs for split in splits) == 5
    assert sum(split.clips for split in splits) == 15
    assert sum(split.duration_s for split in splits) == 30.0
    assert splits[0].clips > 0
    assert splits[1].clips > 0


def test_what_licences_forbid_is_not_exported_for_that_use(curation: Curation, ids: list[str]) -> None:
    bound = clip(curation.store, song=9)
    bound.lineage.licences[:] = ["CC-BY-NC-4.0"]
    [forbidding], *_ = curation.upsert("demo", [bound])
    curation.review_all(DEMO, Decision(ACCEPTED, "Ada"))

    with pytest.raises(FailedPrecondition, match=f"1 clips: 'CC-BY-NC-4.0' forbids it.*{forbidding}") as refused:
        curation.export("demo", "", TENTHS, "Ada", LICENSED_USE_COMMERCIAL)

    assert refused.value.reason == "LICENCE_FORBIDS"
    assert not list(curation.store.names("datasets/"))
    assert curation.export("demo", "", TENTHS, "Ada", LICENSED_USE_RESEARCH).version == 1


def test_nothing_accepted_is_nothing_to_export(curation: Curation) -> None:
    curation.upsert("demo", [clip(curation.store)])
    with pytest.raises(FailedPrecondition) as refused:
        export(curation)
    assert refused.value.reason == "NOTHING_ACCEPTED"


def test_a_clip_without_a_prompt_cannot_leave(curation: Curation) -> None:
    curation.upsert("demo", [clip(curation.store, prompts=())])
    curation.review_all(DEMO, Decision(ACCEPTED, "Ada"))
    with pytest.raises(FailedPrecondition) as refused:
        export(curation)
    assert refused.value.reason == "PROMPT_MISSING"


@pytest.mark.parametrize(
    ("name", "fractions", "who", "field"),
    [
        ("../up", TENTHS, "Ada", "name"),
        ("Upper", TENTHS, "Ada", "name"),
        ("", Fractions.holding_out(0.6, 0.1), "Ada", "validation_share"),
        ("", Fractions.holding_out(0.1, -0.1), "Ada", "test_share"),
        ("", Fractions.holding_out(0.5, 0.5), "Ada", "validation_share"),
        ("", Fractions.holding_out(float("nan"), 0.1), "Ada", "validation_share"),
        ("", TENTHS, "", "exported_by"),
    ],
)
def test_a_bad_export_is_refused_by_field(
    curation: Curation, name: str, fractions: Fractions, who: str, field: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        curation.export("demo", name, fractions, who)
    assert field in [where for where, _ in refused.value.violations]


def test_an_unknown_version_is_not_found(curation: Curation, ids: list[str]) -> None:
    export(curation)
    for version in (0, -1, 2):
        with pytest.raises(NotFound):
            find(curation.store, "demo", version)


def test_after_its_manifest_was_taken_down_a_data_set_is_exported_anew(curation: Curation, ids: list[str]) -> None:
    first = export(curation)
    curation.store.blobs.take_down(first.entry.manifest.sha256, by="label", reason="claim 7")
    curation.edit(ids[0], 2, "Ada", Edit(prompts=["By hand"]))
    assert export(curation).version == 2
