"""The page as an ASGI application."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.middleware.gzip import GZipMiddleware

from luthier_curation.curation import Curation
from luthier_curation.listening import Listening
from luthier_curation.settings import CurationSettings
from luthier_curation.web import api, embed, errors, listening, media, pages
from luthier_curation.web.audio import AudioCache
from luthier_curation.web.identity import Identities
from luthier_kit.web import Safety

MAX_BODY_BYTES = 1 << 20
MIN_COMPRESSED_BYTES = 1000
STATIC = Path(__file__).parent / "static"


def create_app(curation: Curation, settings: CurationSettings) -> FastAPI:
    """The application over this curation. Copies of audio live below the settings' scratch folder."""
    app = FastAPI(title="Luthier curation", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(GZipMiddleware, minimum_size=MIN_COMPRESSED_BYTES)  # leaves audio, pictures and archives alone
    app.add_middleware(
        Safety, refuse=errors.answer, origins=settings.web_origins, max_body_bytes=MAX_BODY_BYTES, from_pages=True
    )
    errors.install(app)
    identities = Identities(settings)
    cache = AudioCache(curation.store, settings.scratch / "luthier-audio", settings.audio_cache_bytes)
    app.include_router(pages.routes(curation, identities.way))
    app.include_router(api.routes(curation, identities))
    app.include_router(embed.routes(curation, identities))
    app.include_router(media.routes(curation, cache, settings.scratch))
    tests = Listening(curation.repository, curation.store, settings.scratch)
    app.include_router(listening.routes(tests, cache))
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app
