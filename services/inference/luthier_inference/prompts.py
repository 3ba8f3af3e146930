"""Prompts in what is stored: as they are, or left out where the operator says so.

Left out means: in records of actions, request ids, tags of files, logs and traces stands no text of a prompt. What a
prompt made is found again by its keyed digest (HMAC-SHA256, RFC 2104), which nobody can try guesses against who has not
the key. The response has the prompt, for its caller sent it.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from luthier.inference.v1 import inference_pb2 as pb
from luthier_kit.store import canonical_json

MIN_KEY_CHARS: Final = 32
DIGEST: Final = "prompts_hmac_sha256"
"""Parameter of an action that stands for its prompts."""
TEXTS: Final = ("prompt", "negative_prompt")


@dataclass(frozen=True)
class PromptRecords:
    """`key`: of the digests, the same in all replicas; empty = prompts are stored."""

    key: str = ""

    @property
    def left_out(self) -> bool:
        return bool(self.key)

    def named(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters that name an action, with their prompts or the digest of these."""
        if not self.left_out:
            return dict(parameters)
        rest = {name: value for name, value in parameters.items() if name not in TEXTS}
        return rest | {DIGEST: self._digest([parameters.get(name, "") for name in TEXTS])}

    def stored(self, response: pb.GenerateResponse) -> pb.GenerateResponse:
        """A response as its record has it."""
        if self.left_out:
            for name in TEXTS:
                response.ClearField(name)
        return response

    def claimed(self, request: pb.GenerateRequest) -> pb.GenerateRequest:
        """A request as its id's claim is a digest of it: that of a prompt alone could be guessed."""
        if self.left_out:
            request.prompt, request.negative_prompt = self._digest([request.prompt, request.negative_prompt]), ""
        return request

    def _digest(self, texts: list[str]) -> str:
        return hmac.new(self.key.encode(), canonical_json(texts), hashlib.sha256).hexdigest()


KEPT: Final = PromptRecords()
"""Prompts are stored as they are."""
