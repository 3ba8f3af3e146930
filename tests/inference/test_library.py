"""stable-audio-tools as the model code imports it."""

import subprocess
import sys


def told_by(code: str) -> str:
    """What a new interpreter prints last."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.split()[-1]


def test_the_library_does_not_load_the_compiler() -> None:
    assert told_by("import luthier_model.library, sys; print('torch._dynamo' in sys.modules)") == "False"


def test_the_library_does_not_hide_what_the_compiler_could_not_do() -> None:
    assert told_by("import luthier_model.library, torch; print(torch._dynamo.config.suppress_errors)") == "False"
