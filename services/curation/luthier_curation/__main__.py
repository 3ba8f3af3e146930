"""`python -m luthier_curation`: the service and its page, until SIGTERM."""

import sys
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from luthier.curation.v1 import curation_pb2
from luthier_curation.curation import Curation
from luthier_curation.cutting import Cutter
from luthier_curation.database import (
    Repository,
    cause,
    head_revision,
    is_sqlite,
    migrate,
    open_configured,
    schema_revision,
)
from luthier_curation.embedding import Embedder
from luthier_curation.listening import Listening
from luthier_curation.service import CurationService
from luthier_curation.settings import AUTOMATIC, CurationSettings
from luthier_curation.web.server import create_app
from luthier_kit.rpc import Service, SettingsError, main
from luthier_kit.store import open_store
from luthier_kit.web import WebServer

OFF = "off"


def open_database(settings: CurationSettings) -> Engine:
    """The engine of the configured database with its schema as this version needs it. SettingsError otherwise."""
    engine = open_configured(settings.database_url)
    try:
        wanted = is_sqlite(settings.database_url) if settings.migrate == AUTOMATIC else settings.migrate == "1"
        if wanted:
            migrate(engine)
        found = schema_revision(engine)
    except (SQLAlchemyError, OSError) as error:
        raise SettingsError(f"LUTHIER_DATABASE_URL: the database cannot be used: {cause(error)}") from error
    if found != head_revision():
        text = f"the database schema is at {found or 'nothing'}, this version needs {head_revision()}"
        raise SettingsError(f"{text}: run python -m luthier_curation.migrate, or start once with LUTHIER_MIGRATE=1")
    return engine


def service_of(curation: Curation, web: WebServer | None = None, scratch: Path | None = None) -> Service:
    """The gRPC service, and the page beside it. Reading and a single edit never wait behind bulk work. Audio is decoded
    below `scratch`; None = the system's folder for temporary files."""
    servicer = CurationService(curation, Listening(curation.repository, curation.store, scratch))

    def prepare() -> None:
        curation.batches.start()
        curation.embedding.start()
        if web:
            web.start()

    def close() -> None:
        if web:
            web.stop()
        curation.batches.stop()
        curation.embedding.stop()
        curation.cutter.close()

    return Service(
        curation_pb2.DESCRIPTOR.services_by_name["CurationService"],
        servicer,
        light=[
            servicer.ListClips,
            servicer.UpdateClip,
            servicer.GetClipStamps,
            servicer.GetBatch,
            servicer.SkipClips,
            servicer.SearchClips,
            servicer.EmbedClips,
            servicer.ListCollections,
            servicer.UpdateCollection,
            servicer.GetListeningTest,
            servicer.ListListeningTests,
        ],
        prepare=prepare,
        close=close,
    )


def build(settings: CurationSettings) -> Service:
    """The service as its settings say."""
    cutter, embedder = Cutter(settings.analysis_address), Embedder(settings.evaluation_address, settings.sound_embedder)
    curation = Curation(Repository(open_database(settings)), open_store(settings), cutter, embedder)
    web = None if settings.web_address == OFF else WebServer(create_app(curation, settings), settings.web_address)
    return service_of(curation, web, settings.scratch)


if __name__ == "__main__":
    sys.exit(main(CurationSettings, build))
