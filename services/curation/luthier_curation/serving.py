"""Puts the service together: database, store, gRPC service, page."""

import sys
from collections.abc import Callable

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from luthier.curation.v1.curation_pb2_grpc import add_CurationServiceServicer_to_server
from luthier_curation.curation import Curation
from luthier_curation.database import cause, head_revision, is_sqlite, migrate, open_configured, schema_revision
from luthier_curation.repository import Repository
from luthier_curation.service import CurationService
from luthier_curation.settings import AUTOMATIC, CurationSettings
from luthier_curation.web.app import create_app
from luthier_curation.web.server import WebServer
from luthier_kit.artifacts import open_artifacts
from luthier_kit.errors import LuthierError
from luthier_kit.server import Service, serve
from luthier_kit.settings import SettingsError, load

Hook = Callable[[], None] | None
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


def service_of(curation: Curation, prepare: Hook = None, close: Hook = None) -> Service:
    """The gRPC service. Reading and a single edit never wait behind bulk work."""
    return Service(
        domain="curation",
        name="luthier.curation.v1.CurationService",
        register=lambda server: add_CurationServiceServicer_to_server(CurationService(curation), server),  # type: ignore[no-untyped-call]
        light={"ListClips", "UpdateClip"},
        prepare=prepare,
        close=close,
    )


def main() -> None:
    """Serves until SIGTERM. Exits with 2 when it cannot start as it is set."""
    try:
        settings = load(CurationSettings)
        curation = Curation(Repository(open_database(settings)), open_artifacts(settings))
        web = None if settings.web_address == OFF else WebServer(create_app(curation, settings), settings.web_address)
    except (SettingsError, LuthierError) as error:
        print(f"cannot start: {error}", file=sys.stderr)
        sys.exit(2)
    service = service_of(curation, web.start, web.stop) if web else service_of(curation)
    serve(service, settings)
