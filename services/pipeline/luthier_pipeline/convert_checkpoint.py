"""convert-checkpoint: a `.ckpt` becomes safetensors, by `luthier_model.conversion` in a Python that has torch.

The command's own environment has no torch, and no service opens a pickle, so another process of this machine does.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from luthier_pipeline.console import UsageError
from luthier_pipeline.options import Json, begin

PYTHON: Final = "LUTHIER_MODEL_PYTHON"
ENVIRONMENTS: Final = ("inference", "training")  # of a clone, after make install
MODULE: Final = "luthier_model.conversion"


def convert_checkpoint(
    ctx: typer.Context,
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.ckpt", help="Checkpoint of stable-audio-tools, or safetensors that are wrapped or split."
        ),
    ],
    config: Annotated[Path, typer.Option(metavar="FILE.json", help="stable-audio-tools model configuration.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder that is made, as luthier register takes it.")],
    autoencoder: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File of the autoencoder, where the checkpoint has none.")
    ] = None,
    weights: Annotated[
        Literal["ema", "online"] | None,
        typer.Option(
            help="Moving average, or what was trained; default: the average where it was ever updated.",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0, help="Default: 300, and one for each 5 MB.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Turn a .ckpt into safetensors, without running what is in it, and say what was found.

    It is opened in a process of its own: weights_only, without network, within limits, killed when it takes too long.
    """
    begin(ctx, json)
    words = [str(checkpoint), "--config", str(config), "--out", str(out)]
    for option, value in (("--autoencoder", autoencoder), ("--weights", weights), ("--timeout", timeout)):
        words += [option, str(value)] if value is not None else []
    code, said = run_python(
        [str(python_of(os.environ, ENVIRONMENTS, MODULE)), "-m", MODULE, *words, *(["--json"] if json else [])]
    )
    print(said, end="", flush=True)
    if code:
        raise typer.Exit(code)


def python_of(environ: Mapping[str, str], services: Sequence[str], module: str) -> Path:
    """The Python of one of these services, which has torch and `module`; UsageError, with what to do, where there is
    none."""
    folder = Path(__file__).parents[2]
    known = [folder / name / ".venv/bin/python" for name in services]
    for found in [Path(environ[PYTHON])] if environ.get(PYTHON) else known:
        if found.is_file():
            return found
    raise UsageError(
        f"no Python with Luthier's model code here: run make install in a clone, name one by {PYTHON}, or run "
        f"python -m {module} in the image of {services[-1]} (--network none --entrypoint python), with the same options"
    )


def run_python(command: list[str]) -> tuple[int, str]:
    """Exit code and standard output. Standard error passes through; what is interrupted ends the process first."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        said, _ = process.communicate()
    except BaseException:
        process.terminate()  # it removes what it began
        process.wait()
        raise
    return process.returncode, said
