"""The OpenAPI document is one, and what the server takes and gives is what it says."""

import re
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from luthier.inference.v1 import inference_pb2 as pb

from .conftest import GENERATE, Both, body, events


@pytest.fixture(scope="session")
def document(served_both: Both) -> dict[str, Any]:
    answer = served_both.http.get("/openapi.json")
    assert answer.headers["content-encoding"] == "gzip"
    told: dict[str, Any] = answer.json()
    return told


def faults(document: dict[str, Any], value: object, place: str) -> list[str]:
    """What of a value is not as the schema at a place of the document says."""
    resource: Resource[Any] = DRAFT202012.create_resource(document)
    registry: Registry[Any] = Registry().with_resource("urn:document", resource)
    validator = OAS31Validator({"$ref": f"urn:document#{place}"}, registry=registry)
    return [fault.message for fault in validator.iter_errors(value)]


def test_it_is_valid(document: dict[str, Any]) -> None:
    validate(document)


def test_every_path_is_answered(served_both: Both, document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for method in methods:
            answer = served_both.http.request(
                method, path.replace("{name}", "none"), json={} if method == "post" else None
            )
            assert answer.status_code != 405, path
            assert str(answer.status_code) in methods[method]["responses"], path


def test_every_field_of_the_contract_is_there_with_its_description(document: dict[str, Any]) -> None:
    told = document["components"]["schemas"]["Generate"]["properties"]

    renamed = {
        "prompt": "input",
        "seconds_total": "audio_length",
        "seconds_start": "audio_start",
        "steps": "num_inference_steps",
    }
    names = {renamed.get(field.name, field.name) for field in pb.GenerateRequest.DESCRIPTOR.fields}
    assert names | {"response_format", "stream_format", "speed", "timeout_s"} == set(told)
    assert not [name for name, schema in told.items() if not schema["description"]]
    assert told["input"]["description"].startswith("Text of what the audio should contain, 1 to 2000 characters")


@pytest.mark.parametrize(
    "fields", [body(seed=1), body(seed="1", keep=[], output_format="OUTPUT_FORMAT_MP3", timeout_s=60)]
)
def test_what_it_takes_is_taken(served_both: Both, document: dict[str, Any], fields: dict[str, Any]) -> None:
    assert faults(document, fields, "/components/schemas/Generate") == []
    assert served_both.http.post(GENERATE, json=fields).status_code == 200


@pytest.mark.parametrize("fields", [{"input": 3}, {"input": "x", "seed": -1}, {"input": "x", "speed": 2}])
def test_what_it_does_not_take_is_refused(served_both: Both, document: dict[str, Any], fields: dict[str, Any]) -> None:
    assert faults(document, fields, "/components/schemas/Generate")
    refusal = served_both.http.post(GENERATE, json=fields)
    assert refusal.status_code == 400
    assert faults(document, refusal.json(), "/components/schemas/Error") == []


def test_answers_are_as_it_says(served_both: Both, document: dict[str, Any]) -> None:
    schemas = "/components/schemas/"
    told = served_both.http.post(GENERATE, json=body(seed=1, response_format="json")).json()
    assert faults(document, told, schemas + "GenerateResponse") == []
    known = set(document["components"]["schemas"]["GenerateResponse"]["properties"])
    may_be_absent = {field.name for field in pb.GenerateResponse.DESCRIPTOR.fields if field.has_presence}
    assert known - may_be_absent <= set(told) <= known

    models = "/paths/~1v1~1models/get/responses/200/content/application~1json/schema"
    assert faults(document, served_both.http.get("/v1/models").json(), models) == []

    with served_both.http.stream("POST", GENERATE, json=body(seed=77, stream_format="sse")) as answer:
        progress = [data for name, data in events(answer.iter_lines()) if name == "progress"]
    assert len(progress) == 4
    assert [faults(document, each, schemas + "GenerateProgress") for each in progress] == [[]] * 4


def test_the_page_shows_every_field_and_asks_nobody_else(served_both: Both, document: dict[str, Any]) -> None:
    page = served_both.http.get("/docs").text

    for name in document["components"]["schemas"]["Generate"]["properties"]:
        assert f"<code>{name}</code>" in page
    assert re.findall(r'(?:src|href)=["\'](?!/|#)', page) == []
    assert "<script" not in page
