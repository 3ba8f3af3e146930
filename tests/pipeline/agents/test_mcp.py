"""`luthier mcp` as agents reach it: the SDK's own client over stdio and HTTP, real services behind it."""

import asyncio
import base64
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
import soundfile
from mcp import Client, StdioServerParameters, stdio_client
from mcp.types import AudioContent, CallToolResult, TextContent

from luthier.common.v1.common_pb2 import (
    FACT_SOURCE_NOTES,
    FACT_SOURCE_TEMPO_MAP,
    MODE_MAJOR,
    ClipFacts,
    ClipSource,
    InstrumentFact,
    KeyFact,
    Lineage,
    Prompt,
    SongName,
    Span,
    TempoFact,
)
from luthier.curation.v1.curation_pb2 import NewClip, UpsertClipsRequest
from luthier.curation.v1.curation_pb2_grpc import CurationServiceStub
from luthier_kit.store import StoreSettings, open_store
from tests.pipeline.fakes import luthier
from tests.support.programs import curation, tiny_inference

T = TypeVar("T")
ASKED: dict[str, Any] = {"prompt": "calm piano", "seconds": 1.0, "steps": 4, "seed": 2**64 - 1}
TOKENS = {"shop": "shops-token", "poor": "poors-token", "blind": "blinds-token"}


@dataclass(frozen=True)
class Services:
    """Where they are, as `luthier` reads it from its environment."""

    environ: dict[str, str]


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("services")
    (folder / "callers").mkdir()
    for caller, token in TOKENS.items():
        (folder / "callers" / caller).write_text(f"sha256:{hashlib.sha256(token.encode()).hexdigest()}\n")
    named = {
        "LUTHIER_CALLERS": str(folder / "callers"),
        "LUTHIER_CALLER_PERMISSIONS": "shop=read+generate+curate,poor=read+generate,blind=",
    }
    quotas = {"LUTHIER_CALLER_QUOTAS": "poor=calls:1,*="}
    with (
        tiny_inference(folder / "inference", **named, **quotas) as inference,
        curation(folder / "curation", inference.store, **named) as curating,
    ):
        fill(inference.store, curating.address)
        yield Services(
            {
                "LUTHIER_INFERENCE_ADDRESS": inference.address,
                "LUTHIER_CURATION_ADDRESS": curating.address,
                "LUTHIER_STORE_FOLDER": str(inference.store),
                "LUTHIER_HOME": str(folder / "home"),
            }
        )


def fill(folder: Path, address: str) -> None:
    """Two clips in the collection `songs`."""
    store = open_store(StoreSettings(store="folder", store_folder=folder))
    clips = [
        NewClip(
            source=ClipSource(
                song_fingerprint=hashlib.sha256(title.encode()).hexdigest(), span=Span(end_s=2),
                song=SongName(artist="The Band", title=title),
            ),
            audio=store.blobs.put_bytes("clips", title.encode(), "flac", "audio/flac"),
            facts=ClipFacts(
                duration_s=2, tempo=TempoFact(tempo_bpm=bpm, source=FACT_SOURCE_TEMPO_MAP),
                key=KeyFact(tonic="C", mode=MODE_MAJOR, source=FACT_SOURCE_NOTES),
                instruments=[InstrumentFact(instrument="Acoustic Grand Piano", family="Piano", share=1)],
            ),
            prompts=[Prompt(text=f"{title} at {bpm} BPM", composer="grammar")],
            lineage=Lineage(inputs=["a" * 64], licences=["MIT"]),
        )
        for title, bpm in (("Slow", 60), ("Quick", 180))
    ]  # fmt: skip
    with grpc.insecure_channel(address) as channel:
        request = UpsertClipsRequest(collection="songs", clips=clips)
        CurationServiceStub(channel).UpsertClips(
            request, metadata=(("authorization", f"Bearer {TOKENS['shop']}"),), timeout=60
        )


def command(services: Services, folder: Path, caller: str, *more: str) -> StdioServerParameters:
    environ = {**services.environ, "LUTHIER_TOKEN": TOKENS[caller]}
    arguments = ["-m", "luthier_pipeline", "mcp", "--folder", str(folder / "audio"), *more]
    return StdioServerParameters(command=sys.executable, args=arguments, env=environ, cwd=folder)


def asking(
    services: Services, folder: Path, work: Callable[[Client], Awaitable[T]], *more: str, caller: str = "shop"
) -> T:
    """What `work` makes with a client of `luthier mcp`, a process of its own that speaks over its standard streams."""

    async def main() -> T:
        with (folder / "stderr").open("w") as errors:
            async with Client(stdio_client(command(services, folder, caller, *more), errlog=errors)) as client:
                return await asyncio.wait_for(work(client), 120)

    return asyncio.run(main())


def call(
    services: Services, folder: Path, tool: str, *more: str, caller: str = "shop", **arguments: Any
) -> CallToolResult:
    return asking(services, folder, lambda client: client.call_tool(tool, arguments), *more, caller=caller)


def told(result: CallToolResult) -> dict[str, Any]:
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content


def refusal(result: CallToolResult) -> dict[str, Any]:
    assert result.is_error
    assert result.structured_content is not None
    return result.structured_content


def test_tools_say_what_they_take_and_answer(services: Services, tmp_path: Path) -> None:
    listed = asking(services, tmp_path, lambda client: client.list_tools()).tools

    assert [tool.name for tool in listed] == ["generate", "models", "search_clips", "verify", "usage"]
    assert all(tool.description and tool.output_schema for tool in listed)
    taken = {name for tool in listed for name in tool.input_schema["properties"]}
    assert not {"context", "clients", "self"} & taken
    assert [tool.annotations.read_only_hint for tool in listed if tool.annotations] == [False, True, True, True, True]


def test_generate_makes_a_file_tells_its_progress_and_brings_small_audio(services: Services, tmp_path: Path) -> None:
    seen: list[tuple[float, float | None]] = []

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total))

    result = asking(
        services,
        tmp_path,
        lambda client: client.call_tool("generate", ASKED, progress_callback=tell),
        "--inline-kib",
        "512",
    )

    answer = told(result)
    sound = soundfile.info(answer["path"])
    assert Path(answer["path"]).parent == tmp_path / "audio"
    assert (sound.format, sound.frames / sound.samplerate, answer["seconds"]) == ("FLAC", 1.0, 1.0)
    assert (answer["model"], answer["seed"], answer["reused"]) == ("tiny@1", str(2**64 - 1), False)
    assert seen[-1] == (4, 4)
    [audio] = [content for content in result.content if isinstance(content, AudioContent)]
    assert base64.b64decode(audio.data) == Path(answer["path"]).read_bytes()
    assert audio.mime_type == "audio/flac"


def test_large_audio_is_a_path_alone(services: Services, tmp_path: Path) -> None:
    result = call(services, tmp_path, "generate", "--inline-kib", "0", **ASKED, format="wav")

    assert [type(content) for content in result.content] == [TextContent]
    assert soundfile.info(told(result)["path"]).format == "WAV"


def test_what_was_made_is_verified_and_other_files_are_not_read(services: Services, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("not for agents")
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio/link.txt").symlink_to(tmp_path / "secret.txt")

    async def work(client: Client) -> list[CallToolResult]:
        made = told(await client.call_tool("generate", ASKED))
        paths = [made["path"], "../secret.txt", str(tmp_path / "secret.txt"), "link.txt"]
        return [await client.call_tool("verify", {"path": path}) for path in paths]

    made, *others = asking(services, tmp_path, work)

    answer = told(made)
    assert (answer["finding"], answer["model"], answer["seed"]) == ("intact", "tiny@1", str(2**64 - 1))
    assert answer["output_key"].startswith("generated/")
    assert {refusal(each)["reason"] for each in others} == {"FILE_NOT_READABLE_BY_AGENTS"}
    uploads = Path(services.environ["LUTHIER_STORE_FOLDER"]).rglob("audio/*")
    assert all(b"not for agents" not in path.read_bytes() for path in uploads if path.is_file())


def test_models_and_usage(services: Services, tmp_path: Path) -> None:
    async def work(client: Client) -> tuple[CallToolResult, CallToolResult]:
        return await client.call_tool("models", {}), await client.call_tool("usage", {})

    models, usage = map(told, asking(services, tmp_path, work))

    assert [each["model"] for each in models["models"]] == ["tiny@1"]
    assert models["default"] == "tiny"
    assert (usage["caller"], usage["max_calls"]) == ("shop", None)


def test_clips_are_found_by_words_and_tempo(services: Services, tmp_path: Path) -> None:
    async def work(client: Client) -> list[CallToolResult]:
        asked: list[dict[str, Any]] = [{}, {"text": "quick"}, {"max_tempo_bpm": 100}, {"page_size": 1}]
        return [await client.call_tool("search_clips", each) for each in asked]

    every, quick, slow, page = map(told, asking(services, tmp_path, work))

    assert {clip["title"] for clip in every["clips"]} == {"Slow", "Quick"}
    assert [(clip["title"], clip["tempo_bpm"], clip["key"]) for clip in quick["clips"]] == [("Quick", 180, "C major")]
    assert slow["clips"][0]["prompts"] == ["Slow at 60 BPM"]
    assert (len(page["clips"]), page["total"], bool(page["next_page_token"])) == (1, 2, True)


def test_a_bad_request_comes_as_a_tool_error_with_fields_and_bounds(services: Services, tmp_path: Path) -> None:
    result = call(services, tmp_path, "generate", prompt="", steps=0)

    assert refusal(result)["reason"] == "INVALID_REQUEST"
    assert any(each.startswith("steps must be between 1 and 1000") for each in refusal(result)["violations"])
    [text] = [content for content in result.content if isinstance(content, TextContent)]
    assert "INVALID_REQUEST" in text.text
    assert "prompt" in text.text


def test_a_spent_quota_says_when_to_come_back(services: Services, tmp_path: Path) -> None:
    async def work(client: Client) -> list[CallToolResult]:
        return [await client.call_tool("generate", {**ASKED, "seed": seed}) for seed in (71, 72)]

    first, second = asking(services, tmp_path, work, caller="poor")

    assert not first.is_error
    assert (refusal(second)["reason"], refusal(second)["metadata"]["quota"]) == ("QUOTA_SPENT", "calls")
    assert 0 < refusal(second)["retry_after_s"] <= 86_400
    assert "Ask again in" in second.content[0].text  # type: ignore[union-attr]


def test_permissions_are_the_callers_own(services: Services, tmp_path: Path) -> None:
    result = call(services, tmp_path, "models", caller="blind")

    assert refusal(result)["reason"] == "CALLER_NOT_PERMITTED"


def test_giving_up_a_call_ends_its_work(services: Services, tmp_path: Path) -> None:
    """The quota's count says so: a call that is given up costs the steps that were made."""

    async def work(client: Client) -> tuple[int, int]:
        begun = asyncio.Event()

        async def tell(progress: float, total: float | None, message: str | None) -> None:
            begun.set()

        before = told(await client.call_tool("usage", {}))["steps"]
        endless = {**ASKED, "steps": 1000, "seed": 81}
        generating = asyncio.create_task(client.call_tool("generate", endless, progress_callback=tell))
        await begun.wait()
        reserved = told(await client.call_tool("usage", {}))["steps"] - before
        generating.cancel()
        while (left := told(await client.call_tool("usage", {}))["steps"] - before) == 1000:
            await asyncio.sleep(0.05)
        return reserved, left

    reserved, left = asking(services, tmp_path, work)

    assert reserved == 1000
    assert left < 1000


def test_a_service_that_is_away_is_told(tmp_path: Path) -> None:
    away = Services({"LUTHIER_INFERENCE_ADDRESS": "127.0.0.1:9"})

    result = call(away, tmp_path, "models", "--patience", "1")

    assert refusal(result)["reason"] == "UNREACHABLE"


def test_over_http_on_loopback_the_same_tools_answer(services: Services, tmp_path: Path) -> None:
    parameters = command(services, tmp_path, "shop", "--http", "127.0.0.1:0")
    process = subprocess.Popen(
        [parameters.command, *parameters.args], env={**os.environ, **(parameters.env or {})}, cwd=tmp_path,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout
        url = re.search(r"http://\S+/mcp", process.stdout.readline())
        assert url

        async def main() -> CallToolResult:
            async with Client(url[0]) as client:
                return await client.call_tool("models", {})

        assert told(asyncio.run(main()))["default"] == "tiny"
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("address", ["0.0.0.0:7400", "192.168.1.2:7400", "example.org:80", "7400", "127.0.0.1:x"])
def test_http_is_refused_where_others_reach_it(address: str) -> None:
    done = luthier(f"mcp --http {address}")

    assert done.code == 2
    assert "--http" in done.err
