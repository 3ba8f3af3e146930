"""What musicnn's own graph, in TensorFlow, with its own checkpoints, gives for a sound; and librosa's spectrogram.

    uv run --no-project --python 3.11 --with tensorflow-cpu==2.21.0 --with tf-keras --with librosa==0.11.0 \
        python tests/bench/musicnn_reference.py SITE-PACKAGES OUT.npz

SITE-PACKAGES has the package musicnn 0.1.0 (services/evaluation/.venv/lib/python3.11/site-packages). Only its
`models.py` is run. `tests/evaluation/test_musicnn.py` holds the port in torch against what this wrote.
"""

import os
import sys
import types
from pathlib import Path

import numpy as np

FRAMES, HOP = 187, 61
MEL_EVERY = 8  # frames of the spectrogram that are kept


def main(site: Path, out: Path) -> None:
    os.environ["TF_USE_LEGACY_KERAS"], os.environ["TF_CPP_MIN_LOG_LEVEL"] = "1", "3"
    import librosa
    import tensorflow as tf
    import tf_keras  # noqa: F401  # makes tf.compat.v1.layers work

    sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))
    from musicnn_sound import reference_sound

    package = types.ModuleType("musicnn")
    package.__path__ = [str(site / "musicnn")]
    sys.modules["musicnn"] = package
    tf.compat.v1.disable_eager_execution()
    from musicnn import models

    samples = reference_sound()
    filters = librosa.filters.mel(sr=16000, n_fft=512, n_mels=96)
    power = np.abs(librosa.stft(samples, n_fft=512, hop_length=256, pad_mode="reflect")) ** 2
    mel = np.log10(10000 * (filters @ power) + 1).T.astype(np.float32)
    windows = np.stack([mel[at : at + FRAMES] for at in range(0, len(mel) - FRAMES + 1, HOP)])
    found = {"filters": filters, "mel": mel[::MEL_EVERY]}
    for name in ("MSD_musicnn", "MTT_musicnn"):
        checkpoint = f"{site}/musicnn/{name}/"
        reader = tf.compat.v1.train.NewCheckpointReader(checkpoint)
        names = sorted(reader.get_variable_to_shape_map())
        found[f"{name}/names"] = np.array(names)
        found[f"{name}/sums"] = np.array([np.abs(reader.get_tensor(one).astype(np.float64)).sum() for one in names])
        tf.compat.v1.reset_default_graph()
        with tf.name_scope("model"):
            given = tf.compat.v1.placeholder(tf.float32, [None, FRAMES, 96])
            training = tf.compat.v1.placeholder(tf.bool)
            logits, *_, penultimate = models.define_model(given, training, name, 50)
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.global_variables_initializer())
            tf.compat.v1.train.Saver().restore(session, checkpoint)
            values = session.run([penultimate, logits], {given: windows, training: False})
        found[f"{name}/vectors"], found[f"{name}/logits"] = values
    np.savez_compressed(out, **found)
    print(f"TensorFlow {tf.__version__}, librosa {librosa.__version__}: {len(windows)} windows")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
