"""What the service installs: all that generating imports, and little else."""

import subprocess
import sys
import tomllib
from pathlib import Path

INFERENCE = Path(__file__).parents[2] / "services/inference"


def locked() -> set[str]:
    """What the lock installs of the project without its tests' own."""
    lock = tomllib.loads((INFERENCE / "uv.lock").read_text())
    packages = {package["name"]: package for package in lock["package"]}
    found: set[str] = set()
    asked = [("luthier-inference", "")]
    while asked:
        name, extra = asked.pop()
        package = packages[name]
        needed = package.get("optional-dependencies", {}).get(extra, []) if extra else package.get("dependencies", [])
        for each in needed:
            more = [(each["name"], one) for one in each.get("extra", [])]
            asked += more if each["name"] in found else [(each["name"], ""), *more]
            found.add(each["name"])
    return {"luthier-inference", *found}


def test_eighty_eight_distributions_at_most_are_installed() -> None:
    """With stable-audio-tools' own list they are 211 (5.4 GB): trainers, samplers, plots, a web interface."""
    assert {"torch", "luthier-kit", "uvicorn"} <= locked()
    assert len(locked()) <= 88


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
absent = ("wandb", "pandas", "matplotlib", "pytorch_lightning", "starlette", "uvicorn", "luthier_inference.web")
assert not [name for name in absent if name in sys.modules]
"""

    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, check=True, timeout=120)
