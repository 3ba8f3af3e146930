"""Suites of one's own: the clips of a data set's split, or a file, YAML or JSON, in the form of the suites that ship:

    name: tempi                        # default: the name of the file
    rows:
      - {prompt: "A rock song with drums at 125 BPM.", seconds_total: 10, seed: 1, tempo_bpm: 125}
      - {prompt: "A calm piano piece in A minor.", key: A minor, genres: [classical], instruments: [piano]}

Every fault of a file is told at once, with its line. `DATASET` before a name makes it that of a data set.
"""

import hashlib
import re
from pathlib import Path
from typing import Final

from luthier.curation.v1.dataset_pb2 import DatasetManifest, DatasetRow
from luthier.evaluation.v1.evaluation_pb2 import Suite, SuiteRow
from luthier_kit.bounded_yaml import Faults, Node, read_yaml
from luthier_kit.rpc import SPLITS, InvalidRequest
from luthier_kit.store import Store
from luthier_music.key_facts import key_fact
from luthier_music.keys import parse_key
from luthier_pipeline.console import UsageError
from luthier_pipeline.training_request import find_dataset

SUFFIXES: Final = (".json", ".yaml", ".yml")
DATASET: Final = "dataset:"
SECONDS: Final = 10.0  # of a row that names no length
MIN_SECONDS, MAX_SECONDS = 0.5, 600.0  # of a row
ROUNDED_BPM: Final = 1.0  # prompts say whole beats a minute
KEY_OF_A: Final = re.compile(r"\bA[ -]?(?:maj|min|m\b)")
"""In lower case it may be an article: "in a minor mood"."""
MAX_GENRES, MAX_INSTRUMENTS = 16, 64  # of a row
MAX_ROWS: Final = 5000
MAX_SEED: Final = 1 << 53  # what a number of YAML holds exactly
PROMPT: Final = re.compile(r"(?=.*\S).{1,2000}", re.DOTALL)
NAME: Final = re.compile(r"(?=.*\S).{1,100}")
WORD: Final = re.compile(r"(?=.*\S)[^A-Z]{1,100}")
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


def dataset_suite(
    store: Store, name: str, split: str, max_rows: int | None = None, seed: int = 0, longest_s: float = MAX_SECONDS
) -> Suite:
    """The clips of a frozen data set's split as rows, each with its audio as reference.

    `name`: NAME or NAME@N. Of a clip's prompts one is drawn, and of more than `max_rows` clips so many, both by `seed`
    alone. Tempo, key, genres and instruments are what the prompt states. Of clips longer than `longest_s` as much is
    asked for. Raises NotFound, UsageError for a split that is none or has no clip.
    """
    if split not in SPLITS:
        raise UsageError(f"--split must be one of {', '.join(SPLITS)}, got {split[:80]!r}")
    ref, version = find_dataset(store, name)
    manifest = store.get(DatasetManifest, ref, reason="MANIFEST_INVALID")
    clips = [row for row in manifest.rows if row.split == split and row.prompts]
    if not clips:
        raise UsageError(f"--split {split}: {version} has no clip there with a prompt")
    most = min(max_rows or MAX_ROWS, MAX_ROWS)
    if len(clips) > most:
        drawn = sorted(clips, key=lambda row: _drawn(seed, row.clip_id))[:most]
        clips = sorted(drawn, key=lambda row: row.clip_id)
    suite = Suite(
        name=f"{version} {split}"[:100],
        description=f"{len(clips)} clips of the {split} split of data set {version}, whose audio is the reference",
    )
    suite.rows.extend(_clip_row(clip, index, seed, longest_s) for index, clip in enumerate(clips))
    return suite


def _clip_row(clip: DatasetRow, index: int, seed: int, longest_s: float) -> SuiteRow:
    prompt = clip.prompts[_drawn(seed, f"{clip.clip_id} prompt") % len(clip.prompts)]
    seconds_total = min(max(clip.facts.duration_s, MIN_SECONDS), longest_s, MAX_SECONDS)
    row = SuiteRow(prompt=prompt, seconds_total=seconds_total, seed=index, reference=clip.audio)
    tempo = clip.facts.tempo
    state(row, tempo.tempo_bpm if tempo.tempo_bpm and not tempo.changes else None)
    return row


def _drawn(seed: int, name: str) -> int:
    """A number that depends on seed and name alone."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "big")


def state(row: SuiteRow, tempo_bpm: float | None = None) -> None:
    """Puts into a row what its prompt states, as the checker of captions reads it: tempo and key where the prompt has
    one alone, genres, instruments. `tempo_bpm`: of the audio, taken where the prompt rounds it.
    """
    from luthier_music.captions.asked import asked_of  # slow to import

    asked = asked_of(row.prompt)
    if len(asked.tempi_bpm) == 1:
        low, high = asked.tempi_bpm[0]
        if low == high and 20 <= low <= 400:
            row.tempo_bpm = tempo_bpm if tempo_bpm is not None and abs(tempo_bpm - low) <= ROUNDED_BPM else low
    if len(asked.keys) == 1 and (asked.keys[0].tonic_name != "A" or KEY_OF_A.search(row.prompt)):
        row.key.CopyFrom(key_fact(asked.keys[0]))
    row.genres.extend(asked.genres[:MAX_GENRES])
    row.instruments.extend(list(dict.fromkeys(words for words, _ in asked.instruments))[:MAX_INSTRUMENTS])


def _row(faults: Faults, node: Node, index: int) -> SuiteRow:
    known = ("prompt", "seconds_total", "seed", "tempo_bpm", "key", "genres", "instruments")
    found = faults.members(node, known, ("prompt",))
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
            stated = parse_key(key.text or "")
        except ValueError:
            faults.add(key, f"must be a tonic and a mode, such as F# minor, got {key}")
        else:
            row.key.CopyFrom(key_fact(stated))
    for name, words, most in (("genres", row.genres, MAX_GENRES), ("instruments", row.instruments, MAX_INSTRUMENTS)):
        if listed := found.get(name):
            nodes = faults.list(listed, "words")
            if len(nodes) > most:
                faults.add(listed, f"must be at most {most} words, got {len(nodes)}")
            words.extend(faults.string(word, WORD, "be 1 to 100 characters in lower case") for word in nodes[:most])
    return row
