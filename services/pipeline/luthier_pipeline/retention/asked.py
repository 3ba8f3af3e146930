"""What a takedown is asked for: a file, or all of an artist, a song, a plugin, a SoundFont or a licence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from luthier.pipeline.v1.pipeline_pb2 import (
    TAKEDOWN_KIND_ARTIST,
    TAKEDOWN_KIND_FILE,
    TAKEDOWN_KIND_LICENCE,
    TAKEDOWN_KIND_PLUGIN,
    TAKEDOWN_KIND_SONG,
    TAKEDOWN_KIND_SOUNDFONT,
    TakedownKind,
)
from luthier_kit.rpc import NotFound
from luthier_pipeline.console import UsageError
from luthier_pipeline.lineage import PLUGIN, SOUNDFONT, Ids, LineageIndex

KIND_NAMES: Final[dict[TakedownKind, str]] = {
    TAKEDOWN_KIND_FILE: "file",
    TAKEDOWN_KIND_ARTIST: "artist",
    TAKEDOWN_KIND_SONG: "song",
    TAKEDOWN_KIND_PLUGIN: "plugin",
    TAKEDOWN_KIND_SOUNDFONT: "soundfont",
    TAKEDOWN_KIND_LICENCE: "licence",
}
KNOWN_SHOWN: Final = 20


@dataclass(frozen=True)
class Asked:
    """One kind of thing and its name; of a file its digest, and `told` as it was named."""

    kind: TakedownKind
    name: str
    told: str = ""

    def __str__(self) -> str:
        return f"{KIND_NAMES[self.kind]} {self.told or self.name}"

    def roots(self, index: LineageIndex) -> Ids:
        """The files that it means: of a plugin what it played, of a licence what it binds."""
        if self.kind == TAKEDOWN_KIND_ARTIST:
            return index.by_artist(self.name)
        if self.kind == TAKEDOWN_KIND_SONG:
            return index.by_song(self.name)
        if self.kind == TAKEDOWN_KIND_PLUGIN:
            return index.by_sound(PLUGIN, self.name)
        if self.kind == TAKEDOWN_KIND_SOUNDFONT:
            return index.by_sound(SOUNDFONT, self.name)
        if self.kind == TAKEDOWN_KIND_LICENCE:
            return index.by_licence(self.name)
        return index.numbers([self.name])

    def found(self, index: LineageIndex) -> Ids:
        """As `roots`. NotFound says what there is where there is nothing of that name."""
        roots = self.roots(index)
        if roots.size:
            return roots
        known: Sequence[str] = ()
        if self.kind in {TAKEDOWN_KIND_PLUGIN, TAKEDOWN_KIND_SOUNDFONT}:
            known = index.sounds(PLUGIN if self.kind == TAKEDOWN_KIND_PLUGIN else SOUNDFONT)
        elif self.kind == TAKEDOWN_KIND_LICENCE:
            if index.granted(self.name):
                return roots
            known = index.licences()
        there = (
            f"; there are {', '.join(known[:KNOWN_SHOWN])}{' …' if len(known) > KNOWN_SHOWN else ''}" if known else ""
        )
        raise NotFound(f"the store has no {self}{there}"[:1000], reason="NOTHING_TO_TAKE_DOWN")


def asked_for(file: str, *, artist: str, song: str, plugin: str, soundfont: str, licence: str) -> Asked:
    """What was named, which must be one thing; of a file not its digest yet."""
    named = {
        TAKEDOWN_KIND_FILE: file,
        TAKEDOWN_KIND_ARTIST: artist,
        TAKEDOWN_KIND_SONG: song,
        TAKEDOWN_KIND_PLUGIN: plugin,
        TAKEDOWN_KIND_SOUNDFONT: soundfont,
        TAKEDOWN_KIND_LICENCE: licence,
    }
    given = {kind: name for kind, name in named.items() if name}
    if len(given) != 1:
        text = "name one thing: REF, --artist, --song, --plugin, --soundfont or --licence"
        raise UsageError(f"{text}; got {' and '.join(KIND_NAMES[kind] for kind in given) or 'none'}")
    [(kind, name)] = given.items()
    return Asked(kind, name)
