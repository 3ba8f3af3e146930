"""What names an action, and the records of what it did: what they hold, and documents that are none."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.rendering.v1.rendering_pb2 import InspectMidiResponse, RenderSongResponse, Stem
from luthier.store.v1.store_pb2 import ActionRecord
from luthier_kit.store import Action, artifacts_in, encode_record, parse_record
from tests.support.services import temp_store
from tests.support.stores import damage


def test_the_order_of_parameters_does_not_matter() -> None:
    assert Action("render", parameters={"a": 1, "b": 2}).digest == Action("render", parameters={"b": 2, "a": 1}).digest


def test_the_order_of_inputs_matters() -> None:
    assert Action("score", ["aa", "bb"]).digest != Action("score", ["bb", "aa"]).digest


def test_licences_do_not_name_an_action() -> None:
    assert Action("render", licences=["MIT"]).digest == Action("render").digest


def test_the_digest_is_stable_across_releases() -> None:
    """A change of this value recomputes everybody's corpus: it must be meant."""
    action = Action("render", ["ab"], {"gain_db": -3.5, "name": "Ä"}, seed=7, version="2", tools={"soundfont": "cd"})
    assert action.digest == "c6deb1d6ef88e52e2bad5de5cef34bbcbd7cc3da414bfc3a6ea8259b2ab39d5f"


@pytest.mark.parametrize("parameters", [{"x": math.nan}, {"x": object()}])
def test_what_json_cannot_say_is_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        _ = Action("render", parameters=parameters).digest


@pytest.mark.parametrize(
    ("stage", "inputs"), [("", []), ("Render", []), ("a/b", []), ("render", "abc"), ("render", [""])]
)
def test_bad_names_are_refused(stage: str, inputs: list[str]) -> None:
    with pytest.raises(ValueError, match=r"render|stage"):
        Action(stage, inputs)


# Records


def record(result: RenderSongResponse) -> ActionRecord:
    made = ActionRecord(stage="render", digest="ab", lineage=Action("render").lineage, commit="c", generation=1)
    made.created_at.GetCurrentTime()
    made.result.Pack(result)
    return made


def test_artifacts_are_found_at_any_depth() -> None:
    stems = [Stem(audio=ArtifactRef(key="stems/1")), Stem(audio=ArtifactRef(key="stems/2")), Stem()]
    message = RenderSongResponse(mix=ArtifactRef(key="mixes/1"), stems=stems)
    assert [ref.key for ref in artifacts_in(message)] == ["mixes/1", "stems/1", "stems/2"]


def test_what_a_record_holds_comes_back() -> None:
    message = RenderSongResponse(
        seed=2**63, cpu_s=0.1, fingerprint="ab", mix=ArtifactRef(key="mixes/x", size_bytes=2**40)
    )
    again = parse_record(encode_record(record(message)), RenderSongResponse)
    assert again
    response = RenderSongResponse()
    assert again.result.Unpack(response)
    assert response == message


def test_a_record_is_json_that_people_can_read() -> None:
    data = encode_record(record(RenderSongResponse(seed=7, fingerprint="Ä")))
    assert '\n "stage": "render",\n' in data.decode()
    assert json.loads(data)["result"] == {
        "@type": "type.googleapis.com/luthier.rendering.v1.RenderSongResponse", "seed": "7", "fingerprint": "Ä",
    }  # fmt: skip


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"{}", b"7", b'{"created_at": 1}', b"\xff"])
def test_what_is_no_record_is_void(data: bytes) -> None:
    assert parse_record(data, RenderSongResponse) is None


@pytest.mark.parametrize("field", ["commit", "created_at", "lineage", "result"])
def test_a_record_without_what_it_must_have_is_void(field: str) -> None:
    incomplete = record(RenderSongResponse(seed=7))
    incomplete.ClearField(field)
    assert parse_record(encode_record(incomplete), RenderSongResponse) is None


def test_a_record_of_another_result_is_void() -> None:
    assert parse_record(encode_record(record(RenderSongResponse(seed=7))), InspectMidiResponse) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"result": {"@type": "type.googleapis.com/luthier.no.such.Kind", "seed": 7}},
        {"result": {"@type": 7}},
        {"result": None, "refusal": {"code": 99, "message": "of a code that nobody knows"}},
        {"result": None, "refusal": {"code": 13, "message": "a bug is never recorded"}},
        {"result": None, "refusal": {"code": 3, "details": [{"@type": "type.googleapis.com/luthier.no.such.Kind"}]}},
        {"blobs": [{"key": "../../etc/passwd"}]},
        {"created_at": "99999-01-01T00:00:00Z"},
        {"commit": [[[[]]]]},
    ],
)
def test_a_record_of_an_unknown_kind_is_void(changes: dict[str, object]) -> None:
    value = {**json.loads(encode_record(record(RenderSongResponse(seed=7)))), **changes}
    data = json.dumps({name: item for name, item in value.items() if item is not None}).encode()
    assert parse_record(data, RenderSongResponse) is None


def test_a_record_that_names_a_foreign_bucket_is_void(tmp_path: Path) -> None:
    with temp_store(tmp_path) as store:
        action = Action("render", ["a" * 64])
        foreign = ArtifactRef(bucket="foreign", key=f"mixes/{'b' * 64}.flac", sha256="b" * 64)
        store.actions.run(action, RenderSongResponse, lambda: RenderSongResponse(seed=1))
        stored = record(RenderSongResponse(seed=2))
        stored.blobs.append(foreign)
        damage(store, action.key(1), encode_record(stored))
        response, reused = store.actions.run(action, RenderSongResponse, lambda: RenderSongResponse(seed=3))
        assert (response.seed, reused) == (3, False)
