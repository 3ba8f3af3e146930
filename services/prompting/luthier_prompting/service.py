"""luthier.prompting.v1.PromptingService: messages to domain calls and back."""

import hashlib

import grpc
from google.protobuf.json_format import MessageToDict

from luthier.common.v1 import common_pb2
from luthier.prompting.v1 import prompting_pb2, prompting_pb2_grpc
from luthier_kit.artifacts import Action, Artifacts
from luthier_kit.checks import Checks
from luthier_kit.errors import InvalidRequest
from luthier_prompting.backends import BACKENDS, Composers
from luthier_prompting.checker import VERSION, check
from luthier_prompting.compose import DEFAULT_COUNT, MAX_COUNT, Composer, compose
from luthier_prompting.facts import Facts
from luthier_prompting.grammar import Metadata
from luthier_prompting.translate import check_facts, check_message, facts_of

STAGE_VERSION = "1"
MAX_PROMPT_CHARS = 2000


class PromptingServicer(prompting_pb2_grpc.PromptingServiceServicer):
    """Serves the composers of this server over a store that remembers what they wrote."""

    def __init__(self, store: Artifacts, composers: Composers) -> None:
        self._store = store
        self._composers = composers

    def ComposePrompts(
        self, request: prompting_pb2.ComposePromptsRequest, _: grpc.ServicerContext
    ) -> prompting_pb2.ComposePromptsResponse:
        count = request.count if request.HasField("count") else DEFAULT_COUNT
        checks = Checks()
        checks.within("count", count, 1, MAX_COUNT)
        checks.one_of("backend", request.backend or self._composers.default, BACKENDS)
        checks.that(request.style in prompting_pb2.PromptStyle.values(), "style", "must be a known PromptStyle")
        check_facts(checks, request.facts, request.tags)
        checks.done()
        facts = facts_of(request.facts, request.tags)
        if facts.is_empty():
            raise InvalidRequest(violations=[("facts", "must hold at least one fact that a prompt can state")])
        metadata = request.style == prompting_pb2.PROMPT_STYLE_METADATA
        composer = Metadata() if metadata else self._composers.get(request.backend)
        seed = request.seed if request.HasField("seed") else _digest_seed(request)
        action = _action(request, composer, count, metadata, seed)
        response, _ = self._store.run(
            action,
            prompting_pb2.ComposePromptsResponse,
            lambda: _response(composer, facts, count, metadata, seed),
        )
        return response

    def CheckPrompt(
        self, request: prompting_pb2.CheckPromptRequest, _: grpc.ServicerContext
    ) -> prompting_pb2.CheckPromptResponse:
        checks = Checks()
        checks.text("prompt", request.prompt, max_chars=MAX_PROMPT_CHARS, blank=False)
        check_facts(checks, request.facts, request.tags)
        checks.done()
        facts = facts_of(request.facts, request.tags)
        found = check(request.prompt, facts, allow_subset=request.allow_subset)
        return prompting_pb2.CheckPromptResponse(check=check_message(found))


def _digest_seed(request: prompting_pb2.ComposePromptsRequest) -> int:
    """A seed of 53 bits (JSON keeps it exactly) from the request itself."""
    digest = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
    return int.from_bytes(digest[:8], "big") >> 11


def _action(
    request: prompting_pb2.ComposePromptsRequest, composer: Composer, count: int, metadata: bool, seed: int
) -> Action:
    said = MessageToDict(request, preserving_proto_field_name=True)
    return Action(
        stage="prompt",
        inputs=[],
        parameters={
            "facts": said.get("facts", {}),
            "tags": said.get("tags", []),
            "count": count,
            "style": "metadata" if metadata else "sentence",
        },
        seed=seed,
        version=STAGE_VERSION,
        tools={composer.name: composer.version, "checker": VERSION},
        licences=sorted({tag.licence for tag in request.tags if tag.licence}),
    )


def _response(
    composer: Composer, facts: Facts, count: int, metadata: bool, seed: int
) -> prompting_pb2.ComposePromptsResponse:
    composed = compose(composer, facts, count=count, seed=seed, allow_subset=metadata)
    prompts = [
        common_pb2.Prompt(
            text=prompt.text,
            check=check_message(prompt.disagreements),
            composer=composer.name,
            composer_version=composer.version,
        )
        for prompt in composed.prompts
    ]
    return prompting_pb2.ComposePromptsResponse(
        prompts=prompts, seed=seed, backend=composer.name, rejected_drafts=composed.rejected_drafts
    )
