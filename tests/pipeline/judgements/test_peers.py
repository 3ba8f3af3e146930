"""Our files before the readers of Label Studio and Argilla themselves, each in an environment of its own."""

import json
import subprocess
from pathlib import Path

import pytest

from luthier_pipeline.judgements import argilla, label_studio
from tests.support.services import require_tool

from .test_opinion_files import ADA, CLIP, LABEL_STUDIO

pytestmark = pytest.mark.slow
LABEL_STUDIO_SDK, ARGILLA = "label-studio-sdk==2.1.2", "argilla==2.8.0"
READ_LABEL_STUDIO = """
import json, sys
from label_studio_sdk.label_interface import LabelInterface
interface = LabelInterface(open("interface.xml").read())
interface.validate()
for name in ("tasks.json", "export.json"):
    for task in json.load(open(name)):
        assert interface.validate_task({"data": task["data"]}) or name == "export.json"
        faults = [fault for kind in ("annotations", "predictions") for made in task.get(kind, [])
                  for fault in interface.validate_prediction(made, return_errors=True)
                  if "score" not in fault]
        print(json.dumps(faults))
"""
READ_ARGILLA = """
import json
from pathlib import Path
from argilla._models import FieldModel, MetadataFieldModel, QuestionModel  # Settings itself wants a server
from argilla.records._io import JsonIO
settings = json.load(open("settings.json"))
fields = [FieldModel(**field) for field in settings["fields"]]
questions = [QuestionModel(**question) for question in settings["questions"]]
assert [MetadataFieldModel(**field).name for field in settings["metadata"]] == ["collection"]
[record] = JsonIO._records_from_json("records.json")
print(json.dumps({
    "fields": sorted(field.name for field in fields), "of_record": sorted(record.fields.keys()),
    "questions": [question.name for question in questions],
    "suggested": {item.question_name: item.value for item in record.suggestions},
}))
JsonIO.to_json([record], Path("again.json"))
"""


def run_with(package: str, program: str, folder: Path) -> str:
    """What a program prints that has this package."""
    uv = str(require_tool("uv"))
    command = [uv, "run", "--no-project", "--python", "3.11", "--with", package, "python", "-c", program]
    return subprocess.run(command, check=True, cwd=folder, capture_output=True, text=True, timeout=600).stdout


def test_label_studios_own_interface_takes_our_tasks_and_the_exports_that_we_read(tmp_path: Path) -> None:
    (tmp_path / "interface.xml").write_text(label_studio.interface())
    (tmp_path / "tasks.json").write_text(json.dumps([label_studio.task(CLIP, "http://host/clip-1.flac")]))
    complete = LABEL_STUDIO[0]["annotations"][0]  # type: ignore[index]
    exported = [{**LABEL_STUDIO[0], "annotations": [complete]}]
    (tmp_path / "export.json").write_text(json.dumps(exported))
    lines = run_with(LABEL_STUDIO_SDK, READ_LABEL_STUDIO, tmp_path).splitlines()
    assert [json.loads(line) for line in lines] == [[], []]


def test_argillas_own_reader_takes_our_records_and_we_read_what_it_writes(tmp_path: Path) -> None:
    record = argilla.record(CLIP, "http://host/clip-1.flac")
    record["responses"] = {"verdict": [{"value": "accepted", "user_id": ADA}]}
    (tmp_path / "settings.json").write_text(json.dumps(argilla.settings()))
    (tmp_path / "records.json").write_text(json.dumps([record]))
    read = json.loads(run_with(ARGILLA, READ_ARGILLA, tmp_path).splitlines()[-1])
    assert read["fields"] == read["of_record"] == ["audio", "captions", "facts", "title"]
    assert read["questions"] == ["verdict", "reason", "rating", "prompt", "remark"]
    assert read["suggested"]["verdict"] == "rejected"
    [again] = argilla.opinions(json.loads((tmp_path / "again.json").read_text()), {ADA: "Ada"})
    assert (again.clip_id, again.opinion.reviewer) == ("clip-1", "Ada")
