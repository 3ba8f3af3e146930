"""Audio of people for evaluations: found below a folder by the names that prompts give it, and stored.

FLAC and WAV that analysis reads are stored as they are, at their own sampling rate; everything else (MP3, Ogg, more
than two channels) is decoded by analysis, an action, so that a command that is called again finds it done.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from luthier.analysis.v1.analysis_pb2 import DecodeAudioRequest
from luthier.common.v1.common_pb2 import ArtifactRef
from luthier.evaluation.v1.evaluation_pb2 import AudioItem, AudioSet
from luthier_kit.rpc import InvalidRequest, LuthierError
from luthier_music.audio import AudioError, audio_info
from luthier_pipeline.add_audio import MEDIA_TYPES, audio_files
from luthier_pipeline.clients import Clients, is_fatal
from luthier_pipeline.console import Progress, UsageError
from luthier_pipeline.files import put
from luthier_pipeline.song import DECODE_TIMEOUT_S

FILES_AT_ONCE: Final = 8
MAX_FILES: Final = 50_000  # of an AudioSet
MIN_S, MAX_S = 0.5, 1800.0  # of audio, as analysis takes it
MIN_RATE_HZ, MAX_RATE_HZ = 8000, 192_000
AS_THEY_ARE: Final = (".flac", ".wav")
MAX_NAME_CHARS: Final = 500
EXCERPT: Final = ".2min"
"""What Song Describer puts between a track's id and the suffix."""


@dataclass(frozen=True)
class Sound:
    """Stored audio, and its length in seconds."""

    audio: ArtifactRef
    duration_s: float


class AudioFolder:
    """The audio files of a folder, by the names that prompts may give them. Links to files are followed."""

    def __init__(self, folder: Path, option: str) -> None:
        """Raises UsageError naming `option` where there is no such folder."""
        if not folder.is_dir():
            raise UsageError(f"{option} must be a folder, got {folder}")
        self.folder = folder
        self.files = audio_files(folder)
        self._paths: dict[str, list[Path]] = {}
        self._names: dict[str, list[Path]] = {}
        for file in self.files:
            written = file.relative_to(folder).as_posix()
            for path in {written, written.replace(f"{EXCERPT}.", ".")}:
                whole, bare = path, path[: -len(file.suffix)]
                for key in (whole, bare):
                    self._paths.setdefault(key, []).append(file)
                    self._names.setdefault(key.rpartition("/")[2], []).append(file)

    def find(self, names: Sequence[str]) -> list[Path]:
        """The files that one of the names means, with its folder and suffix, else without suffix, else without folder.
        More than one: nobody can tell."""
        bare = [_without_suffix(name) for name in names]
        for index, wanted in ((self._paths, names), (self._paths, bare), (self._names, names), (self._names, bare)):
            if found := list(dict.fromkeys(file for name in wanted for file in index.get(name, ()))):
                return found
        return []

    def name_of(self, file: Path) -> str:
        """For people."""
        written = file.relative_to(self.folder).as_posix()
        return written.encode(errors="surrogateescape").decode(errors="backslashreplace")[-MAX_NAME_CHARS:]


def _without_suffix(name: str) -> str:
    suffix = Path(name).suffix
    return name[: -len(suffix)] if suffix.lower() in MEDIA_TYPES else name


def unreadable(file: Path) -> str:
    """Why a file cannot be taken, as far as its header says; empty = it can, or analysis says it when it decodes it."""
    try:
        if file.suffix.lower() not in AS_THEY_ARE:
            return "" if file.is_file() else "is no file, or a link to none"
        info = audio_info(file)
    except AudioError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return _too_long_or_short(info.duration_s)


def _too_long_or_short(duration_s: float) -> str:
    if MIN_S <= duration_s <= MAX_S:
        return ""
    return f"must last {MIN_S:g} to {MAX_S:g} s, lasts {duration_s:.2f} s"


def store_sounds(clients: Clients, files: Iterable[Path]) -> tuple[Mapping[Path, Sound], Mapping[Path, str]]:
    """The files in the store, and by file why one cannot be. What is there already is found.

    Raises LuthierError where no file can be stored: the store or analysis stays away, or lets nobody in.
    """
    wanted = list(dict.fromkeys(files))
    sounds, faults = dict[Path, Sound](), dict[Path, str]()

    def look(file: Path) -> Sound | str:
        try:
            return _stored(clients, file)
        except LuthierError as error:
            if is_fatal(error):
                raise
            return "; ".join(bound for _, bound in getattr(error, "violations", ())) or str(error)

    with Progress("stored", len(wanted)) as progress, clients.thread_pool(FILES_AT_ONCE, "sound") as pool:
        for file, found in zip(wanted, pool.map(look, wanted), strict=True):
            if isinstance(found, Sound):
                sounds[file] = found
            else:
                faults[file] = found
            progress.advance()
    return sounds, faults


def _stored(clients: Clients, file: Path) -> Sound:
    if fault := unreadable(file):
        raise InvalidRequest(fault, reason="AUDIO_UNREADABLE")
    original = put(clients.store, "audio", file, MEDIA_TYPES[file.suffix.lower()])
    if file.suffix.lower() in AS_THEY_ARE:
        info = audio_info(file)
        if info.channels <= 2 and MIN_RATE_HZ <= info.sample_rate_hz <= MAX_RATE_HZ:
            return Sound(original, info.duration_s)
    decoded = clients.analysis.DecodeAudio(DecodeAudioRequest(original=original), timeout=DECODE_TIMEOUT_S)
    if fault := _too_long_or_short(decoded.duration_s):
        raise InvalidRequest(fault, reason="AUDIO_UNREADABLE")
    return Sound(decoded.audio, decoded.duration_s)


def put_set(clients: Clients, name: str, items: Iterable[tuple[str, Sound]]) -> ArtifactRef:
    """Stores a set of audio; the same audio under the same names is the same set."""
    listed = [AudioItem(audio=sound.audio, name=title) for title, sound in items]
    return clients.store.put("audio-sets", AudioSet(name=name, items=listed))


def reference_set(clients: Clients, folder: Path, option: str = "--reference") -> ArtifactRef:
    """All audio of a folder as a set that Fréchet distances compare with.

    Raises InvalidRequest AUDIO_UNREADABLE with every file that cannot be taken, UsageError for a folder without audio.
    """
    found = AudioFolder(folder, option)
    if not 0 < len(found.files) <= MAX_FILES:
        raise UsageError(f"{option} {folder} must have 1 to {MAX_FILES} audio files, got {len(found.files)}")
    sounds, faults = store_sounds(clients, found.files)
    if faults:
        violations = [(found.name_of(file), fault) for file, fault in faults.items()]
        told = "\n".join(f"{name}: {fault}" for name, fault in violations[:20])
        raise InvalidRequest(f"{option} {folder}:\n{told}", reason="AUDIO_UNREADABLE", violations=violations)
    return put_set(clients, set_name(folder), ((found.name_of(file), sounds[file]) for file in found.files))


def set_name(folder: Path) -> str:
    """What a set is called by default: its folder."""
    name = "".join(char if char.isprintable() else " " for char in folder.resolve().name).strip()
    return name[:100] or "audio"
