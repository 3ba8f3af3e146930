# /// script
# requires-python = "==3.11.*"
# dependencies = [
#   "tensorflow-cpu==2.13.1", "kapre==0.3.7", "numpy==1.23.5", "librosa==0.10.1", "resampy==0.2.2", "scipy==1.10.1",
#   "soundfile", "setuptools<75", "h5py",
# ]
# ///
"""Writes openl3_0_4_2.npz: what openl3 0.4.2 makes of random weights and signals, with what stable-audio-metrics pins.

    git clone --branch v0.4.2 https://github.com/marl/openl3
    uv run --no-build-isolation tests/evaluation/openl3_golden.py openl3 tests/evaluation/openl3_0_4_2.npz

TensorFlow 2.13 is no part of any environment of this repository: the test reads the file. Where a resolver finds kapre
and librosa at odds, install kapre without its dependencies. Weights and signals come from `openl3_signals`, as in the
test.
"""

import os
import sys
import types
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import numpy as np
from openl3_signals import HIGH_BANDS, network_tensors, stereo, windows

sys.path.insert(0, sys.argv[1])
package = types.ModuleType("openl3")  # its own __init__ asks for moviepy
package.__path__ = [str(Path(sys.argv[1]) / "openl3")]
sys.modules["openl3"] = package

from openl3 import core, models  # noqa: E402
from tensorflow.keras import Model  # noqa: E402
from tensorflow.keras.layers import Flatten, MaxPooling2D  # noqa: E402

network = models._construct_mel256_audio_network(include_frontend=True)
size = models.AUDIO_POOLING_SIZES["mel256"][512]
norms = [layer for layer in network.layers if "batch_normalization" in layer.name]
convolutions = [layer for layer in network.layers if "conv2d" in layer.name or layer.name == "audio_embedding_layer"]
tensors = network_tensors()
for place, (norm, convolution) in enumerate(zip(norms, convolutions, strict=True), 1):
    name = f"conv2d_{place}" if place < 8 else "audio_embedding_layer"
    convolution.set_weights([tensors[f"{name}.weight"].transpose(2, 3, 1, 0), tensors[f"{name}.bias"]])
    parts = ("weight", "bias", "running_mean", "running_var")
    norm.set_weights([tensors[f"batch_normalization_{place}.{part}"] for part in parts])
whole = Model(network.input, Flatten()(MaxPooling2D(pool_size=size, padding="same")(network.output)))
front_end = Model(network.input, norms[0].input)
rest = Model(norms[0].input, whole.output)


def channel(samples: np.ndarray) -> np.ndarray:
    cut = core._preprocess_audio_batch(samples, 44100, center=True, hop_size=0.5)
    mel = front_end.predict(cut.astype(np.float32), verbose=0)
    mel[:, -HIGH_BANDS:] = -80  # what is left of rounding above 22.05 kHz
    return rest.predict(mel, verbose=0)


given = windows()[:, None]
left, right = stereo().T
np.savez_compressed(
    sys.argv[2],
    mel=front_end.predict(given, verbose=0)[:, :, ::40, 0],
    vectors=whole.predict(given, verbose=0),
    resampled=core.resampy.resample(left, sr_orig=44100, sr_new=48000, filter="kaiser_best"),
    embedded=np.concatenate([channel(left), channel(right)], axis=1),
)
