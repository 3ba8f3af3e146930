"""The path provider: what `Artist/Title.mid` itself says. It gives names, a year and who is featured, no tags."""

from typing import ClassVar

from luthier_enrichment.findings import Fact, Finding, State
from luthier_enrichment.names import Name, from_path, score


class PathProvider:
    """Reads names from the path. The score compares them with the names that the caller gave, if any."""

    name: ClassVar[str] = "path"
    licence: ClassVar[str] = "none (names are facts)"
    is_remote: ClassVar[bool] = False
    version = "1"

    def off_because(self) -> str:
        return ""

    def find(self, song: Name, path: str) -> Finding:
        named = from_path(path)
        if not named.name.title:
            return Finding(State.NO_MATCH, "the path names no title")
        if not named.name.artist:
            return Finding(State.NO_MATCH, "the path names no artist", matched=named.name)
        facts = [Fact("year", str(named.year))] if named.year else []
        facts += [Fact("featured", named.featured)] if named.featured else []
        return Finding(State.MATCHED, score=score(song, named.name), matched=named.name, facts=facts)
