"""Hostile requests to every RPC, and hostile audio: a status of the table, a stable reason, and a field."""

import io
import random
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import soundfile

from luthier.analysis.v1 import analysis_pb2 as pb
from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_analysis.service import build
from luthier_analysis.settings import AnalysisSettings
from luthier_kit.store import Store
from tests.support.fuzz import attack, attacking
from tests.support.hostile_bytes import damaged
from tests.support.own_process import in_own_process

from .encoders import encoded
from .synth import RATE_HZ, chords, stereo
from .test_service import a_timeline

CONTRACT = pb.DESCRIPTOR.services_by_name["AnalysisService"]


@pytest.mark.parametrize("per_class", [0, pytest.param(1000, marks=pytest.mark.slow)])
def test_hostile_requests_are_refused_by_name(
    settings: AnalysisSettings, put: Callable[[np.ndarray], ArtifactRef], per_class: int
) -> None:
    sound = put(chords(0, "major", 2))
    examples = {
        "AnalyzeAudio": pb.AnalyzeAudioRequest(audio=sound, features=[pb.FEATURE_LOUDNESS]),
        "DecodeAudio": pb.DecodeAudioRequest(original=sound),
        "CutClips": pb.CutClipsRequest(mix=sound, timeline=a_timeline(4.0), target_s=2, min_s=1, max_s=3, max_clips=2),
    }
    with in_own_process(build, settings) as service:
        attack(service, CONTRACT, examples, per_class)


def of_format(kind: str, subtype: str) -> bytes:
    """Four seconds of chords."""
    file = io.BytesIO()
    soundfile.write(file, stereo(chords(0, "major", 2)), RATE_HZ, format=kind, subtype=subtype)
    return file.getvalue()


def absurd_samples(chance: random.Random) -> bytes:
    """A WAV file of floats of any size, some of them no numbers, at any rate."""
    bits = np.frombuffer(chance.randbytes(4 * 8000), np.float32)
    usual = np.float32(chance.uniform(-1, 1)) * np.ones(4000, np.float32)
    usual[chance.randrange(4000)] = chance.choice((np.nan, np.inf, 3e38, -3e38, 1e-45))
    file = io.BytesIO()
    samples = chance.choice((bits.reshape(-1, chance.choice((1, 2, 8))), usual, np.zeros(4000, np.float32)))
    soundfile.write(file, samples, chance.choice((1, 8000, 44_100, 768_000)), format="WAV", subtype="FLOAT")
    return file.getvalue()


FLAC, WAV = of_format("FLAC", "PCM_16"), of_format("WAV", "PCM_16")
AUDIO: dict[str, Callable[[random.Random], bytes]] = {
    "damaged FLAC": lambda chance: damaged(FLAC, chance),
    "damaged header of FLAC": lambda chance: damaged(FLAC[:60], chance) + FLAC[60:],
    "damaged header of WAV": lambda chance: damaged(WAV[:60], chance) + WAV[60:],
    "absurd samples": absurd_samples,
}


@pytest.mark.parametrize("per_class", [20, pytest.param(1000, marks=pytest.mark.slow)])
def test_hostile_audio_is_measured_or_refused(settings: AnalysisSettings, store: Store, per_class: int) -> None:
    def request(audio: bytes) -> pb.AnalyzeAudioRequest:
        features = [pb.FEATURE_LOUDNESS, pb.FEATURE_DESCRIPTORS, pb.FEATURE_KEY]
        return pb.AnalyzeAudioRequest(audio=store.blobs.put_bytes("mixes", audio, "flac"), features=features)

    with in_own_process(build, settings) as service, attacking(service, "AnalyzeAudio of hostile audio") as own:
        method = CONTRACT.methods_by_name["AnalyzeAudio"]
        own.warm_up([(method, request(FLAC))])
        for title, make in AUDIO.items():
            own.files(method, title, make, per_class, request)


TONES = stereo(chords(0, "major", 1)).T
ORIGINALS = {
    "MP3": encoded(TONES, "mp3", "libmp3lame", tags={"title": "Chords", "artist": "Nobody"}),
    "AAC": encoded(TONES, "ipod", "aac", tags={"title": "Chords"}),
    "Opus": encoded(TONES, "ogg", "libopus", rate_hz=48_000),
    "FLAC": encoded(TONES, "flac", "flac"),
    "Matroska": encoded(TONES, "matroska", "flac"),
    "AIFF": encoded(TONES, "aiff", "pcm_s16be"),
    "WavPack": encoded(TONES, "wv", "wavpack"),
}


def with_damaged_head(whole: bytes, head: int, chance: random.Random) -> bytes:
    return damaged(whole[:head], chance) + whole[head:]


@pytest.mark.parametrize("per_class", [12, pytest.param(500, marks=pytest.mark.slow)])
def test_hostile_originals_are_decoded_or_refused(settings: AnalysisSettings, store: Store, per_class: int) -> None:
    def request(original: bytes) -> pb.DecodeAudioRequest:
        return pb.DecodeAudioRequest(original=store.blobs.put_bytes("audio", original, "bin"))

    with in_own_process(build, settings) as service, attacking(service, "DecodeAudio of hostile files") as own:
        method = CONTRACT.methods_by_name["DecodeAudio"]
        own.warm_up([(method, request(ORIGINALS["FLAC"]))])
        for title, whole in ORIGINALS.items():
            own.files(method, f"damaged {title}", partial(damaged, whole), per_class, request)
            head = min(400, len(whole) // 2)
            own.files(method, f"damaged head of {title}", partial(with_damaged_head, whole, head), per_class, request)
