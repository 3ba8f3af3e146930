"""What the inference service reads from its environment at start."""

from dataclasses import dataclass
from typing import Final

from luthier_inference.prompts import MIN_KEY_CHARS
from luthier_kit.quotas import EVERY_S, quotas_of
from luthier_kit.rpc import WEB_PORTS, ServiceSettings, SettingsError, setting
from luthier_kit.store import StoreSettings

OFF: Final = "off"
SIGN: Final = "sign"
WANTED, REQUIRED = "wanted", "required"
KEEP, LEAVE_OUT = "keep", "leave-out"
FLOAT32, BFLOAT16, INT8 = "float32", "bfloat16", "int8"
PRECISIONS: Final = (FLOAT32, BFLOAT16, INT8)
COMPILE, CUDA_GRAPHS = "compile", "cuda-graphs"
SPEEDUPS: Final = (COMPILE, CUDA_GRAPHS)


@dataclass(frozen=True)
class InferenceSettings(ServiceSettings, StoreSettings):
    """Beside what every service understands."""

    device: str = setting("DEVICE", choices=("cuda", "cpu"), help="cuda or cpu; cuda refuses to start without one")
    slots: int = setting("LUTHIER_SLOTS", default=8, low=1, high=64, help="generations that share the device")
    queue: int = setting("LUTHIER_QUEUE", default=8, low=0, high=256, help="generations that wait; more are refused")
    batch: int = setting(
        "LUTHIER_BATCH", default=0, low=0, high=64,
        help="generations in one pass of the network; 0 = 8 with DEVICE=cuda, 4 with cpu",
    )  # fmt: skip
    precision: str = setting(
        "LUTHIER_PRECISION", default="float32", choices=PRECISIONS, help="of requests that name none; int8: DEVICE=cpu"
    )
    speedups: tuple[str, ...] = setting(
        "LUTHIER_SPEEDUPS", default=(), choices=SPEEDUPS,
        help="compile: layers by torch.compile; cuda-graphs: passes recorded. A model is warmed up before it is served",
    )  # fmt: skip
    models: tuple[str, ...] = setting(
        "LUTHIER_MODELS", default=(), help="names to load at start and keep current; empty = any, loaded on demand"
    )
    default_model: str = setting("LUTHIER_DEFAULT_MODEL", default="", help="answers requests that name no model")
    models_loaded: int = setting("LUTHIER_MODELS_LOADED", default=2, low=1, high=64, help="models kept in memory")
    memory_mib: int = setting(
        "LUTHIER_MEMORY_MIB", default=0, low=0, high=16 << 20,
        help="memory of the device for models and generations, MiB; 0 = what is free at the start",
    )  # fmt: skip
    watch_every_s: float = setting(
        "LUTHIER_WATCH_EVERY_S", default=10.0, low=0.05, high=3600, help="how often newer versions are looked for"
    )
    text_encoder: str = setting(
        "LUTHIER_TEXT_ENCODER",
        default="",
        path="folder",
        help="folder of the text encoder that registered weights without one get",
    )
    analysis_address: str = setting(
        "LUTHIER_ANALYSIS_ADDRESS",
        default="",
        help="host:port of analysis, which hears whether audio is as music asked for; empty = none",
    )

    prompts: str = setting(
        "LUTHIER_PROMPTS", default=KEEP, choices=(KEEP, LEAVE_OUT),
        help="leave-out: no text of a prompt is stored or logged, a keyed digest stands for it",
    )  # fmt: skip
    prompt_key: str = setting(
        "LUTHIER_PROMPT_KEY", default="", secret=True, help="key of those digests, the same in all replicas"
    )
    caller_quotas: tuple[str, ...] = setting(
        "LUTHIER_CALLER_QUOTAS", default=(),
        help="name=calls:N+audio_seconds:N+steps:N a day, comma-separated; * = callers not named here",
    )  # fmt: skip
    quotas_every_s: float = setting(
        "LUTHIER_QUOTAS_EVERY_S", default=EVERY_S, low=0.05, high=3600,
        help="how often replicas tell each other through the store what callers spent",
    )  # fmt: skip

    web_address: str = setting(
        "LUTHIER_WEB_ADDRESS", default=OFF,
        help=f"host:port of HTTP and its page, such as 127.0.0.1:{WEB_PORTS['inference']}; `off` = none",
    )  # fmt: skip
    web_origins: tuple[str, ...] = setting(
        "LUTHIER_WEB_ORIGINS", default=(), help="origins that the page is reached by behind a proxy, comma-separated"
    )

    credentials: str = setting(
        "LUTHIER_CREDENTIALS", default=SIGN, choices=(SIGN, OFF),
        help="C2PA content credentials in FLAC, WAV and MP3: the file says that a model made it",
    )  # fmt: skip
    credentials_certificate: str = setting(
        "LUTHIER_CREDENTIALS_CERTIFICATE", default="", path="file",
        help="PEM chain that they are signed by; empty = a certificate for development, which nobody trusts",
    )  # fmt: skip
    credentials_key: str = setting(
        "LUTHIER_CREDENTIALS_KEY", default="", path="file", help="PEM file of its private key"
    )
    credentials_authority: str = setting(
        "LUTHIER_CREDENTIALS_AUTHORITY", default="",
        help="http(s) address of a time-stamping authority (RFC 3161), asked once a file; empty = none",
    )  # fmt: skip
    credentials_authority_s: float = setting(
        "LUTHIER_CREDENTIALS_AUTHORITY_S", default=10.0, low=1, high=30,
        help="seconds that signing with its stamp may take, before it is done without",
    )  # fmt: skip
    credentials_time_stamp: str = setting(
        "LUTHIER_CREDENTIALS_TIME_STAMP", default=WANTED, choices=(WANTED, REQUIRED),
        help="required: where the authority gives no stamp, no audio is given away",
    )  # fmt: skip
    credentials_trust: str = setting(
        "LUTHIER_CREDENTIALS_TRUST", default="", path="file",
        help="PEM file of certificates of which one must be above whoever signed a file that is looked into",
    )  # fmt: skip

    watermark: str = setting(
        "LUTHIER_WATERMARK", default="", path="file",
        help="path of the program audiowmark, which puts an imperceptible watermark into audio; empty = none",
    )  # fmt: skip
    watermark_key: str = setting(
        "LUTHIER_WATERMARK_KEY",
        default="",
        path="file",
        help="its key file (audiowmark gen-key): who has it reads them",
    )
    output_log_mib: int = setting(
        "LUTHIER_OUTPUT_LOG_MIB", default=128, low=0, high=1 << 16,
        help="memory for the log of outputs, by which excerpts are known again, MiB; 0 = none is kept",
    )  # fmt: skip

    @property
    def precisions(self) -> tuple[str, ...]:
        """What a request may ask for on this device, its own first."""
        here = (FLOAT32, BFLOAT16) if self.device == "cuda" else PRECISIONS
        return (self.precision, *(each for each in here if each != self.precision))

    @property
    def in_a_pass(self) -> int:
        """Generations in one pass of the network."""
        return self.batch or (8 if self.device == "cuda" else 4)

    def faults(self) -> list[str]:
        faults = super().faults()
        if self.device == "cuda" and self.precision == INT8:
            faults.append("LUTHIER_PRECISION=int8 needs DEVICE=cpu")
        if self.device == "cpu" and CUDA_GRAPHS in self.speedups:
            faults.append(f"LUTHIER_SPEEDUPS={CUDA_GRAPHS} needs DEVICE=cuda")
        try:
            quotas_of(self.caller_quotas)
        except SettingsError as error:
            faults.append(str(error))
        if self.caller_quotas and not (self.callers or self.tls_client_ca):
            text = "needs LUTHIER_CALLERS or LUTHIER_TLS_CLIENT_CA: without them callers have no names"
            faults.append(f"LUTHIER_CALLER_QUOTAS {text}")
        if self.prompts == LEAVE_OUT and len(self.prompt_key) < MIN_KEY_CHARS:
            text = f"LUTHIER_PROMPTS={LEAVE_OUT} needs it, of at least {MIN_KEY_CHARS} characters"
            faults.append(f"LUTHIER_PROMPT_KEY {'is too short' if self.prompt_key else 'is missing'}: {text}")
        if bool(self.credentials_certificate) != bool(self.credentials_key):
            faults.append("LUTHIER_CREDENTIALS_CERTIFICATE and LUTHIER_CREDENTIALS_KEY go together: one is set")
        if bool(self.watermark) != bool(self.watermark_key):
            faults.append("LUTHIER_WATERMARK and LUTHIER_WATERMARK_KEY go together: one is set")
        if self.credentials_authority and not self.credentials_authority.startswith(("http://", "https://")):
            faults.append("LUTHIER_CREDENTIALS_AUTHORITY must begin with http:// or https://")
        if self.credentials_time_stamp == REQUIRED and not self.credentials_authority:
            faults.append(f"LUTHIER_CREDENTIALS_TIME_STAMP={REQUIRED} needs LUTHIER_CREDENTIALS_AUTHORITY")
        if len(self.models) > self.models_loaded:
            faults.append(
                f"LUTHIER_MODELS_LOADED must be at least the {len(self.models)} names of LUTHIER_MODELS, "
                f"got {self.models_loaded}"
            )
        return faults
