"""The tools: each a call of a service, by the token of this process, so that permissions and quotas are a caller's own.

A tool that fails answers with `isError`, a text, and a `Refusal` as its structured content. An agent that gives up a
call (`notifications/cancelled`) ends the work that was begun for it.
"""

import base64
import hashlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

from anyio import from_thread, to_thread
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.types import AudioContent, CallToolResult, ContentBlock, TextContent, ToolAnnotations
from pydantic import BaseModel, Field

from luthier.curation.v1.curation_pb2 import (
    VERDICT_ACCEPTED,
    VERDICT_OPEN,
    VERDICT_REJECTED,
    ClipFilter,
    ListClipsRequest,
)
from luthier.inference.v1.inference_pb2 import (
    OUTPUT_FORMAT_FLAC,
    OUTPUT_FORMAT_MP3,
    OUTPUT_FORMAT_WAV,
    DetectMarksRequest,
    GenerateProgress,
    GenerateRequest,
    GenerateResponse,
    GetUsageRequest,
    ListModelsRequest,
    MusicFields,
    StreamGenerateRequest,
)
from luthier_kit.rpc import (
    MAX_PROMPT_CHARS,
    DataLoss,
    InvalidRequest,
    LuthierError,
    SettingsError,
    Unavailable,
    new_request_id,
)
from luthier_pipeline.agents import answers
from luthier_pipeline.clients import Clients
from luthier_pipeline.console import UsageError
from luthier_pipeline.files import put
from luthier_pipeline.models import default_model

T = TypeVar("T")
INSTRUCTIONS: Final = (
    "Luthier generates music from text prompts by models that were trained on captioned clips. `models` lists them,"
    " `search_clips` shows how the captions of training data are worded (prompts in their words work best), `generate`"
    " makes audio into a file, `verify` says whether a file was made by a model, `usage` what is left of your quotas."
)
PROGRESS_EVERY_S: Final = 0.25
MAX_PAGE: Final = 50
FORMATS: Final = {"flac": OUTPUT_FORMAT_FLAC, "wav": OUTPUT_FORMAT_WAV, "mp3": OUTPUT_FORMAT_MP3}
VERDICTS: Final = {"accepted": VERDICT_ACCEPTED, "open": VERDICT_OPEN, "rejected": VERDICT_REJECTED}
READS: Final = ToolAnnotations(read_only_hint=True)
MAKES: Final = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True)


@dataclass(frozen=True)
class Tools:
    """`folder` is where audio goes. Files are read from there and from `readable`, and from nowhere else: an agent does
    what text tells it. `patience_s`: for how long a service that is away or full is asked again. `inline_bytes`: audio
    up to this length also goes into the answer.
    """

    clients: Clients
    folder: Path
    readable: Sequence[Path] = ()
    inline_bytes: int = 0
    patience_s: float = 120.0

    def server(self) -> MCPServer:
        """A server with these tools."""
        server: MCPServer = MCPServer(
            "luthier", version=installed_version("luthier-pipeline"), instructions=INSTRUCTIONS
        )
        server.add_tool(self.generate, annotations=MAKES)
        for tool in (self.models, self.search_clips, self.verify, self.usage):
            server.add_tool(tool, annotations=READS)
        return server

    async def generate(
        self,
        context: Context,
        prompt: Annotated[str, Field(description="what to hear", max_length=MAX_PROMPT_CHARS)] = "",
        seconds: Annotated[float | None, Field(description="length; null = the longest of the model")] = None,
        tempo_bpm: Annotated[float | None, Field(description="20 to 400")] = None,
        key: Annotated[str, Field(description="such as 'F# minor'; empty = any")] = "",
        meter: Annotated[str, Field(description="such as 3/4; empty = any")] = "",
        bars: Annotated[
            int | None, Field(description="length in bars, in place of seconds; needs tempo and meter")
        ] = None,
        instruments: Annotated[list[str] | None, Field(description="at most 5, such as piano, drums")] = None,
        model: Annotated[str, Field(description="name or name@n; empty = the server's default")] = "",
        negative_prompt: Annotated[str, Field(max_length=MAX_PROMPT_CHARS)] = "",
        steps: Annotated[int | None, Field(description="denoising steps, 1 to 1000; null = the model's")] = None,
        seed: Annotated[int | None, Field(description="64 bits; null = another each time", ge=0, lt=1 << 64)] = None,
        format: Annotated[Literal["flac", "wav", "mp3"], Field(description="of the file")] = "flac",
    ) -> Annotated[CallToolResult, answers.Generated]:
        """Make music from a text prompt. Prompt and fields of music must not contradict each other; the fields complete
        the prompt. Takes seconds to minutes and tells its progress. The same request with the same seed is the same
        audio.
        """
        music = MusicFields(tempo_bpm=tempo_bpm, key=key, meter=meter, bars=bars, instruments=instruments or ())
        request = GenerateRequest(
            prompt=prompt, negative_prompt=negative_prompt, model=model, seconds_total=seconds, steps=steps, seed=seed,
            music=music if music.ByteSize() else None, output_format=FORMATS[format], request_id=new_request_id(),
        )  # fmt: skip

        def work(clients: Clients) -> tuple[GenerateResponse, Path]:
            request.model = request.model or default_model(clients)
            return _streamed(clients, request, self.folder, _teller(context))

        def told(made: tuple[GenerateResponse, Path]) -> tuple[BaseModel, list[ContentBlock]]:
            response, path = made
            more: list[ContentBlock] = []
            if response.audio.size_bytes <= self.inline_bytes:
                data = base64.b64encode(path.read_bytes()).decode()
                more.append(AudioContent(type="audio", data=data, mime_type=response.audio.media_type))
            return answers.generated(response, str(path)), more

        return await self._answer(work, told)

    async def models(
        self, name: Annotated[str, Field(description="only of this name; empty = all")] = ""
    ) -> Annotated[CallToolResult, answers.Models]:
        """List the registered models, how long their audio may be, and which is the default."""

        def work(clients: Clients) -> BaseModel:
            listed = clients.inference.ListModels(ListModelsRequest(name=name))
            return answers.Models(models=list(map(answers.version, listed.models)), default=listed.default_model)

        return await self._answer(work, _alone)

    async def search_clips(
        self,
        text: Annotated[str, Field(description="words of prompts, artists, titles or tags; empty = any")] = "",
        collection: Annotated[str, Field(description="empty = all")] = "",
        instrument: Annotated[str, Field(description="such as Acoustic Grand Piano; empty = any")] = "",
        tag: str = "",
        min_tempo_bpm: float | None = None,
        max_tempo_bpm: float | None = None,
        verdict: Literal["accepted", "open", "rejected", "any"] = "any",
        page_size: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 10,
        page_token: Annotated[str, Field(description="next_page_token of the page before")] = "",
    ) -> Annotated[CallToolResult, answers.Clips]:
        """Search the captioned clips that data sets are made of: their captions, tempo, key, instruments."""
        wanted = ClipFilter(
            text=text, collection=collection, instrument=instrument, tag=tag, min_tempo_bpm=min_tempo_bpm,
            max_tempo_bpm=max_tempo_bpm, verdict=VERDICTS.get(verdict),
        )  # fmt: skip

        def work(clients: Clients) -> BaseModel:
            request = ListClipsRequest(filter=wanted, page_size=page_size, page_token=page_token, count_limit=1000)
            page = clients.curation.ListClips(request)
            return answers.Clips(
                clips=list(map(answers.clip, page.clips)),
                total=page.total,
                more_than_total=page.more_than_total,
                next_page_token=page.next_page_token,
            )

        return await self._answer(work, _alone)

    async def verify(
        self, path: Annotated[str, Field(description="an audio file on this machine")]
    ) -> Annotated[CallToolResult, answers.Verified]:
        """Say by a file's content credentials whether a model made it, which, and whether it was changed since."""

        def work(clients: Clients) -> BaseModel:
            audio = put(self.clients.store, "audio", self._readable(path), "application/octet-stream")
            return answers.verified(clients.inference.DetectMarks(DetectMarksRequest(audio=audio)))

        return await self._answer(work, _alone)

    async def usage(self) -> Annotated[CallToolResult, answers.Spent]:
        """Say what this caller had of its quotas today, what it may have, and when they are renewed."""

        def work(clients: Clients) -> BaseModel:
            told = clients.inference.GetUsage(GetUsageRequest())
            return answers.spent(told.usage, told.renewed_at.ToDatetime().isoformat())

        return await self._answer(work, _alone)

    async def _answer(
        self, work: Callable[[Clients], T], told: Callable[[T], tuple[BaseModel, list[ContentBlock]]]
    ) -> CallToolResult:
        """What `work` makes, in a thread of its own, with clients that end their calls when the agent gives up."""
        clients = self.clients.with_retry_budget(self.patience_s)
        try:
            answer, more = told(await to_thread.run_sync(work, clients, abandon_on_cancel=True))
        except (LuthierError, SettingsError, UsageError) as error:
            refusal = answers.Refusal.of(error)
            text = TextContent(type="text", text=refusal.text())
            return CallToolResult(content=[text], structured_content=refusal.model_dump(), is_error=True)
        finally:
            clients.close()
        text = TextContent(type="text", text=answer.model_dump_json())
        return CallToolResult(content=[text, *more], structured_content=answer.model_dump())

    def _readable(self, path: str) -> Path:
        """The file, where it is one that agents may read. InvalidRequest otherwise, with the folders that are."""
        found = (self.folder / path).resolve()
        folders = [folder.resolve() for folder in (self.folder, *self.readable)]
        if not any(found.is_relative_to(folder) for folder in folders):
            bound = f"must be below {' or '.join(map(str, folders))} (luthier mcp --read FOLDER)"
            raise InvalidRequest(reason="FILE_NOT_READABLE_BY_AGENTS", violations=[("path", bound)])
        if not found.is_file():
            raise InvalidRequest(reason="FILE_UNREADABLE", violations=[("path", "must be a file that is there")])
        return found


def _alone(answer: BaseModel) -> tuple[BaseModel, list[ContentBlock]]:
    return answer, []


def _streamed(
    clients: Clients, request: GenerateRequest, folder: Path, tell: Callable[[GenerateProgress], None]
) -> tuple[GenerateResponse, Path]:
    """The response, and its audio as a file in a folder, named by model and content."""
    response: GenerateResponse | None = None
    part = folder / f".{request.request_id}.part"
    try:
        with part.open("wb") as file:
            for event in clients.inference.StreamGenerate(StreamGenerateRequest(request=request)):
                if event.HasField("response"):
                    response = event.response
                elif event.HasField("progress"):
                    tell(event.progress)
                file.write(event.audio_chunk)
        if response is None:
            raise Unavailable("the stream ended without a response", reason="STREAM_CUT")
        with part.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != response.audio.sha256:
                raise DataLoss("the audio that arrived is not what was made")
        model = re.sub(r"[^A-Za-z0-9._-]+", "-", response.model)
        path = folder / f"{model}-{response.audio.sha256[:12]}.{response.audio.key.rpartition('.')[2]}"
        part.replace(path)
    except InvalidRequest as error:  # the agent asked for no stream: its fields are those of the tool
        own = [(field.removeprefix("request."), bound) for field, bound in error.violations]
        raise InvalidRequest(reason=error.reason, violations=own) from None
    finally:
        part.unlink(missing_ok=True)
    return response, path


def _teller(context: Context) -> Callable[[GenerateProgress], None]:
    """Tells the agent of progress, from the thread that works: at most so often, and of the last step always."""
    at = 0.0

    def tell(progress: GenerateProgress) -> None:
        nonlocal at
        now = time.monotonic()
        if now - at < PROGRESS_EVERY_S and progress.step < progress.total:
            return
        at = now
        ahead = f", {progress.ahead} are ready before it" if progress.ahead else ""
        message = f"step {progress.step} of {progress.total}, {progress.eta_s:.0f} s to go{ahead}"
        from_thread.run(context.report_progress, progress.step, progress.total, message)

    return tell
