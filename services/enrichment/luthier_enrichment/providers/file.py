"""The file provider: a sheet of tags, the server's own or the request's."""

from typing import ClassVar

from luthier_enrichment.findings import Fact, Finding, State
from luthier_enrichment.names import Name
from luthier_enrichment.sheet import AUDIO_LICENCE, Sheet


class FileProvider:
    """Looks songs up in a sheet. `digest` names the sheet's bytes; None = there is no sheet."""

    name: ClassVar[str] = "file"
    licence: ClassVar[str] = "unstated (the sheet has none)"
    is_remote: ClassVar[bool] = False

    def __init__(self, sheet: Sheet | None, digest: str, min_score: float) -> None:
        self.version = f"1/{digest}" if sheet else "1/none"
        self._sheet = sheet
        self._min_score = min_score

    def off_because(self) -> str:
        return "" if self._sheet else "no sheet: set LUTHIER_ENRICHMENT_SHEET, or send one with the request"

    def find(self, song: Name, path: str) -> Finding:
        if self._sheet is None:
            return Finding(State.OFF, self.off_because())
        name, value, tags = self._sheet.best(song)
        if value < self._min_score:
            return Finding(State.NO_MATCH, f"nothing in the sheet matches with {self._min_score:g}", value, name)
        licence = self._sheet.audio_licence(song)  # of a song that is merely alike it would be another's
        facts = [Fact(AUDIO_LICENCE, licence)] if licence else []
        return Finding(State.MATCHED, score=value, matched=name, tags=tags, facts=facts)
