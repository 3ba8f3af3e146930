"""OpenL3 against openl3 0.4.2 (its outputs, openl3_golden.py) and against torchopenl3 with the same random weights."""

from pathlib import Path

import numpy as np
import openl3_signals as signals
import pytest
import references
import torch

from luthier_evaluation.conversion import ConversionError
from luthier_evaluation.conversion.__main__ import convert
from luthier_evaluation.embedders import EMBEDDERS, openl3
from luthier_evaluation.embedders.openl3 import OpenL3
from luthier_kit.rpc import InvalidRequest

GOLDEN = Path(__file__).parent / "openl3_0_4_2.npz"
PUBLISHED = "speclayer.mel_basis"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in signals.network_tensors().items()}


@pytest.fixture(scope="module")
def embedder(tensors: dict[str, torch.Tensor]) -> OpenL3:
    return OpenL3("openl3", "digest", tensors)


def test_the_front_end_is_openl3s(golden: dict[str, np.ndarray]) -> None:
    mel = openl3.spectrogram(torch.from_numpy(signals.windows())).numpy()

    assert np.abs(mel[:, :, ::40] - golden["mel"]).max() < 2e-3  # of 80 dB; float32


def test_front_end_and_network_are_openl3s(golden: dict[str, np.ndarray], tensors: dict[str, torch.Tensor]) -> None:
    network = openl3._Inference(tensors)

    vectors = network(openl3.spectrogram(torch.from_numpy(signals.windows()))).numpy()

    assert np.abs(vectors - golden["vectors"]).max() < 1e-4 * np.abs(golden["vectors"]).max()


def test_resampling_is_resampys(golden: dict[str, np.ndarray]) -> None:
    left = torch.from_numpy(signals.stereo()[:, :1].T.copy())

    resampled = openl3.resampled(left)[0].numpy()

    assert np.abs(resampled - golden["resampled"]).max() < 2e-6


def test_a_file_is_embedded_as_stable_audio_metrics_does(
    golden: dict[str, np.ndarray], embedder: OpenL3, monkeypatch: pytest.MonkeyPatch
) -> None:
    front_end = openl3.spectrogram

    def without_rounding(*given: torch.Tensor) -> torch.Tensor:
        mel = front_end(*given)
        mel[:, -signals.HIGH_BANDS :] = -80  # there it is the rounding of the FFT, other with another FFT
        return mel

    monkeypatch.setattr(openl3, "spectrogram", without_rounding)

    vectors = embedder.embed(signals.stereo()).vectors

    assert vectors.shape == golden["embedded"].shape == (2, 1024)
    assert np.abs(vectors - golden["embedded"]).max() < 1e-4 * np.abs(golden["embedded"]).max()


@pytest.fixture(scope="module")
def torchopenl3(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    """The reference network, and its checkpoint as torchopenl3 publishes it."""
    network = references.torchopenl3()
    path = tmp_path_factory.mktemp("published") / "torchopenl3_mel256_music_512.pth.tar"
    torch.save(network.state_dict(), path)
    return network, path


def test_a_converted_checkpoint_gives_torchopenl3s_vectors(
    torchopenl3: tuple[torch.nn.Module, Path], tmp_path: Path, unsandboxed: None
) -> None:
    network, published = torchopenl3
    report = convert("torchopenl3", published, tmp_path)
    kind = EMBEDDERS["torchopenl3"].open(tmp_path / "torchopenl3.safetensors")
    assert isinstance(kind, OpenL3)
    windows = torch.from_numpy(signals.windows())
    with torch.no_grad():
        expected = network(windows[:, None]).numpy()

    vectors = kind._network(openl3.spectrogram(windows, kind._mel_basis)).numpy()

    assert np.abs(vectors - expected).max() < 1e-4 * np.abs(expected).max()
    assert report.left_out == {"speclayer": 2, **{f"batch_normalization_{n}": 1 for n in range(1, 9)}}


def test_the_same_checkpoint_serves_both_front_ends(
    torchopenl3: tuple[torch.nn.Module, Path], tmp_path: Path, unsandboxed: None
) -> None:
    convert("openl3", torchopenl3[1], tmp_path)

    kind = EMBEDDERS["openl3"].open(tmp_path / "openl3.safetensors")

    with pytest.raises(InvalidRequest, match="not of torchopenl3"):
        EMBEDDERS["torchopenl3"].open(tmp_path / "openl3.safetensors")
    assert kind.name == "openl3"


@pytest.mark.parametrize(("seconds", "count"), [(0.5, 1), (0.51, 2), (1.0, 2), (1.01, 3), (2.3, 5)])
def test_the_first_window_is_centred_at_the_start_and_the_last_holds_the_end(seconds: float, count: int) -> None:
    channel = torch.arange(1, int(seconds * 48_000) + 1, dtype=torch.float32)

    windows = openl3.windows_of(channel)

    assert len(windows) == count  # openl3's _get_num_windows
    assert not windows[0, :24_000].any()
    assert windows[0, 24_000] == 1
    assert channel[-1] in windows[-1]


def test_a_channel_is_heard_by_itself(embedder: OpenL3) -> None:
    audio = signals.stereo()[:22_050]

    both = embedder.embed(audio).vectors
    exchanged = embedder.embed(audio[:, ::-1]).vectors
    left = embedder.embed(audio[:, [0, 0]]).vectors

    assert np.allclose(exchanged, np.concatenate([both[:, 512:], both[:, :512]], axis=1), atol=1e-4)
    assert np.array_equal(left[:, :512], left[:, 512:])
    assert np.allclose(left[:, :512], both[:, :512], atol=1e-4)


def test_level_and_batch_change_nothing(embedder: OpenL3, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = signals.stereo()[:, [0, 0]]
    before = embedder.embed(audio).vectors

    monkeypatch.setattr(openl3, "WINDOWS_AT_ONCE", 1)
    after = embedder.embed(audio * np.float32(0.25)).vectors

    assert np.allclose(before, after, atol=1e-4 * np.abs(before).max())


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros((44_100, 2), np.float32), "AUDIO_SILENT"),
        (np.full((44_100, 2), np.nan, np.float32), "AUDIO_NOT_FINITE"),
        (np.ones((44_100, 1), np.float32), "INVALID_REQUEST"),
        (np.ones((22_049, 2), np.float32), "INVALID_REQUEST"),
    ],
)
def test_what_is_no_audio_is_refused(embedder: OpenL3, samples: np.ndarray, reason: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        embedder.embed(samples)

    assert refused.value.reason == reason


def test_a_checkpoint_that_lacks_a_layer_is_refused_by_name(
    torchopenl3: tuple[torch.nn.Module, Path], tmp_path: Path, unsandboxed: None
) -> None:
    state = {name: value for name, value in torchopenl3[0].state_dict().items() if not name.startswith("conv2d_4")}
    torch.save(state, tmp_path / "part.pth")

    with pytest.raises(ConversionError, match=r"2 of \d+ tensors are missing: conv2d_4.weight, conv2d_4.bias"):
        convert("openl3", tmp_path / "part.pth", tmp_path)
