"""The README's Python client, as another project would copy it: with luthier-client alone."""

import re
import subprocess

from tests.conftest import Answer
from tests.system import ROOT, System


def test_the_client_of_the_readme_works_by_copy_and_paste(system: System, judged: Answer, tuned: Answer) -> None:
    system.luthier("promote", "demo", "--model", tuned["model"], "--reason", "README", "--force")
    found = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert found
    program = found[1].replace("127.0.0.1:7107", system.services["inference"].address)
    done = subprocess.run(
        [ROOT / "services/client/.venv/bin/python", "-c", program],
        cwd=system.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4.0 s by demo@")
    assert (system.folder / "jazz.flac").read_bytes()[:3] == b"ID3"  # credentials go before the stream
