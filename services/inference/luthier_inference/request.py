"""A `GenerateRequest` checked: every value that takes effect, within the bounds of its model."""

import hashlib
from dataclasses import dataclass
from typing import Final, TypeVar

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference.audio import FLAC, FORMATS, WAV, WAV_FLOAT
from luthier_inference.served_models import ServedModels, ServedVersion
from luthier_kit.registry import MAX_REQUEST_ID_CHARS
from luthier_kit.rpc import MAX_PROMPT_CHARS, Checks, LuthierError
from luthier_model.generation import GUIDANCE_SCALE, INIT_NOISE_LEVEL, STEPS, GenerationParameters
from luthier_model.sampling import DEFAULT_SAMPLER, SAMPLERS, SIGMA_MAX, SIGMA_MIN

MAX_STEPS: Final = 1000
MAX_SIGMA: Final = 10_000.0
MAX_GUIDANCE_SCALE: Final = 50.0
MIN_SECONDS: Final = 0.1
MAX_INIT_AUDIO_BYTES: Final = 256 << 20
MAX_SECONDS: Final = 3600.0  # while no model is known: beyond what any model takes

OUTPUT_FORMATS: Final = {
    pb.OUTPUT_FORMAT_UNSPECIFIED: FLAC,
    pb.OUTPUT_FORMAT_FLAC: FLAC,
    pb.OUTPUT_FORMAT_WAV: WAV,
    pb.OUTPUT_FORMAT_WAV_FLOAT: WAV_FLOAT,
}

T = TypeVar("T", int, float)


@dataclass(frozen=True)
class GenerationJob:
    """Parameters for a model; `init_audio` is where it starts from, None for noise alone."""

    served: ServedVersion
    parameters: GenerationParameters
    output_format: str = FLAC
    init_audio: ArtifactRef | None = None


def job_of(request: pb.GenerateRequest, models: ServedModels) -> GenerationJob:
    """The job of a request, defaults filled in. Allocates nothing.

    InvalidRequest names every field beyond its bound, also when the model cannot be found.
    """
    try:
        served = models.resolve(request.model)
    except LuthierError:
        _parameters(request, MAX_SECONDS, MAX_SECONDS)
        raise
    parameters = _parameters(request, served.window_s, served.configuration.seconds_max)
    init_audio = request.init_audio if request.HasField("init_audio") else None
    return GenerationJob(served, parameters, OUTPUT_FORMATS[request.output_format], init_audio)


def _parameters(request: pb.GenerateRequest, window_s: float, max_start_s: float) -> GenerationParameters:
    """`window_s` is the longest audio of the model, `max_start_s` its latest start."""

    def given(field: str, default: T) -> T:
        return getattr(request, field) if request.HasField(field) else default

    has_init = request.HasField("init_audio")
    p = GenerationParameters(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        seconds_start=given("seconds_start", 0.0),
        seconds_total=given("seconds_total", window_s),
        steps=given("steps", STEPS),
        sampler=request.sampler or DEFAULT_SAMPLER,
        sigma_min=given("sigma_min", SIGMA_MIN),
        sigma_max=given("sigma_max", SIGMA_MAX),
        guidance_scale=given("guidance_scale", GUIDANCE_SCALE),
        guidance_rescale=given("guidance_rescale", 0.0),
        # 64 bits from the request id, so that a retry on any server is the same request
        seed=given("seed", int.from_bytes(hashlib.sha256(request.request_id.encode()).digest()[:8])),
        init_noise_level=given("init_noise_level", INIT_NOISE_LEVEL) if has_init else 0.0,
        untrimmed=request.untrimmed,
    )
    checks = Checks()
    checks.text("prompt", p.prompt, max_chars=MAX_PROMPT_CHARS, blank=False)
    checks.text("negative_prompt", p.negative_prompt, max_chars=MAX_PROMPT_CHARS)
    checks.within("seconds_start", p.seconds_start, 0, max_start_s)
    checks.within("seconds_total", p.seconds_total, MIN_SECONDS, window_s)
    checks.within("steps", p.steps, 1, MAX_STEPS)
    checks.one_of("sampler", p.sampler, SAMPLERS)
    checks.above("sigma_max", p.sigma_max, 0, MAX_SIGMA)
    checks.that(
        0 < p.sigma_min < p.sigma_max,
        "sigma_min",
        f"must be above 0 and below sigma_max ({p.sigma_max:g}), got {p.sigma_min:g}",
    )
    checks.within("guidance_scale", p.guidance_scale, 0, MAX_GUIDANCE_SCALE)
    checks.within("guidance_rescale", p.guidance_rescale, 0, 1)
    checks.one_of("output_format", OUTPUT_FORMATS.get(request.output_format, str(request.output_format)), FORMATS)
    checks.text("request_id", request.request_id, max_chars=MAX_REQUEST_ID_CHARS)
    if has_init:
        checks.artifact("init_audio", request.init_audio, max_bytes=MAX_INIT_AUDIO_BYTES)
        checks.that(
            p.sigma_min < p.init_noise_level <= p.sigma_max,
            "init_noise_level",
            f"must be above sigma_min ({p.sigma_min:g}) and at most sigma_max ({p.sigma_max:g}), "
            f"got {p.init_noise_level:g}",
        )
    else:
        checks.that(not request.HasField("init_noise_level"), "init_noise_level", "needs init_audio")
    checks.done()
    return p
