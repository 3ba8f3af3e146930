"""A suite of one's own as a file, YAML or JSON, in the form of the suites that ship:

    name: tempi                        # default: the name of the file
    rows:
      - {prompt: "A rock song with drums at 125 BPM.", seconds_total: 10, seed: 1, tempo_bpm: 125}
      - {prompt: "A calm piano piece in A minor.", key: A minor}

Every fault of a file is told at once, with its line.
"""

import re
from pathlib import Path
from typing import Final

from luthier.common.v1.common_pb2 import MODE_MAJOR, MODE_MINOR, KeyFact
from luthier.evaluation.v1.evaluation_pb2 import Suite, SuiteRow
from luthier_kit.bounded_yaml import Faults, Node, read_yaml
from luthier_kit.rpc import InvalidRequest
from luthier_music.keys import parse_key

SUFFIXES: Final = (".json", ".yaml", ".yml")
SECONDS: Final = 10.0  # of a row that names no length
MAX_ROWS: Final = 5000
MAX_SEED: Final = 1 << 53  # what a number of YAML holds exactly
PROMPT: Final = re.compile(r"(?=.*\S).{1,2000}", re.DOTALL)
NAME: Final = re.compile(r"(?=.*\S).{1,100}")
DESCRIPTION: Final = re.compile(r".{0,500}", re.DOTALL)


def is_file(suite: str) -> bool:
    """Whether `suite` names a file rather than a suite that ships."""
    return Path(suite).suffix in SUFFIXES


def read_suite(path: Path) -> Suite:
    """The suite in a file. Raises InvalidRequest SUITE_INVALID with every fault."""
    faults, suite = Faults(), Suite(name=path.stem[:100])
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"the suite {path}: {error.strerror}", reason="SUITE_INVALID") from error
    if root := read_yaml(data, faults):
        found = faults.members(root, ("name", "description", "rows"), ("rows",))
        if name := found.get("name"):
            suite.name = faults.string(name, NAME, "be 1 to 100 characters")
        if description := found.get("description"):
            suite.description = faults.string(description, DESCRIPTION, "be at most 500 characters")
        rows = faults.list(found["rows"], "rows") if "rows" in found else []
        if len(rows) > MAX_ROWS:
            faults.add(found["rows"], f"must be at most {MAX_ROWS} rows, got {len(rows)}")
        suite.rows.extend(_row(faults, node, index) for index, node in enumerate(rows[:MAX_ROWS]))
    if faults.said:
        more = faults.count - len(faults.said)
        told = [f"the suite {path}:", *faults.said, *([f"and {more} more"] if more else [])]
        raise InvalidRequest("\n".join(told), reason="SUITE_INVALID")
    return suite


def _row(faults: Faults, node: Node, index: int) -> SuiteRow:
    found = faults.members(node, ("prompt", "seconds_total", "seed", "tempo_bpm", "key"), ("prompt",))
    row = SuiteRow(seconds_total=SECONDS, seed=index)
    if prompt := found.get("prompt"):
        row.prompt = faults.string(prompt, PROMPT, "be 1 to 2000 characters")
    if seconds := found.get("seconds_total"):
        row.seconds_total = faults.within(seconds, 0.5, 600)
    if seed := found.get("seed"):
        row.seed = faults.whole(seed, 0, MAX_SEED)
    if tempo := found.get("tempo_bpm"):
        row.tempo_bpm = faults.within(tempo, 20, 400)
    if key := found.get("key"):
        try:
            known = parse_key(key.text or "")
        except ValueError:
            faults.add(key, f"must be a tonic and a mode, such as F# minor, got {key}")
        else:
            mode = MODE_MAJOR if known.mode == "major" else MODE_MINOR
            row.key.CopyFrom(KeyFact(tonic=known.tonic_name, mode=mode))
    return row
