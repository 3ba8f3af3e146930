"""Settings of the prompting service."""

from dataclasses import dataclass

from luthier_kit.rpc import ServiceSettings, setting
from luthier_kit.store import StoreSettings
from luthier_prompting.vllm import STRUCTURES


@dataclass(frozen=True)
class PromptingSettings(ServiceSettings, StoreSettings):
    """What every service understands, and where the language model is."""

    backend: str = setting(
        "LUTHIER_PROMPTING_BACKEND",
        default="grammar",
        choices=("grammar", "vllm"),
        help="composer of requests that name none",
    )
    vllm_url: str = setting("LUTHIER_VLLM_URL", default="", help="OpenAI-compatible base URL with /v1; empty = no vLLM")
    vllm_model: str = setting("LUTHIER_VLLM_MODEL", default="", help="model name that the server serves")
    vllm_api_key: str = setting("LUTHIER_VLLM_API_KEY", default="", secret=True)
    vllm_timeout_s: float = setting("LUTHIER_VLLM_TIMEOUT_S", default=60.0, low=0.1, high=600, help="seconds per try")
    vllm_retries: int = setting("LUTHIER_VLLM_RETRIES", default=2, low=0, high=10, help="tries after the first")
    vllm_structure: str = setting(
        "LUTHIER_VLLM_STRUCTURE", default="regex", choices=STRUCTURES, help="how the model's output is bound"
    )

    def faults(self) -> list[str]:
        faults = super().faults()
        if self.vllm_url and not self.vllm_model:
            faults.append("LUTHIER_VLLM_MODEL is missing: LUTHIER_VLLM_URL needs it")
        if self.backend == "vllm" and not self.vllm_url:
            faults.append("LUTHIER_VLLM_URL is missing: LUTHIER_PROMPTING_BACKEND=vllm needs it")
        return faults
