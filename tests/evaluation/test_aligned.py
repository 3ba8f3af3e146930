"""Audio against the reference that it reconstructs: auraloss' own figures, and closed forms of SI-SDR."""

import io
import math

import auraloss
import numpy as np
import pytest
import soundfile
import torch
from conftest import Platform
from loopback import Music
from test_audio_sets import audio_set, given, scores, stored, suite

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.evaluation.v1 import evaluation_pb2 as pb
from luthier_evaluation import aligned
from luthier_evaluation.aligned import aligned_values, mel_distance, si_sdr_db, stft_distance, visqol
from luthier_kit.rpc import InvalidRequest
from luthier_kit.store import Store

RATE = 44_100


@pytest.fixture
def without_visqol(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes seconds for a second of audio."""
    monkeypatch.setattr(aligned, "_visqol", lambda: None)


def noise(seed: int, seconds: float = 1.0, channels: int = 2) -> torch.Tensor:
    drawn = np.random.default_rng(seed).normal(size=(channels, round(seconds * RATE)))
    return torch.from_numpy((0.1 * drawn).astype(np.float32))


def slaney_bands(rate: int, transform: int, bands: int) -> torch.Tensor:
    """Slaney's mel filters (Auditory Toolbox, 1998), as librosa has them by default: linear to 1 kHz, then 27 steps to
    each factor of 6.4; triangles of equal area."""
    step = math.log(6.4) / 27

    def mel(hz: np.ndarray) -> np.ndarray:
        return np.where(hz < 1000, hz * 3 / 200, 15 + np.log(np.maximum(hz, 1e-9) / 1000) / step)

    def hz(mels: np.ndarray) -> np.ndarray:
        return np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(step * (mels - 15)))

    edges = hz(np.linspace(0, mel(np.array(rate / 2)), bands + 2))
    bins = np.linspace(0, rate / 2, transform // 2 + 1)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    filters = np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None]
    return torch.from_numpy(filters.astype(np.float32))


def test_the_distance_of_spectra_is_auralosss_whatever_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = noise(1, 0.25)
    found = wanted + 0.3 * noise(2, 0.25)
    by_auraloss = float(auraloss.freq.MultiResolutionSTFTLoss()(found[None], wanted[None]))

    assert stft_distance(found, wanted) == pytest.approx(by_auraloss, rel=1e-5)
    monkeypatch.setattr(aligned, "PIECE_FRAMES", 30)
    assert stft_distance(found, wanted) == pytest.approx(by_auraloss, rel=1e-5)


def test_the_distance_of_mel_spectra_is_auralosss_with_slaneys_filters() -> None:
    wanted = noise(3)
    found = 0.5 * wanted + 0.1 * noise(4)
    loss = auraloss.freq.STFTLoss(fft_size=1024, hop_size=256, win_length=1024)
    loss.scale, loss.fb = "mel", slaney_bands(RATE, 1024, 128)[None]  # its own come from librosa

    assert mel_distance(found, wanted, RATE) == pytest.approx(float(loss(found[None], wanted[None])), rel=1e-4)


def test_equal_audio_has_no_distance_and_the_bound_of_the_ratio() -> None:
    wanted = noise(5)

    assert (stft_distance(wanted, wanted), mel_distance(wanted, wanted, RATE)) == (0, 0)
    assert si_sdr_db(wanted, wanted) == 100


@pytest.mark.parametrize("ratio_db", [-10.0, 0.0, 20.0])
def test_orthogonal_noise_has_the_ratio_of_the_powers(ratio_db: float) -> None:
    time_s = torch.arange(RATE, dtype=torch.float64) / RATE
    tone, other = torch.sin(2 * torch.pi * 440 * time_s), torch.sin(2 * torch.pi * 660 * time_s)

    found = tone + 10 ** (-ratio_db / 20) * other

    assert si_sdr_db(found[None], tone[None]) == pytest.approx(ratio_db, abs=1e-6)
    assert si_sdr_db(7 * found[None] + 0.25, tone[None]) == pytest.approx(ratio_db, abs=1e-6)  # gain and offset


def test_silence_is_a_state_of_its_own() -> None:
    sound, silence = noise(6), torch.zeros(2, RATE)

    assert si_sdr_db(sound, silence) is None
    assert si_sdr_db(silence, sound) == -100
    one_side = torch.stack([sound[0], silence[0]])
    assert si_sdr_db(one_side, one_side) == 100  # the mean over the channel that sounds


def test_visqol_gives_equal_audio_its_highest_rating_and_noise_a_lower_one() -> None:
    pytest.importorskip("visqol", reason="uv sync --extra visqol")
    time_s = torch.arange(round(1.5 * 48_000), dtype=torch.float64) / 48_000
    tones = [torch.sin(2 * torch.pi * hz * time_s) for hz in (220, 440, 1500, 3000)]
    wanted = (0.1 * sum(tones) * (0.6 + 0.4 * torch.sin(4 * torch.pi * time_s)))[None].float()
    noisy = wanted + 0.1 * noise(8, 2.0, 1)[:, : wanted.shape[1]]

    assert visqol(wanted, wanted, 48_000) == pytest.approx(4.7321, abs=1e-3)
    assert 1 <= (visqol(noisy, wanted, 48_000) or 0) < 4.5


@pytest.mark.usefixtures("without_visqol")
def test_without_visqol_its_score_says_what_brings_it(platform: Platform) -> None:
    reference = stored(platform.store, Music())

    evaluation = platform.done(**given(platform, suite=suite(reference=reference), aligned=True))

    score = scores(evaluation, "audio:truth")["visqol"]
    assert not score.HasField("value")
    assert "the extra `visqol`" in score.note


def put(store: Store, samples: torch.Tensor, rate: int) -> ArtifactRef:
    out = io.BytesIO()
    soundfile.write(out, samples.numpy().T, rate, format="WAV", subtype="FLOAT")
    return store.blobs.put_bytes("audio", out.getvalue(), "wav", "audio/wav")


@pytest.mark.usefixtures("without_visqol")
def test_a_codec_in_mono_at_a_lower_rate_is_compared_in_mono_at_the_references_rate(store: Store) -> None:
    time_s = torch.arange(2 * RATE, dtype=torch.float64) / RATE
    tone = 0.5 * torch.sin(2 * torch.pi * 440 * time_s).float()
    reference = put(store, torch.stack([tone, tone]), RATE)
    at_24k = 0.5 * torch.sin(2 * torch.pi * 440 * torch.arange(48_000, dtype=torch.float64) / 24_000).float()

    values = aligned_values(store, put(store, at_24k[None], 24_000), reference)

    assert values["si_sdr_db"] > 30  # what resampling leaves at the ends
    assert set(values) == {"stft", "mel", "si_sdr_db"}


@pytest.mark.usefixtures("without_visqol")
def test_what_both_have_is_compared_and_no_more_than_a_second_may_lack(store: Store) -> None:
    whole = noise(7, 2.0)
    reference = put(store, whole, RATE)

    assert aligned_values(store, put(store, whole[:, : round(1.5 * RATE)], RATE), reference)["si_sdr_db"] == 100
    with pytest.raises(InvalidRequest) as error:
        aligned_values(store, put(store, whole[:, : round(0.9 * RATE)], RATE), reference)
    assert error.value.reason == "REFERENCE_NOT_ALIGNED"


@pytest.mark.usefixtures("without_visqol")
def test_an_evaluation_of_reconstructions_has_three_more_scores(platform: Platform) -> None:
    store = platform.store
    reference = stored(store, Music())
    quieter = audio_set(store, "codec", *[stored(store, Music(gain=0.25))] * 3)

    evaluation = platform.done(
        **given(platform, candidate_audio=quieter, suite=suite(reference=reference), aligned=True)
    )

    found = scores(evaluation, "audio:codec")
    assert found["si_sdr_db"].value > 50  # only the gain differs, and 16 bits
    assert 0.5 < found["stft"].value < 0.5 + math.log(2)  # half of each magnitude, but of bins at the floor
    assert found["mel"].n == 3
    page = store.blobs.read(evaluation.report).decode()
    assert "SI-SDR" in page


def test_without_the_word_nothing_of_it_is_measured_or_shown(platform: Platform) -> None:
    evaluation = platform.done(**given(platform, suite=suite(reference=stored(platform.store, Music()))))

    assert "stft" not in scores(evaluation, "audio:truth")
    results = platform.store.get(pb.EvaluationResults, evaluation.results)
    assert all("stft" not in row.values for row in results.rows)
