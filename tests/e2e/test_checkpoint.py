"""A .ckpt as people have it: converted, registered by the command that the conversion names, and heard."""

import shlex
import subprocess
from pathlib import Path

import soundfile

from tests.system import ROOT, System

WRAP = """
import sys, torch
from pathlib import Path
from safetensors.torch import load_file
from luthier_model import untrained
folder = Path(sys.argv[1])
untrained.write(folder)
state = {f"diffusion.{name}": tensor for name, tensor in load_file(folder / "weights.safetensors").items()}
torch.save({"state_dict": state, "optimizer_states": [], "pytorch-lightning_version": "2.5.0"}, folder / "model.ckpt")
"""


def test_a_training_checkpoint_is_converted_registered_and_heard(system: System, tmp_path: Path) -> None:
    python = ROOT / "services/inference/.venv/bin/python"
    subprocess.run([str(python), "-c", WRAP, str(tmp_path)], check=True, capture_output=True)

    out = tmp_path / "converted"
    report = system.luthier(
        "convert-checkpoint", f"{tmp_path}/model.ckpt", "--config", f"{tmp_path}/config.json", "--out", str(out)
    )
    assert report["found"][0]["wrapped"]
    named = {"NAME": "brought", "FOLDER-OF-local": f"{tmp_path}/text_encoder"}
    command = [named.get(word, word) for word in shlex.split(report["next"][0])]
    assert command[0] == "luthier"
    assert system.luthier(*command[1:])["model"]["name"] == "brought"

    sound = tmp_path / "sound.wav"
    system.luthier(
        "generate", "calm piano", "--model", "brought", "--seconds", "1", "--steps", "2", "--out", str(sound)
    )
    assert soundfile.info(sound).frames == 16000
