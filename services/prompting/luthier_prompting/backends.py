"""The composers that this server has. A new one is a class, a line here and a test."""

from collections.abc import Callable

from luthier_kit.errors import FailedPrecondition
from luthier_kit.settings import SettingsError
from luthier_prompting.compose import Composer
from luthier_prompting.grammar import Grammar
from luthier_prompting.settings import PromptingSettings
from luthier_prompting.vllm import Endpoint, Vllm


def _vllm(settings: PromptingSettings) -> Composer | None:
    if not settings.vllm_url:
        return None
    if not settings.vllm_model:
        raise SettingsError("LUTHIER_VLLM_MODEL is missing: LUTHIER_VLLM_URL needs it")
    return Vllm(
        Endpoint(
            settings.vllm_url, settings.vllm_model, settings.vllm_api_key, settings.vllm_timeout_s,
            settings.vllm_retries, settings.vllm_structure,
        )
    )  # fmt: skip


BACKENDS: dict[str, Callable[[PromptingSettings], Composer | None]] = {"grammar": lambda _: Grammar(), "vllm": _vllm}


class Composers:
    """The composers by name. SettingsError when the default one is not set up."""

    def __init__(self, settings: PromptingSettings) -> None:
        self._found = {name: build(settings) for name, build in BACKENDS.items()}
        self.default = settings.backend
        if self._found[self.default] is None:
            raise SettingsError(f"LUTHIER_PROMPTING_BACKEND is {self.default}, but LUTHIER_VLLM_URL is empty")

    def get(self, name: str) -> Composer:
        """The composer of this name; empty = the default. FailedPrecondition when this server has none set up."""
        composer = self._found[name or self.default]
        if composer is None:
            raise FailedPrecondition(f"this server has no {name} set up", reason="BACKEND_NOT_CONFIGURED", backend=name)
        return composer
