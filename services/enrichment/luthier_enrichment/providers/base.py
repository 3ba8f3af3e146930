"""What a provider is."""

from typing import ClassVar, Protocol

from luthier_enrichment.findings import Finding
from luthier_enrichment.names import Name


class Provider(Protocol):
    """A source of tags and facts. `version` is in the action record and changes whenever its answers may."""

    name: ClassVar[str]
    licence: ClassVar[str]
    is_remote: ClassVar[bool]
    version: str

    def off_because(self) -> str:
        """Why it cannot be asked, in words for people; empty when it can."""
        ...

    def find(self, song: Name, path: str) -> Finding:
        """Looks a song up. It answers FAILED, never raises, when its source is down for now."""
        ...
