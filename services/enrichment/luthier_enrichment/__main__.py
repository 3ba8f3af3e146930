"""`python -m luthier_enrichment`: serve until SIGTERM."""

import os
import sys

from luthier.enrichment.v1.enrichment_pb2_grpc import add_EnrichmentServiceServicer_to_server
from luthier_enrichment.registry import build as build_providers
from luthier_enrichment.service import EnrichmentServicer
from luthier_enrichment.settings import EnrichmentSettings
from luthier_kit.artifacts import open_artifacts
from luthier_kit.errors import LuthierError
from luthier_kit.server import Service, serve
from luthier_kit.settings import SettingsError, load


def build(settings: EnrichmentSettings) -> Service:
    """The service as its settings say. SettingsError or LuthierError when it cannot work like that."""
    providers = build_providers(settings)
    servicer = EnrichmentServicer(open_artifacts(settings), providers, settings.min_score, settings.max_age_s)
    return Service(
        domain="enrichment",
        name="luthier.enrichment.v1.EnrichmentService",
        register=lambda server: add_EnrichmentServiceServicer_to_server(servicer, server),  # type: ignore[no-untyped-call]
        light={"ListProviders"},
    )


def main() -> None:
    try:
        settings = load(EnrichmentSettings, os.environ)
        service = build(settings)
    except (SettingsError, LuthierError) as error:
        print(f"cannot start: {error}", file=sys.stderr)
        sys.exit(2)
    serve(service, settings)


if __name__ == "__main__":
    main()
