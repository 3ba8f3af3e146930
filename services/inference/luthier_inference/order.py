"""What to generate: every value that takes effect, and the bounds of each."""

import hashlib
import math
from dataclasses import dataclass

from luthier_inference.sound import FLAC, FORMATS
from luthier_kit.checks import Checks
from luthier_model.sampler import DEFAULT_SAMPLER, SAMPLERS
from luthier_model.schedules import SIGMA_MAX, SIGMA_MIN

MAX_PROMPT_CHARS = 2000
MAX_REQUEST_ID_CHARS = 128
MAX_STEPS = 1000
MAX_SIGMA = 10_000.0
MAX_GUIDANCE_SCALE = 50.0
MIN_SECONDS = 0.1
MAX_INIT_AUDIO_BYTES = 256 << 20
STEPS, GUIDANCE_SCALE, INIT_NOISE_LEVEL = 100, 7.0, 1.0  # Stable Audio Open's model card


@dataclass(frozen=True)
class Bounds:
    """Of one model, in seconds: `window_s` is the longest audio, `start_s` the latest start."""

    window_s: float
    start_s: float


WIDEST = Bounds(window_s=3600.0, start_s=3600.0)  # while no model is known: beyond what any model takes


@dataclass(frozen=True)
class Order:
    """One piece of audio. Times in seconds; sigmas in units of the latents; `init_noise_level` 0 = from noise alone."""

    prompt: str
    seed: int
    seconds_total: float
    seconds_start: float = 0.0
    negative_prompt: str = ""
    steps: int = STEPS
    sampler: str = DEFAULT_SAMPLER
    sigma_min: float = SIGMA_MIN
    sigma_max: float = SIGMA_MAX
    guidance_scale: float = GUIDANCE_SCALE
    guidance_rescale: float = 0.0
    init_noise_level: float = 0.0
    output_format: str = FLAC
    untrimmed: bool = False  # the whole window is stored, to hear how well the model stops

    @property
    def sigma_start(self) -> float:
        """The highest noise level of this order."""
        return self.init_noise_level or self.sigma_max


def check(order: Order, bounds: Bounds, checks: Checks) -> None:
    """Adds every violation to `checks`; allocates nothing."""
    checks.text("prompt", order.prompt, max_chars=MAX_PROMPT_CHARS, blank=False)
    checks.text("negative_prompt", order.negative_prompt, max_chars=MAX_PROMPT_CHARS)
    checks.within("seconds_start", order.seconds_start, 0, bounds.start_s)
    checks.within("seconds_total", order.seconds_total, MIN_SECONDS, bounds.window_s)
    checks.within("steps", order.steps, 1, MAX_STEPS)
    checks.one_of("sampler", order.sampler, SAMPLERS)
    checks.above("sigma_max", order.sigma_max, 0, MAX_SIGMA)
    checks.that(
        0 < order.sigma_min < order.sigma_max,
        "sigma_min",
        f"must be above 0 and below sigma_max ({order.sigma_max:g}), got {order.sigma_min:g}",
    )
    checks.within("guidance_scale", order.guidance_scale, 0, MAX_GUIDANCE_SCALE)
    checks.within("guidance_rescale", order.guidance_rescale, 0, 1)
    checks.one_of("output_format", order.output_format, FORMATS)
    level = order.init_noise_level
    checks.that(
        level == 0 or order.sigma_min < level <= order.sigma_max,
        "init_noise_level",
        f"must be above sigma_min ({order.sigma_min:g}) and at most sigma_max ({order.sigma_max:g}), got {level:g}",
    )


def derived_seed(request_id: str) -> int:
    """64 bits from the request id, so that a retry on any server is the same request."""
    return int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:8])


def samples_of(seconds: float, sample_rate_hz: int) -> int:
    """Samples per channel that `seconds` are, to the nearest."""
    return math.floor(seconds * sample_rate_hz + 0.5)
