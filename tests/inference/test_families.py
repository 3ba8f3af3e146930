"""`Generate` on versions of a rectified flow: its defaults, its samplers, what it refuses by name."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from luthier.common.v1.common_pb2 import Span
from luthier.inference.v1 import inference_pb2 as pb
from luthier.inference.v1 import inference_pb2_grpc
from luthier_inference.app import build_service
from luthier_kit.registry import register
from tests.model.families import small_family
from tests.support.services import running, temp_store

from .conftest import Served, refusal, settings_for, version_of
from .test_registration import registration

PROMPT = "calm piano in D minor at 90 BPM"
NAMES = {"arc": "stable_audio_open_small", "flow": "stable_audio_open_small_base", "fill": "inpainting",
         "unet": "stable_audio_1", "long": "stable_audio_2"}  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Post-trained for few steps, the flow before that, one that fills in what is masked; Stable Audio 1 and 2."""
    folder = tmp_path_factory.mktemp("families")
    settings = settings_for(folder, models_loaded=len(NAMES))
    with temp_store(folder / "store") as store:
        for name, family in NAMES.items():
            register(store, version_of(store, small_family(family, tmp_path_factory.mktemp(name)), name))
        with running(build_service(settings, store), settings) as address, grpc.insecure_channel(address) as channel:
            yield Served(store, inference_pb2_grpc.InferenceServiceStub(channel), address)


def request(model: str, **fields: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(**{"prompt": PROMPT, "seconds_total": 0.15, "seed": 7, "model": model, **fields})


@pytest.mark.parametrize(
    ("model", "defaults"),
    [
        ("arc", ("pingpong", 8, 1.0, 0.0, 0.0, 1.0)),
        ("flow", ("euler", 50, 7.0, 0.0, 0.0, 1.0)),
        ("fill", ("dpmpp-3m-sde", 100, 7.0, 0.0, 0.3, 500.0)),
        ("unet", ("dpmpp-3m-sde", 100, 6.0, 0.4, 0.3, 500.0)),
        ("long", ("dpmpp-3m-sde", 100, 7.0, 0.0, 0.3, 500.0)),
    ],
)
def test_an_objective_has_its_defaults(served: Served, model: str, defaults: tuple[object, ...]) -> None:
    """As stable-audio-tools' own interface and its U-Net have them; the papers and Stable Audio Open's model card."""
    made = served.stub.Generate(request(model))

    guidance = (made.guidance_scale, made.guidance_rescale)
    effective = (made.sampler, made.steps, *guidance, made.sigma_min, made.sigma_max)
    assert effective == pytest.approx(defaults)
    assert made.samples == 2400


@pytest.mark.parametrize("sampler", ["euler", "dpmpp", "rk4", "pingpong"])
def test_a_flow_takes_its_samplers(served: Served, sampler: str) -> None:
    assert served.stub.Generate(request("arc", sampler=sampler, steps=2)).sampler == sampler


@pytest.mark.parametrize(
    ("model", "field", "value", "bound"),
    [
        ("arc", "sampler", "dpmpp-3m-sde", "must be one of dpmpp, euler, pingpong, rk4"),
        ("flow", "sampler", "pingpong", "must be one of dpmpp, euler, rk4"),
        ("fill", "sampler", "euler", "must be one of dpmpp-2m"),
        ("arc", "sigma_min", 0.3, "must be 0"),
        ("arc", "sigma_max", 500.0, "between 0.12 and 1"),
        ("arc", "seconds_start", 1.0, "must be 0"),
        ("arc", "init_noise_level", 0.5, "needs init_audio"),
    ],
)
def test_what_is_another_objectives_is_refused_by_name(
    served: Served, model: str, field: str, value: object, bound: str
) -> None:
    code, details = refusal(lambda: served.stub.Generate(request(model, **{field: value})))

    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert field in details
    assert bound in details


def test_a_flow_starts_from_audio(served: Served) -> None:
    first = served.stub.Generate(request("arc"))
    level = {"init_audio": first.audio, "steps": 4}

    again = served.stub.Generate(request("arc", **level))
    code, details = refusal(lambda: served.stub.Generate(request("arc", init_noise_level=0.05, **level)))

    assert again.init_noise_level == 0.5
    assert again.audio.sha256 != first.audio.sha256
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "between 0.12 and 1" in details


def test_parts_of_a_sound_are_kept(served: Served) -> None:
    first = served.stub.Generate(request("fill", steps=2))
    given = {"init_audio": first.audio, "steps": 2}
    latent_s = 128 / 16000

    whole, none = served.stub.Generate(request("fill", **given)), served.stub.Generate(request("fill", steps=2))
    kept = served.stub.Generate(
        request("fill", keep=[Span(start_s=0, end_s=0.1), Span(start_s=0.11, end_s=0.15)], **given)
    )
    nearby = served.stub.Generate(request("fill", keep=[Span(start_s=0, end_s=0.1)], init_noise_level=2.0, **given))

    spans = [(span.start_s / latent_s, span.end_s / latent_s) for span in kept.kept]
    assert (list(whole.kept), whole.init_noise_level, kept.init_noise_level) == ([], 1.0, 0.0)
    assert spans == [(0, 13), (14, 19)]  # those that begin at 0 to 0.1 s and at 0.11 to 0.15 s
    assert nearby.init_noise_level == 2.0
    assert len({each.audio.sha256 for each in (whole, none, kept, nearby)}) == 4


def test_claps_text_encoder_is_registered(served: Served, tmp_path: Path) -> None:
    files = small_family("stable_audio_2", tmp_path)

    model = served.stub.RegisterModel(registration(served.store, files, name="clap")).model

    assert served.stub.Generate(request("clap", steps=1)).model == f"clap@{model.version}"
    code, details = refusal(lambda: served.stub.RegisterModel(registration(served.store, files, text_encoder=[])))
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert "needs the text encoder 'clap_text' as a folder of files; none was given" in details


def test_a_sampler_of_any_objective_is_known_while_the_model_is_not(served: Served) -> None:
    code, _ = refusal(lambda: served.stub.Generate(request("nobody", sampler="pingpong")))

    assert code == grpc.StatusCode.NOT_FOUND
