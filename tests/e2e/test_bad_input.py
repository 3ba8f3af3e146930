"""Bad input to real services: the status of the table, a stable reason, and the field and bound by name."""

import hashlib
import json
import math
import struct
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.inference.v1 import inference_pb2 as inference
from luthier.inference.v1.inference_pb2_grpc import InferenceServiceStub
from luthier.rendering.v1 import rendering_pb2 as rendering
from luthier.rendering.v1.rendering_pb2_grpc import RenderingServiceStub
from luthier_kit.registry import resolve
from tests.conftest import Answer
from tests.system import System


def refusal(call: Callable[[], object]) -> tuple[str, str, dict[str, str]]:
    """(status, reason, {field: bound}) of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]  # a failed call is its own error
    assert status
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad)
    return caught.value.code().name, info.reason, {v.field: v.description for v in bad.field_violations}


@pytest.fixture(scope="session")
def renderer(system: System) -> RenderingServiceStub:
    return RenderingServiceStub(system.channel("rendering"))


@pytest.fixture(scope="session")
def generator(system: System) -> InferenceServiceStub:
    return InferenceServiceStub(system.channel("inference"))


TRUNCATED = b"MThd" + struct.pack(">IHHH", 6, 1, 1, 480) + b"MTrk" + struct.pack(">I", 1000) + b"\x00\x90"
HUGE_TRACK = b"MThd" + struct.pack(">IHHH", 6, 1, 1, 480) + b"MTrk" + struct.pack(">I", 0xFFFFFFFF)


@pytest.mark.parametrize("data", [b"", TRUNCATED, HUGE_TRACK, b"GIF89a" * 50], ids=["empty", "truncated", "4GB", "gif"])
def test_hostile_midi_is_refused_with_a_reason(system: System, renderer: RenderingServiceStub, data: bytes) -> None:
    midi = system.store.blobs.put_bytes("midi", data, "mid", "audio/midi")
    status, reason, _ = refusal(lambda: renderer.RenderSong(rendering.RenderSongRequest(midi=midi)))
    assert status == "INVALID_ARGUMENT"
    assert reason.startswith("MIDI_")


def test_hostile_files_are_rows_of_the_summary(system: System) -> None:
    folder = system.folder / "hostile"
    folder.mkdir()
    for name, data in {"empty": b"", "truncated": TRUNCATED, "huge": HUGE_TRACK}.items():
        (folder / f"{name}.mid").write_bytes(data)
    summary = system.luthier("run", str(folder))
    assert (summary["files"], summary["songs"], summary["rendered"]) == (3, 0, 0)
    assert sorted(f["path"] for f in summary["failures"]) == ["empty.mid", "huge.mid", "truncated.mid"]
    assert all(f["stage"] == "ingest" and f["reason"].startswith("MIDI_") for f in summary["failures"])


def test_an_unknown_artifact_is_not_found(renderer: RenderingServiceStub) -> None:
    digest = hashlib.sha256(b"nowhere").hexdigest()
    midi = ArtifactRef(key=f"midi/{digest}.mid", sha256=digest, size_bytes=7)
    assert refusal(lambda: renderer.RenderSong(rendering.RenderSongRequest(midi=midi)))[0] == "NOT_FOUND"


def test_a_digest_that_differs_is_a_failed_precondition(system: System, renderer: RenderingServiceStub) -> None:
    midi = system.store.blobs.put_bytes("midi", b"some bytes", "mid", "audio/midi")
    midi.sha256 = hashlib.sha256(b"other bytes").hexdigest()
    status, reason, _ = refusal(lambda: renderer.RenderSong(rendering.RenderSongRequest(midi=midi)))
    assert (status, reason) == ("FAILED_PRECONDITION", "ARTIFACT_DIGEST_MISMATCH")


def test_a_bucket_that_is_not_allowed_is_denied(system: System, renderer: RenderingServiceStub) -> None:
    midi = system.store.blobs.put_bytes("midi", b"some bytes", "mid", "audio/midi")
    midi.bucket = "somebody-elses"
    assert refusal(lambda: renderer.RenderSong(rendering.RenderSongRequest(midi=midi)))[0] == "PERMISSION_DENIED"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seconds_total", 1e9),
        ("seconds_total", math.nan),
        ("seconds_total", 0.0),
        ("steps", 0),
        ("steps", 100_000),
        ("prompt", ""),
        ("prompt", "x" * 5000),
        ("sigma_max", math.inf),
        ("guidance_scale", math.nan),
        ("guidance_rescale", -1.0),
        ("sampler", "no-such-sampler"),
    ],
)
def test_generate_names_the_field_and_the_bound(
    generator: InferenceServiceStub, field: str, value: float | str
) -> None:
    arguments: dict[str, Any] = {"prompt": "a song", field: value}
    request = inference.GenerateRequest(**arguments)
    status, _, violations = refusal(lambda: generator.Generate(request))
    assert status == "INVALID_ARGUMENT"
    assert "must" in violations[field]


def test_an_unknown_model_is_not_found(generator: InferenceServiceStub) -> None:
    request = inference.GenerateRequest(prompt="a song", model="no-such-model")
    assert refusal(lambda: generator.Generate(request))[0] == "NOT_FOUND"


def test_a_checkpoint_of_the_wrong_shape_is_refused_before_it_is_registered(system: System, base: Answer) -> None:
    known, folder = resolve(system.store, base["model"]), system.folder / "operator"
    for name, ref in (("model_config.json", known.configuration), *known.text_encoder):
        target = folder / ("" if name == "model_config.json" else "t5") / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(system.store.blobs.read(ref))
    header = json.dumps({"model.weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    weights = folder / "wrong.safetensors"
    weights.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    files = (
        "--weights",
        str(weights),
        "--config",
        str(folder / "model_config.json"),
        "--text-encoder",
        str(folder / "t5"),
    )
    refused = system.luthier("register", "wrong", *files, code=1)
    assert (refused["error"]["code"], refused["error"]["reason"]) == ("FAILED_PRECONDITION", "CHECKPOINT_MISMATCH")
    assert "wrong" not in {model["name"] for model in system.luthier("models")["models"]}


def test_a_run_of_a_folder_that_is_not_there_is_wrong_usage(system: System) -> None:
    system.luthier("run", "/no/such/folder", code=2)
