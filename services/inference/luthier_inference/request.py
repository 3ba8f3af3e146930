"""A `GenerateRequest` checked: every value that takes effect, within the bounds of its model."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final, TypeVar

from luthier.common.v1.common_pb2 import ArtifactRef, Span
from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference.audio import FLAC, FLAC_24, FORMATS, MP3, OPUS, VORBIS, WAV, WAV_24, WAV_FLOAT, Level, Tags
from luthier_inference.heard import NO_SERVICE
from luthier_inference.music import prompt_of, wanted_of
from luthier_inference.served_models import ServedModels, ServedVersion
from luthier_inference.settings import BFLOAT16, FLOAT32, INT8
from luthier_kit.registry import MAX_REQUEST_ID_CHARS
from luthier_kit.rpc import MAX_PROMPT_CHARS, Checks, LuthierError
from luthier_model.conditions import SECONDS_START
from luthier_model.generation import GenerationParameters, Kept, fitted, kept_mask
from luthier_model.objectives import OBJECTIVES, Objective, V
from luthier_music.captions.wanted import Wanted

MAX_STEPS: Final = 1000
MAX_GUIDANCE_SCALE: Final = 50.0
MIN_SECONDS: Final = 0.1
MAX_KEPT: Final = 64
MAX_SEEDS: Final = 8
MAX_TRIES: Final = 16
LOUDNESS_LUFS: Final = (-40.0, -5.0)
TRUE_PEAK_DBTP: Final = (-20.0, 0.0)
MAX_INIT_AUDIO_BYTES: Final = 256 << 20
MAX_SECONDS: Final = 3600.0  # while no model is known: beyond what any model takes

OUTPUT_FORMATS: Final = {
    pb.OUTPUT_FORMAT_UNSPECIFIED: FLAC,
    pb.OUTPUT_FORMAT_FLAC: FLAC,
    pb.OUTPUT_FORMAT_WAV: WAV,
    pb.OUTPUT_FORMAT_WAV_FLOAT: WAV_FLOAT,
    pb.OUTPUT_FORMAT_FLAC_24: FLAC_24,
    pb.OUTPUT_FORMAT_WAV_24: WAV_24,
    pb.OUTPUT_FORMAT_OGG_VORBIS: VORBIS,
    pb.OUTPUT_FORMAT_OGG_OPUS: OPUS,
    pb.OUTPUT_FORMAT_MP3: MP3,
}

PRECISIONS: Final = {
    pb.PRECISION_UNSPECIFIED: "",
    pb.PRECISION_FLOAT32: FLOAT32,
    pb.PRECISION_BFLOAT16: BFLOAT16,
    pb.PRECISION_INT8: INT8,
}

T = TypeVar("T", int, float)


@dataclass(frozen=True)
class GenerationJob:
    """Parameters for a model; `init_audio` is where it starts from or what it keeps of, None for noise alone. `wanted`
    is the music that parameters were made from, None where a prompt alone was.
    """

    served: ServedVersion
    parameters: GenerationParameters
    output_format: str = FLAC
    init_audio: ArtifactRef | None = None
    level: Level = Level()
    wanted: Wanted | None = None

    def named(self) -> dict[str, Any]:
        """Everything that names the audio beside the model, the init audio and the precision."""
        adapters = sorted([each.artifact.sha256, each.share] for each in self.served.adapters)
        mix = {"adapters": adapters} if adapters else {}
        return self.parameters.named() | {"output_format": self.output_format} | self.level.named() | mix

    def tags(self, *, prompt: bool = True) -> Tags:
        """What the file says of itself: only what names the audio, which callers share, and so no request id."""
        return Tags(
            self.parameters.prompt if prompt else "", f"model {self.model_digests()}, seed {self.parameters.seed}"
        )

    def model_digests(self) -> str:
        """The model and what is applied to it, by digests: names may be moved."""
        adapters = (f"sha256:{each.artifact.sha256}:{each.share:g}" for each in self.served.adapters)
        return "+".join([f"sha256:{self.served.version.digest}", *adapters])

    def kept(self) -> list[Span]:
        """What is kept of the init audio, in whole latents: its first and its last sample in seconds."""
        c = fitted(self.served.configuration, self.parameters)
        mask = [0.0, *kept_mask(c, self.parameters.keep)[0, 0].tolist(), 0.0] if self.parameters.keep else []
        edges = [at for at, (before, after) in enumerate(pairwise(mask)) if before != after]
        latent_s = c.downsampling_ratio / c.sample_rate_hz
        return [
            Span(start_s=start * latent_s, end_s=end * latent_s)
            for start, end in zip(edges[::2], edges[1::2], strict=True)
        ]


@dataclass(frozen=True)
class Bounds:
    """What a model allows, in seconds, and the guidance it takes where none is asked for. `latest_start_s` None: it is
    not told where a sound starts. `masks`: it fills in what is not kept of a sound.
    """

    objective: Objective
    window_s: float
    latest_start_s: float | None
    guidance_scale: float = OBJECTIVES[V].guidance_scale
    guidance_rescale: float = 0.0
    masks: bool = True

    @classmethod
    def of(cls, served: ServedVersion) -> "Bounds":
        """Those of a registered version."""
        c = served.configuration
        latest_start_s = c.seconds_max if SECONDS_START in c.seconds else None
        return cls(
            c.objective, served.window_s, latest_start_s, c.guidance_scale, c.guidance_rescale, c.masks is not None
        )


_SAMPLERS: Final = tuple(dict.fromkeys(name for each in OBJECTIVES.values() for name in each.samplers))
UNKNOWN: Final = Bounds(replace(OBJECTIVES[V], samplers=_SAMPLERS), MAX_SECONDS, MAX_SECONDS)
"""Bounds while no model is known: beyond what any model takes."""


def jobs_of(
    request: pb.GenerateRequest, models: ServedModels, *, listens: bool = False, quotes: bool = True
) -> list[GenerationJob]:
    """The job of each seed that a request asks for, in its order, or the one job. Raises as `job_of`."""
    job = job_of(request, models, listens=listens, quotes=quotes)
    return [
        replace(job, parameters=replace(job.parameters, seed=seed)) for seed in (request.seeds or [job.parameters.seed])
    ]


def job_of(
    request: pb.GenerateRequest, models: ServedModels, *, listens: bool = False, quotes: bool = True
) -> GenerationJob:
    """The job of a request of one seed, defaults filled in. Allocates nothing. `listens`: there is an analysis service.
    `quotes`: a refusal may quote the prompt.

    InvalidRequest names every field beyond its bound, also when the model cannot be found.
    """
    try:
        served = models.resolve(request.model)
    except LuthierError:
        _parameters(request, UNKNOWN, listens=listens, quotes=quotes)
        raise
    parameters, wanted = _parameters(request, Bounds.of(served), listens=listens, quotes=quotes)
    asked = _precision(request, served, models.precisions)
    served = replace(served, precision="" if asked == models.precisions[0] else asked)
    init_audio = request.init_audio if request.HasField("init_audio") else None
    level = Level(
        request.loudness_target_lufs if request.HasField("loudness_target_lufs") else None,
        request.true_peak_limit_dbtp if request.HasField("true_peak_limit_dbtp") else None,
    )
    return GenerationJob(served, parameters, OUTPUT_FORMATS[request.output_format], init_audio, level, wanted)


def _parameters(
    request: pb.GenerateRequest, bounds: Bounds, *, listens: bool, quotes: bool
) -> tuple[GenerationParameters, Wanted | None]:
    sampler = request.sampler or bounds.objective.samplers[0]
    objective = bounds.objective.along(sampler)

    def given(field: str, default: T) -> T:
        return getattr(request, field) if request.HasField(field) else default

    checks = Checks()
    wanted = wanted_of(checks, request, MIN_SECONDS, bounds.window_s) if request.HasField("music") else None
    prompt = prompt_of(checks, request.prompt, wanted, quotes=quotes)
    has_init = request.HasField("init_audio")
    p = GenerationParameters(
        prompt=prompt,
        negative_prompt=request.negative_prompt,
        seconds_start=given("seconds_start", 0.0),
        seconds_total=given("seconds_total", wanted.duration_s if wanted and wanted.duration_s else bounds.window_s),
        steps=given("steps", objective.steps),
        sampler=sampler,
        sigma_min=given("sigma_min", objective.sigma_min),
        sigma_max=given("sigma_max", objective.sigma_max),
        guidance_scale=given("guidance_scale", bounds.guidance_scale),
        guidance_rescale=given("guidance_rescale", bounds.guidance_rescale),
        # 64 bits from the request id, so that a retry on any server is the same request
        seed=given("seed", int.from_bytes(hashlib.sha256(request.request_id.encode()).digest()[:8])),
        init_noise_level=given("init_noise_level", 0.0 if request.keep else objective.init_noise_level)
        if has_init
        else 0.0,
        untrimmed=request.untrimmed,
        guidance_from=given("guidance_from", 0.0),
        guidance_to=given("guidance_to", 1.0),
        keep=tuple(Kept(part.start_s, part.end_s) for part in request.keep[:MAX_KEPT]),
        fit_window=request.fit_window,
    )
    whose = f"a {objective.name}" if objective.flow else sampler
    checks.text("negative_prompt", p.negative_prompt, max_chars=MAX_PROMPT_CHARS)
    if bounds.latest_start_s is None:
        checks.that(p.seconds_start == 0, "seconds_start", f"must be 0: this model knows none, got {p.seconds_start:g}")
    else:
        checks.within("seconds_start", p.seconds_start, 0, bounds.latest_start_s)
    if wanted is None or wanted.bars is None:
        checks.within("seconds_total", p.seconds_total, MIN_SECONDS, bounds.window_s)
    checks.that(
        not (p.fit_window and p.untrimmed), "fit_window", "must be false with untrimmed, which is of the window"
    )
    checks.within("steps", p.steps, 1, MAX_STEPS)
    checks.one_of("sampler", p.sampler, objective.samplers)
    if objective.sigma_min == 0:  # levels are timesteps
        checks.within("sigma_max", p.sigma_max, objective.lowest_start, objective.sigma_limit)
        checks.that(p.sigma_min == 0, "sigma_min", f"must be 0: {whose} has none, got {p.sigma_min:g}")
    else:
        checks.above("sigma_max", p.sigma_max, 0, objective.sigma_limit)
        checks.that(
            0 < p.sigma_min < p.sigma_max,
            "sigma_min",
            f"must be above 0 and below sigma_max ({p.sigma_max:g}), got {p.sigma_min:g}",
        )
    checks.within("guidance_scale", p.guidance_scale, 0, MAX_GUIDANCE_SCALE)
    checks.within("guidance_rescale", p.guidance_rescale, 0, 1)
    checks.within("guidance_from", p.guidance_from, 0, 1)
    checks.within("guidance_to", p.guidance_to, 0, 1)
    checks.that(
        not p.guidance_from > p.guidance_to,
        "guidance_from",
        f"must be at most guidance_to ({p.guidance_to:g}), got {p.guidance_from:g}",
    )
    if request.HasField("loudness_target_lufs"):
        checks.within("loudness_target_lufs", request.loudness_target_lufs, *LOUDNESS_LUFS)
    if request.HasField("true_peak_limit_dbtp"):
        checks.within("true_peak_limit_dbtp", request.true_peak_limit_dbtp, *TRUE_PEAK_DBTP)
    _check_kept(checks, request, bounds)
    _check_seeds(checks, request)
    if request.HasField("best_of"):
        _check_best_of(checks, request, listens=listens)
    checks.one_of("output_format", OUTPUT_FORMATS.get(request.output_format, str(request.output_format)), FORMATS)
    checks.text("request_id", request.request_id, max_chars=MAX_REQUEST_ID_CHARS)
    _check_init(checks, request, p, objective)
    checks.done()
    return p, wanted


def _check_init(checks: Checks, request: pb.GenerateRequest, p: GenerationParameters, objective: Objective) -> None:
    if request.HasField("init_audio"):
        checks.artifact("init_audio", request.init_audio, max_bytes=MAX_INIT_AUDIO_BYTES)
        if request.keep and not request.HasField("init_noise_level"):
            checks.that(p.init_noise_level == 0, "init_noise_level", "must be absent: noise alone")
        elif objective.sigma_min == 0:
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


def _check_seeds(checks: Checks, request: pb.GenerateRequest) -> None:
    if not request.seeds:
        return
    checks.that(not request.HasField("seed"), "seeds", "must be empty with seed: one of the two names the seeds")
    if checks.count("seeds", request.seeds, 0, MAX_SEEDS):
        twice = next((seed for at, seed in enumerate(request.seeds) if seed in request.seeds[:at]), None)
        checks.that(twice is None, "seeds", f"must be distinct, got {twice} twice")


def _check_best_of(checks: Checks, request: pb.GenerateRequest, *, listens: bool) -> None:
    checks.within("best_of", request.best_of, 1, MAX_TRIES)
    asked = request.music.HasField("tempo_bpm") or request.music.key
    checks.that(bool(asked), "best_of", "needs music.tempo_bpm or music.key, by which tries are told apart")
    checks.that(listens, "best_of", f"needs an analysis service: {NO_SERVICE}")
    checks.that(not request.seeds, "best_of", "must be absent with seeds: the seeds of its tries follow from one")


def _precision(request: pb.GenerateRequest, served: ServedVersion, precisions: Sequence[str]) -> str:
    """The precision that takes effect."""
    name = PRECISIONS.get(request.precision, str(request.precision)) or precisions[0]
    checks = Checks()
    checks.one_of("precision", name, precisions)
    if name == INT8:
        checks.that(not served.configuration.has_unet, "precision", "must be another than int8 of a U-Net")
        checks.that(not served.adapters, "precision", "must be another than int8 with adapters")
    checks.done()
    return name


def _check_kept(checks: Checks, request: pb.GenerateRequest, bounds: Bounds) -> None:
    for path, part in checks.items("keep", request.keep, 0, MAX_KEPT):
        checks.that(
            0 <= part.start_s < part.end_s <= bounds.window_s,
            path,
            f"must be from 0 or later to a later end, at most {bounds.window_s:g} s, "
            f"got {part.start_s:g} to {part.end_s:g}",
        )
    if request.keep:
        checks.that(request.HasField("init_audio"), "keep", "needs init_audio, which it keeps parts of")
        checks.that(
            bounds.masks,
            "keep",
            "must be empty: this model keeps no parts of a sound, only one of type diffusion_cond_inpaint does; "
            "init_audio with a low init_noise_level stays near the whole of it",
        )
