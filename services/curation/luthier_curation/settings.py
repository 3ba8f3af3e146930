"""Settings of the curation service."""

from dataclasses import dataclass

from luthier_kit.rpc import WEB_PORTS, ServiceSettings, Settings, setting
from luthier_kit.store import StoreSettings

AUTOMATIC = "auto"


@dataclass(frozen=True)
class DatabaseSettings(Settings):
    """Where the database is."""

    database_url: str = setting(
        "LUTHIER_DATABASE_URL",
        default="sqlite:///.luthier/curation.sqlite3",
        secret=True,
        help="SQLAlchemy URL: sqlite:///path or postgresql+psycopg://user:password@host/name",
    )


@dataclass(frozen=True)
class CurationSettings(DatabaseSettings, ServiceSettings, StoreSettings):
    """What every service understands, the database, and the page's own address."""

    migrate: str = setting(
        "LUTHIER_MIGRATE",
        default=AUTOMATIC,
        choices=("0", "1", AUTOMATIC),
        help="1 = migrate at start, 0 = refuse an old schema, auto = 1 for SQLite and 0 otherwise",
    )
    analysis_address: str = setting(
        "LUTHIER_ANALYSIS_ADDRESS",
        default="",
        help="host:port of analysis, which cuts clips anew for the page and measures their parts; empty = none",
    )
    evaluation_address: str = setting(
        "LUTHIER_EVALUATION_ADDRESS",
        default="",
        help="host:port of evaluation, which embeds sounds and texts for the search by sound; empty = none",
    )
    sound_embedder: str = setting(
        "LUTHIER_SOUND_EMBEDDER",
        default="clap",
        help="evaluation's embedder by which clips are found: clap, for texts, too; musicnn_msd, by other clips only",
    )
    web_address: str = setting(
        "LUTHIER_WEB_ADDRESS", default=f"127.0.0.1:{WEB_PORTS['curation']}", help="host:port of the page; `off` = none"
    )
    web_origins: tuple[str, ...] = setting(
        "LUTHIER_WEB_ORIGINS", default=(), help="origins that the page is reached by behind a proxy, comma-separated"
    )
    web_user_header: str = setting(
        "LUTHIER_WEB_USER_HEADER",
        default="",
        help="header in which the proxy before the page names the person, e.g. X-Forwarded-User; empty = people say it",
    )
    web_tokens: bool = setting(
        "LUTHIER_WEB_TOKENS", default=False, help="true = people show a token of LUTHIER_CALLERS, which names them"
    )
    web_curators: tuple[str, ...] = setting(
        "LUTHIER_WEB_CURATORS", default=(), help="names of curators, comma-separated; empty = everybody is one"
    )
    audio_cache_bytes: int = setting(
        "LUTHIER_AUDIO_CACHE_BYTES",
        default=2 << 30,
        low=1 << 20,
        high=1 << 45,
        help="most bytes of audio that the page keeps on disk below LUTHIER_SCRATCH",
    )
