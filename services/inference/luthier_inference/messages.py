"""Between protobuf messages and the domain's own types."""

from datetime import datetime
from typing import TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from luthier.inference.v1 import inference_pb2 as pb
from luthier_inference.catalogue import Profile
from luthier_inference.order import (
    GUIDANCE_SCALE,
    INIT_NOISE_LEVEL,
    MAX_INIT_AUDIO_BYTES,
    MAX_REQUEST_ID_CHARS,
    STEPS,
    Bounds,
    Order,
    check,
    derived_seed,
)
from luthier_inference.sound import FLAC
from luthier_inference.studio import Job, Take
from luthier_kit.checks import Checks
from luthier_kit.models import ModelVersion
from luthier_kit.telemetry import new_request_id
from luthier_model.sampler import DEFAULT_SAMPLER
from luthier_model.schedules import SIGMA_MAX, SIGMA_MIN

T = TypeVar("T", int, float)
FORMATS = {
    pb.OUTPUT_FORMAT_UNSPECIFIED: FLAC,
    pb.OUTPUT_FORMAT_FLAC: FLAC,
    pb.OUTPUT_FORMAT_WAV: "wav",
    pb.OUTPUT_FORMAT_WAV_FLOAT: "wav-float",
}
FORMAT_ENUMS = {name: number for number, name in FORMATS.items() if number}


def with_request_id(request: pb.GenerateRequest) -> pb.GenerateRequest:
    """The request, with an id of our own when it has none."""
    if request.request_id:
        return request
    named = pb.GenerateRequest()
    named.CopyFrom(request)
    named.request_id = new_request_id()
    return named


def order_of(request: pb.GenerateRequest, bounds: Bounds) -> Order:
    """The order of a request, defaults filled in; InvalidRequest names every field beyond its bound."""
    order = Order(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        seconds_start=_or(request, "seconds_start", 0.0),
        seconds_total=_or(request, "seconds_total", bounds.window_s),
        steps=_or(request, "steps", STEPS),
        sampler=request.sampler or DEFAULT_SAMPLER,
        sigma_min=_or(request, "sigma_min", SIGMA_MIN),
        sigma_max=_or(request, "sigma_max", SIGMA_MAX),
        guidance_scale=_or(request, "guidance_scale", GUIDANCE_SCALE),
        guidance_rescale=_or(request, "guidance_rescale", 0.0),
        seed=_or(request, "seed", derived_seed(request.request_id)),
        init_noise_level=_or(request, "init_noise_level", INIT_NOISE_LEVEL) if _has_init(request) else 0.0,
        output_format=FORMATS.get(request.output_format, str(request.output_format)),
        untrimmed=request.untrimmed,
    )
    checks = Checks()
    check(order, bounds, checks)
    checks.text("request_id", request.request_id, max_chars=MAX_REQUEST_ID_CHARS)
    if _has_init(request):
        checks.artifact("init_audio", request.init_audio, max_bytes=MAX_INIT_AUDIO_BYTES)
        above = f"must be above sigma_min ({order.sigma_min:g}), got 0"
        checks.that(order.init_noise_level != 0, "init_noise_level", above)  # `check` takes 0 for no init_audio
    else:
        checks.that(not request.HasField("init_noise_level"), "init_noise_level", "needs init_audio")
    checks.done()
    return order


def response_of(job: Job, take: Take) -> pb.GenerateResponse:
    """What a take is, with every value that took effect."""
    order, c = job.order, job.profile.configuration
    return pb.GenerateResponse(
        audio=take.audio,
        prompt=order.prompt,
        negative_prompt=order.negative_prompt,
        seconds_start=order.seconds_start,
        seconds_total=order.seconds_total,
        steps=order.steps,
        sampler=order.sampler,
        sigma_min=order.sigma_min,
        sigma_max=order.sigma_max,
        guidance_scale=order.guidance_scale,
        guidance_rescale=order.guidance_rescale,
        seed=order.seed,
        model_digest=f"sha256:{job.profile.version.digest}",
        output_format=FORMAT_ENUMS[order.output_format],
        sample_rate_hz=c.sample_rate_hz,
        channels=c.channels,
        samples=take.samples,
        peak_dbfs=take.peak_dbfs,
        compute_s=take.compute_s,
        notes=take.notes,
        init_noise_level=order.init_noise_level,
        untrimmed=order.untrimmed,
    )


def model_of(version: ModelVersion, profile: Profile | None, *, loaded: bool) -> pb.Model:
    """A version as a message; without a profile (unreadable configuration) its window is left out."""
    model = pb.Model(
        name=version.name,
        version=version.n,
        digest=f"sha256:{version.digest}",
        loaded=loaded,
        dataset=version.dataset_name,
        created_by=version.created_by,
        reason=version.reason,
        evaluation_id=version.evaluation,
        checkpoint=version.checkpoint,
        configuration=version.configuration,
    )
    if version.created_at:
        stamp = Timestamp()
        stamp.FromDatetime(datetime.fromisoformat(version.created_at))
        model.created_at.CopyFrom(stamp)
    if profile:
        model.window_s = profile.bounds.window_s
        model.sample_rate_hz = profile.configuration.sample_rate_hz
        model.channels = profile.configuration.channels
    return model


def _has_init(request: pb.GenerateRequest) -> bool:
    return request.HasField("init_audio")


def _or(request: pb.GenerateRequest, field: str, default: T) -> T:
    return getattr(request, field) if request.HasField(field) else default
