"""The providers of this server, in the order in which they are asked.

A new one is a file in `providers/`, a line in `build_providers` and a test.
"""

import hashlib
from pathlib import Path

from luthier_enrichment.providers.base import Provider
from luthier_enrichment.providers.file import FileProvider
from luthier_enrichment.providers.lastfm import LastfmProvider
from luthier_enrichment.providers.musicbrainz import MusicbrainzProvider
from luthier_enrichment.providers.path import PathProvider
from luthier_enrichment.providers.spotify import SpotifyProvider
from luthier_enrichment.settings import EnrichmentSettings
from luthier_enrichment.sheet import MAX_BYTES, read
from luthier_kit.rpc import InvalidRequest, SettingsError


def build_providers(settings: EnrichmentSettings) -> dict[str, Provider]:
    """The providers by name. SettingsError when the server's own sheet cannot be read, or the contact not be sent."""
    contact = settings.musicbrainz_contact
    if not (contact.isascii() and contact.isprintable()):
        raise SettingsError("LUTHIER_MUSICBRAINZ_CONTACT must be one line of ASCII: it goes into a header of HTTP")
    providers: list[Provider] = [
        PathProvider(),
        own_sheet(settings.sheet, settings.min_score),
        LastfmProvider(
            settings.lastfm_api_key,
            settings.min_score,
            host=settings.lastfm_host,
            rate_hz=settings.lastfm_rate_hz,
            workers=settings.workers,
        ),
        MusicbrainzProvider(
            contact,
            settings.min_score,
            url=settings.musicbrainz_url,
            rate_hz=settings.musicbrainz_rate_hz,
            workers=settings.workers,
        ),
        SpotifyProvider(
            settings.spotify_enabled,
            settings.spotify_client_id,
            settings.spotify_client_secret,
            settings.min_score,
            api_url=settings.spotify_api_url,
            token_url=settings.spotify_token_url,
            workers=settings.workers,
        ),
    ]
    return {provider.name: provider for provider in providers}


def own_sheet(path: str, min_score: float) -> FileProvider:
    """The file provider over the server's own sheet, read once; off when there is none."""
    if not path:
        return FileProvider(None, "", min_score)
    try:
        if Path(path).stat().st_size > MAX_BYTES:
            raise SettingsError(f"LUTHIER_ENRICHMENT_SHEET must have at most {MAX_BYTES} bytes: {path}")
        data = Path(path).read_bytes()
        return FileProvider(read(data), hashlib.sha256(data).hexdigest(), min_score)
    except (OSError, InvalidRequest) as error:
        raise SettingsError(f"LUTHIER_ENRICHMENT_SHEET cannot be read: {error}") from error
