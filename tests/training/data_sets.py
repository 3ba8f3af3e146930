"""Data sets of clips of given songs, splits and subsets."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import soundfile

from luthier.common.v1.common_pb2 import ArtifactRef
from luthier_kit.store import Store

from .conftest import tone

Song = tuple[str, str, str]
"""Fingerprint, split and subset ("" = polyphonic) of a clip."""
SMALL: list[Song] = [("a", "train", ""), ("b", "train", ""), ("c", "validation", "")]
LARGE: list[Song] = [
    ("d", "train", ""),
    ("d", "train", "monophonic"),
    ("e", "train", ""),
    ("b", "train", "monophonic"),
    ("f", "validation", ""),
    ("f", "validation", "monophonic"),
]


def put(store: Store, folder: Path, name: str, songs: Sequence[Song], **of_rows: Any) -> ArtifactRef:
    """A stored manifest. Clips of one song and subset are the same file, in whichever data set."""
    rows = []
    for index, (song, split, subset) in enumerate(songs):
        path = folder / f"{song}{subset}.flac"
        hz = 110 * (1 + ord(song) - ord("a")) * (2 if subset else 1)
        soundfile.write(path, tone(1.0, hz), 44100)
        ref = store.blobs.put_file("clips", path, "audio/flac")
        audio = {"key": ref.key, "sha256": ref.sha256, "size_bytes": ref.size_bytes}
        source = {"subset": subset} if subset else {}
        prompt = f"{song} {subset or 'all'} in {name}"
        rows.append(
            {"clip_id": f"{name}{index}", "split": split, "audio": audio, "prompts": [prompt], "song_fingerprint": song,
             "source": source, **of_rows}
        )  # fmt: skip
    document = {"format": "luthier.dataset.v1", "name": name, "licences": [f"licence-of-{name}"], "rows": rows}
    return store.blobs.put_bytes("manifests", json.dumps(document).encode(), "json", "application/json")
