"""The notes that the package basic-pitch hears in a sound, by its ONNX file and its own code.

    uv run --no-project --python 3.11 --with onnxruntime --with librosa --with mir_eval --with resampy \
        --with pretty_midi --with 'setuptools<80' python tests/bench/basic_pitch_reference.py SITE-PACKAGES OUT.json

SITE-PACKAGES has the package basic-pitch 0.4.0 (services/evaluation/.venv/lib/python3.11/site-packages).
`tests/evaluation/test_notes.py` holds our notes against what this wrote.
"""

import json
import sys
import tempfile
import types
from pathlib import Path

import soundfile


def main(site: Path, out: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))
    from notes_sound import RATE_HZ, reference_sound

    package = types.ModuleType("basic_pitch")
    package.__path__ = [str(site / "basic_pitch")]
    sys.modules["basic_pitch"] = package
    package.__dict__.update(
        CT_PRESENT=False, TF_PRESENT=False, TFLITE_PRESENT=False, ONNX_PRESENT=True, ICASSP_2022_MODEL_PATH=""
    )
    from basic_pitch.inference import Model, predict

    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        soundfile.write(file.name, reference_sound(), RATE_HZ, "FLOAT")
        model = Model(site / "basic_pitch/saved_models/icassp_2022/nmp.onnx")
        _, _, notes = predict(file.name, model)
    found = [[float(start), float(end), int(pitch), float(amplitude)] for start, end, pitch, amplitude, _ in notes]
    out.write_text(json.dumps(sorted(found)) + "\n")
    print(f"{len(found)} notes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
