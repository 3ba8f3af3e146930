"""The networks of hear21passt, torchopenl3 and laion_clap with random weights, as their packages build them.

The packages are installed without what they ask for: what they import and never call here has an empty stand-in, and
whatever would fetch weights is replaced. torchvision's `Resize` is a stand-in, too: laion_clap shrinks long audio with
it, and stable-audio-metrics pins torchvision 0.16, which did that without antialiasing.
"""

import contextlib
import importlib
import io
import sys
import types
import warnings
from collections.abc import Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torchaudio
from torch import nn


class _Empty(types.ModuleType):
    """A module that has everything, of no use."""

    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (nn.Module,), {"__init__": lambda self, *_args, **_named: nn.Module.__init__(self)})


@contextlib.contextmanager
def without(*names: str) -> Iterator[None]:
    """Imports within find empty modules of these names."""
    stand_ins = {name: _Empty(name) for name in names if name not in sys.modules}
    with mock.patch.dict(sys.modules, stand_ins), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def randomise(network: nn.Module, seed: int) -> None:
    """Weights, biases and statistics of norms drawn, so that each of them matters."""
    draw = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if not value.is_floating_point() or "dft_" in name or "mel_basis" in name or "attn_mask" in name:
            continue
        if value.dim() > 1 and value[0].numel() > 1:
            value.normal_(0, (1.5 / value[0].numel()) ** 0.5, generator=draw)
        elif name.endswith("running_var") or ("norm" in name.lower() and name.endswith("weight")):
            value.uniform_(0.5, 1.5, generator=draw)
        else:
            value.normal_(0, 0.2, generator=draw)


def passt(width: int, blocks: int) -> nn.Module:
    """hear21passt's basic model: samples (batch, frames) at 32 kHz to logits and embedding (batch, 527 + width)."""
    with without("timm", "timm.models", "timm.models._hub"):
        from hear21passt.models.passt import PaSST
        from hear21passt.models.preprocess import AugmentMelSTFT
        from hear21passt.wrapper import PasstBasicWrapper

        mel = AugmentMelSTFT(  # as hear21passt.base.get_basic_model has it
            n_mels=128, sr=32000, win_length=800, hopsize=320, n_fft=1024, freqm=48, timem=192, htk=False, fmin=0.0,
            fmax=None, norm=1, fmin_aug_range=10, fmax_aug_range=2000,
        )  # fmt: skip
        network = PaSST(
            img_size=(128, 998), stride=(10, 10), embed_dim=width, depth=blocks, num_heads=width // 64, distilled=True
        )
        randomise(network, 1)
        for name, value in network.state_dict().items():  # far from uniform attention, and classes far from another
            value.mul_(4 if name == "head.1.weight" or "patch_embed" in name else 1.5 if "qkv" in name else 1)
        return PasstBasicWrapper(mel=mel, net=network, mode="all").eval()


def passt_outputs(network: nn.Module, window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Embedding and logits of samples (frames,). The package calls torch.stft as torch was before 1.8."""
    real = partial(torch.stft, return_complex=False)
    with mock.patch("torch.stft", real), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        both = network(torch.from_numpy(window.astype(np.float32))[None])[0].numpy()
    return both[527:], both[:527]


def torchopenl3() -> nn.Module:
    """torchopenl3's network of mel256: windows (batch, 1, 48000) at 48 kHz to vectors (batch, 512)."""
    librosa, filters = types.ModuleType("librosa"), types.ModuleType("librosa.filters")
    filters.get_window = lambda _name, size, fftbins: torch.hann_window(size, periodic=fftbins).numpy()  # type: ignore[attr-defined]
    filters.mel = _mel  # type: ignore[attr-defined]
    librosa.filters = filters  # type: ignore[attr-defined]
    with (
        without("resampy", "julius", "six"),
        mock.patch.dict(sys.modules, {"librosa": librosa, "librosa.filters": filters}),
    ):
        from torchopenl3.models import PytorchOpenl3

        network = PytorchOpenl3(content_type="music", input_repr="mel256", embedding_size=512)
        randomise(network, 2)
        return network.eval()


def _mel(*, sr: int, n_fft: int, n_mels: int, fmin: float, fmax: float, htk: bool, norm: int) -> np.ndarray:
    """HTK's triangles, each of sum 1: what librosa makes of `norm=1`. The checkpoint's own replaces them."""
    assert htk
    assert norm == 1
    banks = torchaudio.functional.melscale_fbanks(n_fft // 2 + 1, fmin, fmax, n_mels, sr, mel_scale="htk").T
    return (banks / banks.sum(1, keepdim=True).clamp(min=1e-9)).numpy()


class LaionClap:
    """laion_clap's model `HTSAT-tiny` with fusion, its text encoder of the size that `text` says."""

    def __init__(self, text: nn.Module) -> None:
        package = Path(str(metadata.distribution("laion-clap").locate_file("laion_clap")))
        stand_ins = (
            "torchvision", "torchvision.ops", "torchvision.ops.misc", "torchvision.transforms", "torchvision.datasets",
            "h5py", "ftfy", "regex", "torchlibrosa", "torchlibrosa.stft", "torchlibrosa.augmentation", "braceexpand",
            "pandas", "webdataset", "wget", "sklearn", "sklearn.metrics",
        )  # fmt: skip
        tokenizers = [f"transformers.{kind}Tokenizer.from_pretrained" for kind in ("Bert", "Roberta", "Bart")]
        with without(*stand_ins), contextlib.ExitStack() as stack:
            for name in tokenizers:
                stack.enter_context(mock.patch(name))
            stack.enter_context(mock.patch("transformers.RobertaModel.from_pretrained", return_value=text))
            stack.enter_context(mock.patch.object(sys, "path", [str(package), str(package / "training"), *sys.path]))
            model = importlib.import_module("clap_module.model")
            self._data = importlib.import_module("data")
            self._audio = {
                "audio_length": 1024, "clip_samples": 480000, "mel_bins": 64, "sample_rate": 48000, "window_size": 1024,
                "hop_size": 480, "fmin": 50, "fmax": 14000, "class_num": 527, "model_type": "HTSAT",
                "model_name": "tiny",
            }  # fmt: skip
            words = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}
            self.model = model.CLAP(
                768, self._audio, {**words, "model_type": "roberta"}, enable_fusion=True, fusion_type="aff_2d"
            ).eval()
            randomise(self.model, 3)

    def audio(self, samples: np.ndarray, draw: Any) -> np.ndarray:
        """The vector (512,) of mono samples at 48 kHz as `get_audio_embedding_from_data` makes it; `draw` stands for
        numpy's choice of the pieces.
        """
        with mock.patch("numpy.random.choice", draw), mock.patch.object(self._data, "torchvision", _torchvision()):
            features = self._data.get_audio_features(
                {}, torch.from_numpy(samples), 480000, "fusion", "repeatpad", self._audio
            )
        with torch.no_grad():
            return self.model.get_audio_embedding([features])[0].numpy()

    def text(self, tokens: dict[str, torch.Tensor]) -> np.ndarray:
        """Vectors (texts, 512) of tokens padded to 77."""
        with torch.no_grad():
            return self.model.get_text_embedding(tokens).numpy()


def _torchvision() -> Any:
    """`transforms.Resize` of a tensor as torchvision 0.16 did it."""

    def resize(size: list[int]) -> Any:
        return lambda image: nn.functional.interpolate(image[None], size, mode="bilinear", align_corners=False)[0]

    return types.SimpleNamespace(transforms=types.SimpleNamespace(Resize=resize))
