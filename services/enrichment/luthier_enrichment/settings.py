"""Settings of the enrichment service. Keys come from the environment or from files, and are never logged."""

from dataclasses import dataclass

from luthier_enrichment.providers import lastfm, musicbrainz, spotify
from luthier_kit.rpc import ServiceSettings, setting
from luthier_kit.store import StoreSettings

DAY_S = 86400.0
MAX_WORKERS = 10
"""With more, a worker's next free moment at MusicBrainz is further away than a song waits for it (20 s, two songs)."""


@dataclass(frozen=True)
class EnrichmentSettings(ServiceSettings, StoreSettings):
    """What every service understands, and the providers."""

    sheet: str = setting(
        "LUTHIER_ENRICHMENT_SHEET", default="", path="file", help="path of a CSV or JSON sheet of tags"
    )
    min_score: float = setting(
        "LUTHIER_ENRICHMENT_MIN_SCORE", default=0.85, low=0.5, high=1.0, help="a match below this is not accepted"
    )
    max_age_s: float = setting(
        "LUTHIER_ENRICHMENT_MAX_AGE_S",
        default=30 * DAY_S,
        low=0,
        high=3650 * DAY_S,
        help="answers of remote providers age",
    )
    workers: int = setting(
        "LUTHIER_ENRICHMENT_WORKERS",
        default=1,
        low=1,
        high=MAX_WORKERS,
        help="workers that ask from the same address; each takes its share of the rates",
    )
    lastfm_api_key: str = setting("LUTHIER_LASTFM_API_KEY", default="", secret=True)
    lastfm_host: str = setting("LUTHIER_LASTFM_HOST", default=lastfm.HOST, help="host[:port], spoken to by HTTPS")
    lastfm_rate_hz: float = setting(
        "LUTHIER_LASTFM_RATE_HZ", default=lastfm.RATE_HZ, low=0.1, high=50, help="calls per second"
    )
    musicbrainz_contact: str = setting(
        "LUTHIER_MUSICBRAINZ_CONTACT", default="", help="your mail or web address; MusicBrainz wants to know who asks"
    )
    musicbrainz_url: str = setting("LUTHIER_MUSICBRAINZ_URL", default=musicbrainz.URL, help="with /ws/2/ at its end")
    musicbrainz_rate_hz: float = setting(
        "LUTHIER_MUSICBRAINZ_RATE_HZ", default=musicbrainz.RATE_HZ, low=0.1, high=50, help="calls per second"
    )
    spotify_enabled: bool = setting("LUTHIER_SPOTIFY_ENABLED", default=False, help=spotify.OFF)
    spotify_client_id: str = setting("LUTHIER_SPOTIFY_CLIENT_ID", default="", secret=True)
    spotify_client_secret: str = setting("LUTHIER_SPOTIFY_CLIENT_SECRET", default="", secret=True)
    spotify_api_url: str = setting("LUTHIER_SPOTIFY_API_URL", default=spotify.API_URL, help="with /v1/ at its end")
    spotify_token_url: str = setting("LUTHIER_SPOTIFY_TOKEN_URL", default=spotify.TOKEN_URL, help="of the login")
