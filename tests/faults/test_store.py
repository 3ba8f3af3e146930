"""A store that stops answering: bounded, clear, and well again when it is back."""

import os
import signal
import time
from pathlib import Path

import grpc
import pytest

from luthier.rendering.v1 import rendering_pb2 as rendering
from luthier.rendering.v1.rendering_pb2_grpc import RenderingServiceStub
from tests.support.services import require_tool
from tests.system import songbook, started


def test_a_store_that_is_down_is_unavailable_with_a_hint_and_comes_back(tmp_path: Path) -> None:
    require_tool("minio")
    with started(tmp_path, "rendering", STORE="minio") as system:
        song = next(songbook(tmp_path / "songs", keep=1).rglob("*.mid"))
        midi = system.store.blobs.put_file("midi", song, media_type="audio/midi")
        stub = RenderingServiceStub(system.channel("rendering"))
        minio = system.services["minio"].pid
        os.kill(minio, signal.SIGSTOP)
        begun = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            stub.InspectMidi(rendering.InspectMidiRequest(midi=midi), timeout=60)
        waited = time.monotonic() - begun
        os.kill(minio, signal.SIGCONT)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "grpc-retry-pushback-ms" in {item.key for item in caught.value.trailing_metadata()}
        assert waited < 30
        assert stub.InspectMidi(rendering.InspectMidiRequest(midi=midi), timeout=60).notes > 0
