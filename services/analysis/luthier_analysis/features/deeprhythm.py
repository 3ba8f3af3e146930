"""Tempo by deeprhythm (Foroughmand and Peeters 2019), an extra of this project: it brings torch.

Its own loader fetches weights from the network, ignores the path it is given and unpickles them; none of that is used
here. The operator supplies the file and its SHA-256; a `.pth` is read as tensors only, `.safetensors` as it is.
"""

import hashlib
import io
from functools import lru_cache
from typing import Any

import numpy as np

from luthier.common.v1.common_pb2 import FACT_SOURCE_AUDIO
from luthier_analysis.extra import NoEstimate
from luthier_analysis.facts import Tempo
from luthier_analysis.settings import Weights
from luthier_analysis.sound import Sound
from luthier_music.audio_rate import resampled

ESTIMATOR = "deeprhythm/0.0.13"
RATE_HZ = 22_050
WINDOW_S = 8  # it takes whole windows of this length
SLOWEST_BPM = 30.0  # its 256 classes are one BPM wide
MAX_WEIGHTS_BYTES = 64 << 20  # the published file has 5.5 MB


def estimate(sound: Sound, weights: Weights | None) -> Tempo:
    """Tempo in whole BPM, 30 to 285, with the softmax probability as confidence. Raises NoEstimate."""
    if weights is None:
        raise NoEstimate("no weights are configured")
    if sound.duration_s < WINDOW_S:
        raise NoEstimate(f"the audio is shorter than {WINDOW_S} s")
    torch, model, kernels = _model(weights)
    signal = resampled(sound.mono, 44_100, RATE_HZ)
    count = len(signal) // (WINDOW_S * RATE_HZ)
    windows = torch.from_numpy(np.ascontiguousarray(signal[: count * WINDOW_S * RATE_HZ])).reshape(count, -1)
    from deeprhythm.audio_proc.hcqm import compute_hcqm

    with torch.inference_mode():
        features = compute_hcqm(windows, *kernels).permute(0, 3, 1, 2)  # (windows, 6, 240, 8)
        likely = torch.softmax(model(features), dim=1).mean(dim=0)  # (256,)
    confidence, best = torch.max(likely, 0)
    return Tempo(SLOWEST_BPM + int(best), FACT_SOURCE_AUDIO, ESTIMATOR, float(confidence))


@lru_cache(maxsize=1)
def _model(weights: Weights) -> tuple[Any, Any, Any]:
    """torch, the network with the operator's weights, and its kernels."""
    try:
        import torch
        from deeprhythm.audio_proc.hcqm import make_kernels
        from deeprhythm.model.frame_cnn import DeepRhythmModel
    except ImportError as error:
        raise NoEstimate(f"the extra 'deeprhythm' is not installed ({error.name})") from error
    state = _read(weights)
    model = DeepRhythmModel()
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise NoEstimate("the weights do not fit the network") from error
    return torch, model.eval(), make_kernels(device="cpu")


def _read(weights: Weights) -> Any:
    """The state, after size and digest were checked: the bytes that are checked are the bytes that are read."""
    import safetensors.torch
    import torch

    try:
        if weights.path.stat().st_size > MAX_WEIGHTS_BYTES:
            raise NoEstimate(f"the weights have more than {MAX_WEIGHTS_BYTES} bytes")
        data = weights.path.read_bytes()
    except OSError as error:
        raise NoEstimate(f"the weights cannot be read ({error.strerror})") from error
    if hashlib.sha256(data).hexdigest() != weights.sha256:
        raise NoEstimate("the weights have another SHA-256 than configured")
    try:
        if weights.path.suffix == ".safetensors":
            return safetensors.torch.load(data)
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise many kinds for damaged files
        raise NoEstimate(f"the weights are damaged ({type(error).__name__})") from error
