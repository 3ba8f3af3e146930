"""luthier.prompting.v1.PromptingService: messages to domain calls and back."""

import hashlib
from collections.abc import Iterable

import grpc
from google.protobuf.json_format import MessageToDict

from luthier.common.v1 import common_pb2
from luthier.prompting.v1 import prompting_pb2, prompting_pb2_grpc
from luthier_kit.rpc import MAX_PROMPT_CHARS, Checks, Configuration, InvalidRequest
from luthier_kit.store import Action, Store, digest_of
from luthier_music.captions import VERSION, Disagreement, check
from luthier_music.clip_facts import Facts, facts_of
from luthier_music.composing import Composer, Style, compose, writer_of
from luthier_prompting.composers import BACKENDS, DEFAULT_COUNT, MAX_COUNT, Composers
from luthier_prompting.facts import check_facts

STAGE_VERSION = "3"
MAX_STYLES = MAX_COUNT
_STYLES = {
    prompting_pb2.PROMPT_STYLE_UNSPECIFIED: Style.SENTENCE,
    prompting_pb2.PROMPT_STYLE_SENTENCE: Style.SENTENCE,
    prompting_pb2.PROMPT_STYLE_METADATA: Style.METADATA,
    prompting_pb2.PROMPT_STYLE_SHORT: Style.SHORT,
    prompting_pb2.PROMPT_STYLE_TAGS: Style.TAGS,
}


class PromptingServicer(prompting_pb2_grpc.PromptingServiceServicer):
    """Serves the composers of this server over a store that remembers what they wrote."""

    def __init__(self, store: Store, composers: Composers) -> None:
        self._store = store
        self._composers = composers

    @property
    def configuration(self) -> Configuration:
        """What decides the answers beside the request."""
        return Configuration(
            digest_of({"version": STAGE_VERSION, "checker": VERSION, "composers": self._composers.versions})
        )

    def ComposePrompts(
        self, request: prompting_pb2.ComposePromptsRequest, _context: grpc.ServicerContext
    ) -> prompting_pb2.ComposePromptsResponse:
        count = request.count if request.HasField("count") else DEFAULT_COUNT
        checks = Checks()
        checks.within("count", count, 1, MAX_COUNT)
        checks.one_of("backend", request.backend or self._composers.default, BACKENDS)
        checks.that(request.style in _STYLES, "style", "must be a known PromptStyle")
        checks.that(not (request.style and request.styles), "styles", "must be empty where style is set")
        for at, style in checks.items("styles", request.styles, 0, MAX_STYLES):
            checks.that(style in _STYLES, at, "must be a known PromptStyle")
        check_facts(checks, request.facts, request.tags)
        checks.done()
        facts = facts_of(request.facts, request.tags)
        if facts.is_empty():
            raise InvalidRequest(violations=[("facts", "must hold at least one fact that a prompt can state")])
        styles = tuple(_STYLES[style] for style in request.styles or [request.style])
        composer = self._composers.get(request.backend)
        if composer.styles.isdisjoint(styles):
            composer = writer_of(styles[0], composer)
        seed = request.seed if request.HasField("seed") else _digest_seed(request)
        action = _action(request, composer, count, styles, seed)
        response, _ = self._store.actions.run(
            action,
            prompting_pb2.ComposePromptsResponse,
            lambda: _response(composer, facts, count, styles, seed),
        )
        return response

    def CheckPrompt(
        self, request: prompting_pb2.CheckPromptRequest, _context: grpc.ServicerContext
    ) -> prompting_pb2.CheckPromptResponse:
        checks = Checks()
        checks.text("prompt", request.prompt, max_chars=MAX_PROMPT_CHARS, blank=False)
        check_facts(checks, request.facts, request.tags)
        checks.done()
        facts = facts_of(request.facts, request.tags)
        found = check(request.prompt, facts, allow_subset=request.allow_subset)
        return prompting_pb2.CheckPromptResponse(check=_check_message(found), configuration=self.configuration.digest)


def _digest_seed(request: prompting_pb2.ComposePromptsRequest) -> int:
    """A seed of 53 bits (JSON keeps it exactly) from the request itself."""
    digest = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
    return int.from_bytes(digest[:8], "big") >> 11


def _action(
    request: prompting_pb2.ComposePromptsRequest, composer: Composer, count: int, styles: tuple[Style, ...], seed: int
) -> Action:
    writers = [writer_of(style, composer) for style in styles]
    said = MessageToDict(request, preserving_proto_field_name=True)
    return Action(
        stage="prompt",
        inputs=[],
        parameters={
            "facts": said.get("facts", {}),
            "tags": said.get("tags", []),
            "count": count,
            "styles": [str(style) for style in styles],
        },
        seed=seed,
        version=STAGE_VERSION,
        tools={**{writer.name: writer.version for writer in writers}, "checker": VERSION},
        licences=sorted({tag.licence for tag in request.tags if tag.licence}),
    )


def _response(
    composer: Composer, facts: Facts, count: int, styles: tuple[Style, ...], seed: int
) -> prompting_pb2.ComposePromptsResponse:
    composed = compose(composer, facts, count=count, seed=seed, styles=styles)
    prompts = [
        common_pb2.Prompt(
            text=prompt.text,
            check=_check_message(prompt.disagreements),
            composer=prompt.composer,
            composer_version=prompt.composer_version,
        )
        for prompt in composed.prompts
    ]
    return prompting_pb2.ComposePromptsResponse(
        prompts=prompts, seed=seed, backend=composer.name, rejected_drafts=composed.rejected_drafts
    )


def _check_message(disagreements: Iterable[Disagreement]) -> common_pb2.PromptCheck:
    """The outcome as a message."""
    found = [
        common_pb2.Disagreement(subject=d.subject, reason=d.reason, stated=d.stated, expected=d.expected)
        for d in disagreements
    ]
    return common_pb2.PromptCheck(passed=not found, disagreements=found, checker=VERSION)
