"""What lies beside a recording: captions in `song.txt`, captions, tags and names in `song.json`. Untrusted text.

The keys are those that tools of the field write: `caption` (MusicCaps, LP-MusicCaps, Song Describer), `prompt`
(stable-audio-tools), `description`, `keywords`, `genre`, `moods`, `title`, `artist` (AudioCraft's music data sets).
Tempo and key of such a file are claims about a song: those of a clip are measured, so they are not read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from luthier.common.v1.common_pb2 import Tag
from luthier_kit.bounded_json import read_json
from luthier_pipeline.song import MAX_NAME_CHARS

MAX_CAPTIONS: Final = 8
MAX_CAPTION_CHARS: Final = 2000  # as Prompt says
MAX_TAGS: Final = 100
MAX_TAG_CHARS: Final = 64
MAX_LICENCE_CHARS: Final = 200
MAX_FILE_BYTES: Final = 1 << 18
MAX_JSON_VALUES: Final = 10_000
CAPTION_KEYS: Final = ("caption", "captions", "prompt", "prompts", "description", "text")
TAG_KEYS: Final = {
    "genre": "genre", "genres": "genre", "mood": "mood", "moods": "mood", "tags": "", "keywords": "",
}  # fmt: skip
"""Kind of the tags by key."""
LICENCE_KEYS: Final = ("licence", "license")
SOURCE: Final = "caption-file"


@dataclass(frozen=True)
class Beside:
    """What the files beside a recording say; empty = nothing. `notes` say what could not be read and why."""

    captions: tuple[str, ...] = ()
    tags: tuple[Tag, ...] = ()
    artist: str = ""
    title: str = ""
    licence: str = ""
    notes: tuple[str, ...] = ()


def beside(path: Path) -> Beside:
    """What lies beside a recording under its name."""
    captions, notes, said = list[str](), list[str](), dict[str, Any]()
    for other in (path.with_suffix(".txt"), path.with_suffix(".json")):
        try:
            if not other.is_file():
                continue
            data = _read(other)
            if other.suffix == ".txt":
                captions += data.decode("utf-8-sig").splitlines()
            elif isinstance(document := read_json(data, max_bytes=MAX_FILE_BYTES, max_values=MAX_JSON_VALUES), dict):
                said = document
            else:
                notes.append(f"{other.name} was not read: it must hold one object")
        except OSError as error:
            notes.append(f"{other.name} was not read: {error.strerror}")
        except ValueError as error:  # no UTF-8, no JSON, too large
            notes.append(f"{other.name} was not read: {str(error)[:200]}")
    captions += [text for key in CAPTION_KEYS for text in _texts(said.get(key))]
    kept = list(dict.fromkeys(filter(None, (tidy(text, MAX_CAPTION_CHARS) for text in captions))))
    if len(kept) > MAX_CAPTIONS:
        notes.append(f"{len(kept) - MAX_CAPTIONS} of {len(kept)} captions left out: at most {MAX_CAPTIONS} are read")
    return Beside(
        captions=tuple(kept[:MAX_CAPTIONS]),
        tags=tuple(_tags(said))[:MAX_TAGS],
        artist=_first(said, ("artist",), MAX_NAME_CHARS),
        title=_first(said, ("title", "name"), MAX_NAME_CHARS),
        licence=_first(said, LICENCE_KEYS, MAX_LICENCE_CHARS),
        notes=tuple(notes),
    )


def tidy(text: str, max_chars: int) -> str:
    """Untrusted text as one line: nothing that does not print, single blanks, at most so long."""
    visible = "".join(char if char.isprintable() else " " for char in text[: 4 * max_chars])
    return " ".join(visible.split())[:max_chars].rstrip()


def tag(text: str, kind: str, source: str) -> Tag | None:
    """A tag of the song, as enrichment takes it; None when nothing of it can be shown."""
    tidied = tidy(text, MAX_TAG_CHARS)
    return Tag(text=tidied, kind=kind, weight=1.0, source=source) if tidied else None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"it must have at most {MAX_FILE_BYTES} bytes")
    return data


def _tags(said: dict[str, Any]) -> Iterator[Tag]:
    for key, kind in TAG_KEYS.items():
        for text in _texts(said.get(key)):
            yield from (found for part in text.split(",") if (found := tag(part, kind, SOURCE)))


def _texts(value: Any) -> list[str]:
    """A text, or the texts of a list; nothing else counts."""
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str)]


def _first(said: dict[str, Any], keys: tuple[str, ...], max_chars: int) -> str:
    texts = (tidy(text, max_chars) for key in keys for text in _texts(said.get(key)))
    return next(filter(None, texts), "")
