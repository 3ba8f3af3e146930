"""What the service installs: all that generating imports, and little else."""

import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

INFERENCE = Path(__file__).parents[2] / "services/inference"
TOOLS_OF_TESTS = {"grpc-stubs", "iniconfig", "pluggy", "pygments", "pytest", "types-protobuf"}


def test_eighty_distributions_at_most_are_installed() -> None:
    """With stable-audio-tools' own list they are 211 (5.4 GB): trainers, samplers, plots, a web interface."""
    installed = {found.name.lower() for found in distributions()} - TOOLS_OF_TESTS

    assert len(installed) <= 80


def test_the_service_starts_without_what_is_left_out(tmp_path: Path) -> None:
    """In an interpreter where whatever the project overrides away cannot be imported, even where a machine has it."""
    overrides = tomllib.loads((INFERENCE / "pyproject.toml").read_text())["tool"]["uv"]["override-dependencies"]
    modules = [entry.split(";")[0].strip().replace("-", "_") for entry in overrides]
    code = f"""
import sys
sys.modules.update(dict.fromkeys({modules!r}))
from pathlib import Path
from luthier_inference.app import build_service
from luthier_inference.settings import InferenceSettings
from luthier_kit.store import open_store
folder = Path({str(tmp_path)!r})
settings = InferenceSettings(device="cpu", store_folder=folder, scratch=folder)
build_service(settings, open_store(settings))
assert not [name for name in ("wandb", "pandas", "matplotlib", "pytorch_lightning") if name in sys.modules]
"""

    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, check=True, timeout=120)
