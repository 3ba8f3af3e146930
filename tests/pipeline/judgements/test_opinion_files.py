"""Opinions in the files of other tools, as these write them."""

import csv
import io
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID
from xml.etree import ElementTree

import pytest

from luthier.common.v1 import common_pb2 as common
from luthier.curation.v1 import curation_pb2 as pb
from luthier_pipeline.console import UsageError
from luthier_pipeline.judgements import argilla, csv_file, label_studio

ADA = "01234567-89ab-cdef-0123-456789abcdef"
OPINION = pb.Opinion(
    reviewer="Ada", verdict=pb.VERDICT_REJECTED, reason=pb.REJECT_REASON_ARTEFACTS, rating=2, remark="=clicks\n\"here\""
)  # fmt: skip
CLIP = pb.CuratedClip(
    clip_id="clip-1",
    collection="demo",
    source=common.ClipSource(
        song=common.SongName(artist="The <Band>", title="A & B"), span=common.Span(start_s=65, end_s=95)
    ),
    facts=common.ClipFacts(
        tempo=common.TempoFact(tempo_bpm=120), key=common.KeyFact(tonic="Eb", mode=common.MODE_MINOR)
    ),
    prompts=[common.Prompt(text="A tango")],
    opinions=[OPINION],
)
# as Label Studio Community exports: "id" of users, lead times and more that is passed over
LABEL_STUDIO = [
    {
        "id": 7,
        "data": {"audio": "/data/local-files/?d=audio/clip-1.flac", "clip_id": "clip-1"},
        "annotations": [
            {
                "id": 1, "completed_by": 3, "was_cancelled": False, "ground_truth": False, "lead_time": 12.5,
                "result": [
                    {"id": "a", "from_name": "verdict", "to_name": "audio", "type": "choices", "origin": "manual",
                     "value": {"choices": ["rejected"]}},
                    {"id": "b", "from_name": "reason", "to_name": "audio", "type": "choices",
                     "value": {"choices": ["voice"]}},
                    {"id": "c", "from_name": "rating", "to_name": "audio", "type": "rating", "value": {"rating": 2}},
                    {"id": "d", "from_name": "remark", "to_name": "audio", "type": "textarea",
                     "value": {"text": ["hums"]}},
                    {"id": "e", "from_name": "prompts", "to_name": "audio", "type": "textarea",
                     "value": {"text": ["A tango", "A slow tango"]}},
                ],
            },
            {"id": 2, "completed_by": {"id": 4, "email": "bob@example.org"}, "was_cancelled": False,
             "result": [{"from_name": "verdict", "value": {"choices": ["accepted"]}}]},
            {"id": 3, "completed_by": 5, "was_cancelled": True,
             "result": [{"from_name": "verdict", "value": {"choices": ["accepted"]}}]},
            {"id": 4, "completed_by": 6, "was_cancelled": False, "result": []},
        ],
        "predictions": [],
    }
]  # fmt: skip


def imported(reviewer: str, verdict: pb.Verdict, **more: Any) -> pb.ImportedOpinion:
    prompts = more.pop("prompts", ())
    return pb.ImportedOpinion(
        clip_id="clip-1", opinion=pb.Opinion(reviewer=reviewer, verdict=verdict, **more), prompts=prompts
    )


def test_an_export_of_label_studio_is_read() -> None:
    assert list(label_studio.opinions(LABEL_STUDIO, {"3": "Ada"})) == [
        imported("Ada", pb.VERDICT_REJECTED, reason=pb.REJECT_REASON_VOICE, rating=2, remark="hums",
                 prompts=["A tango", "A slow tango"]),
        imported("bob@example.org", pb.VERDICT_ACCEPTED),
    ]  # fmt: skip


def test_a_task_has_the_clips_facts_and_its_opinions_as_predictions() -> None:
    task: dict[str, Any] = label_studio.task(CLIP, "http://host/clip-1.flac")
    assert task["data"] == {
        "audio": "http://host/clip-1.flac",
        "clip_id": "clip-1",
        "collection": "demo",
        "title": "The <Band> - A & B, 01:05 to 01:35",
        "facts": "120.0 BPM\nEb minor",
        "captions": "A tango",
    }
    [prediction] = task["predictions"]
    assert prediction["model_version"] == "Ada"
    exported = [{"data": task["data"], "annotations": [{"completed_by": 1, "result": prediction["result"]}]}]
    [again] = label_studio.opinions(exported, {"1": "Ada"})
    assert again.opinion == OPINION


def test_the_interface_is_xml_whose_controls_are_of_the_audio() -> None:
    root = ElementTree.fromstring(label_studio.interface())
    controls = [tag for tag in root if "toName" in tag.attrib]
    assert {tag.get("name") for tag in controls} == {"verdict", "reason", "rating", "prompts", "remark"}
    assert {tag.get("toName") for tag in controls} == {"audio"}
    reasons = [choice.get("value") for choice in root.findall("Choices[@name='reason']/Choice")]
    assert reasons == [name.removeprefix("REJECT_REASON_").lower() for name in list(pb.RejectReason.keys())[1:]]


def test_records_of_argilla_are_read() -> None:
    responses = {
        "verdict": [{"value": "rejected", "user_id": ADA}, {"value": "accepted", "user_id": str(UUID(int=2))},
                    {"value": "accepted", "user_id": str(UUID(int=3)), "status": "discarded"}],
        "reason": [{"value": "bad_cut", "user_id": ADA}],
        "rating": [{"value": 1, "user_id": ADA}, {"value": 5, "user_id": str(UUID(int=4))}],
        "prompt": [{"value": "A waltz", "user_id": str(UUID(int=2))}],
    }  # fmt: skip
    record = {"id": "clip-1", "fields": {}, "metadata": {}, "suggestions": {}, "responses": responses, "vectors": {}}
    assert list(argilla.opinions([record], {ADA: "Ada"})) == [
        imported("Ada", pb.VERDICT_REJECTED, reason=pb.REJECT_REASON_BAD_CUT, rating=1),
        imported(f"argilla user {UUID(int=2)}", pb.VERDICT_ACCEPTED, prompts=["A waltz"]),
    ]


def test_a_record_suggests_what_was_decided_last_and_escapes_the_address() -> None:
    later = pb.Opinion(reviewer="Bob", verdict=pb.VERDICT_ACCEPTED)
    later.at.FromMilliseconds(5)
    clip = pb.CuratedClip()
    clip.CopyFrom(CLIP)
    clip.opinions.append(later)
    record: dict[str, Any] = argilla.record(clip, 'http://host/"><script>')
    assert record["suggestions"] == {"verdict": {"value": "accepted", "score": None, "agent": "Bob", "type": "human"}}
    assert "<script>" not in record["fields"]["audio"]


def test_csv_is_read_as_it_is_written_and_no_spreadsheet_computes_it() -> None:
    text = "".join(csv_file.lines([CLIP]))
    [row] = csv.DictReader(io.StringIO(text, newline=""))
    assert row["remark"].startswith("'=")
    [again] = csv_file.opinions(text, {})
    assert again == pb.ImportedOpinion(clip_id="clip-1", opinion=OPINION)


def test_csv_of_the_page_is_read_without_what_rules_decided() -> None:
    header = "collection,clip_id,reviewer,verdict,automatic\r\n"
    text = header + "d,clip-1,rule,accepted,true\r\nd,clip-1,Ada,accepted,false\r\n"
    assert list(csv_file.opinions(text, {"Ada": "ada@example.org"})) == [
        imported("ada@example.org", pb.VERDICT_ACCEPTED)
    ]


Read = Callable[[Any, dict[str, str]], Iterator[pb.ImportedOpinion]]


def annotated(result: object, **more: object) -> object:
    return [{"data": {"clip_id": "c"}, "annotations": [{"completed_by": 1, "result": result, **more}]}]


@pytest.mark.parametrize(
    ("read", "document", "fault"),
    [
        (label_studio.opinions, {}, "the file must be a list of objects"),
        (label_studio.opinions, annotated("x"), r"\[0\]\.annotations\[0\]\.result must be a list"),
        (label_studio.opinions, annotated([{"from_name": "verdict", "value": {"choices": ["maybe"]}}]),
         r"\[0\]\.annotations\[0\]: verdict must be one of"),
        (label_studio.opinions, annotated([{"from_name": "rating", "value": {"rating": 2.5}}]), "whole number"),
        (label_studio.opinions, annotated([{"from_name": "verdict", "value": {"choices": ["accepted"]}}],
                                          completed_by="me"), r"completed_by must be a whole number"),
        (label_studio.opinions, [{"annotations": [{"completed_by": 1, "result": [
            {"from_name": "verdict", "value": {"choices": ["accepted"]}}]}]}], "clip_id must name a clip"),
        (argilla.opinions, [{"id": "c", "responses": {"verdict": [{"value": "accepted"}]}}], r"user_id must be a text"),
        (argilla.opinions, [{"id": "c", "responses": {"verdict": [{"value": 1, "user_id": ADA}]}}], "must be a text"),
        (csv_file.opinions, "clip_id,verdict\r\n", "the header must have reviewer"),
        (csv_file.opinions, "clip_id,reviewer,verdict,rating\r\nc,Ada,accepted,lots\r\n", "line 2: rating"),
        (csv_file.opinions, "clip_id,reviewer,verdict,rating\r\nc,Ada,accepted,6\r\n",
         "rating must be between 1 and 5"),
        (csv_file.opinions, "clip_id,reviewer,verdict\r\n" + "x" * 200_000, "field larger"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_by_its_place(read: Read, document: object, fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        list(read(document, {}))
