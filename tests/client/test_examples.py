"""Each example as it stands, against a real server."""

import subprocess
import sys
from pathlib import Path

from tests.client.conftest import Secured
from tests.support.programs import ROOT, Program

EXAMPLES = ROOT / "services/client/examples"
FLAC = b"ID3"  # content credentials go before the stream


def run(folder: Path, name: str, *arguments: object) -> list[str]:
    """What an example prints."""
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_every_example_has_a_test() -> None:
    told = Path(__file__).read_text()

    assert [path.name for path in EXAMPLES.glob("*.py") if f'"{path.name}"' not in told] == []


def test_one_call_brings_audio(server: Program, tmp_path: Path) -> None:
    assert run(tmp_path, "generate.py", server.address) == ["tiny@1, seed 1: 3 s in calm.flac"]
    assert (tmp_path / "calm.flac").read_bytes().startswith(FLAC)


def test_a_stream_goes_into_a_file_with_progress(server: Program, tmp_path: Path) -> None:
    lines = run(tmp_path, "stream_to_file.py", server.address)

    assert [line.split(",")[0] for line in lines[-3:-1]] == ["step 7 of 8", "step 8 of 8"]
    assert f"has the {(tmp_path / 'calm.flac').stat().st_size} bytes" in lines[-1]


def test_what_is_given_up_leaves_no_file(server: Program, tmp_path: Path) -> None:
    assert run(tmp_path, "cancel.py", server.address)[0].startswith("given up")
    assert list(tmp_path.iterdir()) == []


def test_errors_name_fields_and_reasons(server: Program, tmp_path: Path) -> None:
    lines = run(tmp_path, "errors.py", server.address)

    assert "prompt must not be empty" in lines
    assert any(line.startswith("steps must be between 1 and 1000") for line in lines)
    assert any(line.startswith("MODEL_NOT_FOUND") for line in lines)
    assert lines[-1].startswith("made generated/")


def test_several_at_once_in_one_event_loop(server: Program, tmp_path: Path) -> None:
    lines = run(tmp_path, "asyncio_several.py", server.address)

    assert [line.split(":")[0] for line in lines[:3]] == ["calm-4.flac", "calm-5.flac", "calm-6.flac"]
    assert lines[3] == "the fourth was given up after half a second"
    assert all((tmp_path / f"calm-{seed}.flac").read_bytes().startswith(FLAC) for seed in (4, 5, 6))


def test_a_token_over_tls(secured: Secured, tmp_path: Path) -> None:
    lines = run(tmp_path, "secured.py", secured.address, secured.token_file, secured.authority)

    assert lines[0].startswith("tiny@1, at most ")
    assert lines[-1].startswith("shop had ")
