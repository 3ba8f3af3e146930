"""The commands in the README run as they stand, but for the address and the model."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import soundfile

from tests.support.services import require_tool

from .conftest import Both, events

README = Path(__file__).parents[3] / "services/inference/README.md"
COMMANDS = re.findall(r"curl --fail-with-body(?:.*\\\n)*.*", README.read_text())


def output(served: Both, command: str, folder: Path) -> str:
    require_tool("curl")
    text = command.replace("http://127.0.0.1:7307", served.url).replace('"demo"', '"tiny"')
    done = subprocess.run(["bash", "-c", text], cwd=folder, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


@pytest.fixture(scope="module")
def audio(served_both: Both, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the first command writes."""
    folder = tmp_path_factory.mktemp("curl")
    output(served_both, COMMANDS[0], folder)
    return folder / "jazz.wav"


def test_there_are_three() -> None:
    assert len(COMMANDS) == 3


def test_the_first_writes_audio(audio: Path) -> None:
    assert soundfile.info(audio).duration == 4.0


def test_the_second_says_what_made_it_and_where_it_is(served_both: Both, tmp_path: Path) -> None:
    told = json.loads(output(served_both, COMMANDS[1], tmp_path))

    assert (told["model"], told["seed"], told["seconds_total"]) == ("tiny@1", "1", 4.0)
    assert served_both.http.get(told["audio_url"]).content[:3] == b"ID3"  # credentials go before the stream


def test_the_third_tells_of_each_step(served_both: Both, tmp_path: Path) -> None:
    told = [name for name, _ in events(iter(output(served_both, COMMANDS[2], tmp_path).splitlines()))]

    assert told.count("progress") == 100
    assert told[-1] == "done"
