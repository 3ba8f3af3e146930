"""A `GenerateRequest` checked: every value that takes effect, within the bounds of its model."""

import hashlib
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference.audio import FLAC, FORMATS, WAV, WAV_FLOAT
from luthier_inference.served_models import ServedModels, ServedVersion
from luthier_kit.registry import MAX_REQUEST_ID_CHARS
from luthier_kit.rpc import MAX_PROMPT_CHARS, Checks, LuthierError
from luthier_model.conditions import SECONDS_START
from luthier_model.generation import GenerationParameters
from luthier_model.objectives import OBJECTIVES, Objective, V

MAX_STEPS: Final = 1000
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


@dataclass(frozen=True)
class Bounds:
    """What a model allows, in seconds, and the guidance it takes where none is asked for. `latest_start_s` None: it is
    not told where a sound starts.
    """

    objective: Objective
    window_s: float
    latest_start_s: float | None
    guidance_scale: float = OBJECTIVES[V].guidance_scale
    guidance_rescale: float = 0.0

    @classmethod
    def of(cls, served: ServedVersion) -> "Bounds":
        """Those of a registered version."""
        c = served.configuration
        latest_start_s = c.seconds_max if SECONDS_START in c.seconds else None
        return cls(c.objective, served.window_s, latest_start_s, c.guidance_scale, c.guidance_rescale)


_SAMPLERS: Final = tuple(dict.fromkeys(name for each in OBJECTIVES.values() for name in each.samplers))
UNKNOWN: Final = Bounds(replace(OBJECTIVES[V], samplers=_SAMPLERS), MAX_SECONDS, MAX_SECONDS)
"""Bounds while no model is known: beyond what any model takes."""


def job_of(request: pb.GenerateRequest, models: ServedModels) -> GenerationJob:
    """The job of a request, defaults filled in. Allocates nothing.

    InvalidRequest names every field beyond its bound, also when the model cannot be found.
    """
    try:
        served = models.resolve(request.model)
    except LuthierError:
        _parameters(request, UNKNOWN)
        raise
    parameters = _parameters(request, Bounds.of(served))
    init_audio = request.init_audio if request.HasField("init_audio") else None
    return GenerationJob(served, parameters, OUTPUT_FORMATS[request.output_format], init_audio)


def _parameters(request: pb.GenerateRequest, bounds: Bounds) -> GenerationParameters:
    objective = bounds.objective

    def given(field: str, default: T) -> T:
        return getattr(request, field) if request.HasField(field) else default

    has_init = request.HasField("init_audio")
    p = GenerationParameters(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        seconds_start=given("seconds_start", 0.0),
        seconds_total=given("seconds_total", bounds.window_s),
        steps=given("steps", objective.steps),
        sampler=request.sampler or objective.samplers[0],
        sigma_min=given("sigma_min", objective.sigma_min),
        sigma_max=given("sigma_max", objective.sigma_max),
        guidance_scale=given("guidance_scale", bounds.guidance_scale),
        guidance_rescale=given("guidance_rescale", bounds.guidance_rescale),
        # 64 bits from the request id, so that a retry on any server is the same request
        seed=given("seed", int.from_bytes(hashlib.sha256(request.request_id.encode()).digest()[:8])),
        init_noise_level=given("init_noise_level", objective.init_noise_level) if has_init else 0.0,
        untrimmed=request.untrimmed,
    )
    checks = Checks()
    checks.text("prompt", p.prompt, max_chars=MAX_PROMPT_CHARS, blank=False)
    checks.text("negative_prompt", p.negative_prompt, max_chars=MAX_PROMPT_CHARS)
    if bounds.latest_start_s is None:
        checks.that(p.seconds_start == 0, "seconds_start", f"must be 0: this model knows none, got {p.seconds_start:g}")
    else:
        checks.within("seconds_start", p.seconds_start, 0, bounds.latest_start_s)
    checks.within("seconds_total", p.seconds_total, MIN_SECONDS, bounds.window_s)
    checks.within("steps", p.steps, 1, MAX_STEPS)
    checks.one_of("sampler", p.sampler, objective.samplers)
    if objective.flow:
        checks.within("sigma_max", p.sigma_max, objective.lowest_start, objective.sigma_limit)
        checks.that(p.sigma_min == 0, "sigma_min", f"must be 0: a {objective.name} has none, got {p.sigma_min:g}")
    else:
        checks.above("sigma_max", p.sigma_max, 0, objective.sigma_limit)
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
        if objective.flow:
            checks.within("init_noise_level", p.init_noise_level, objective.lowest_start, p.sigma_max)
        else:
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
