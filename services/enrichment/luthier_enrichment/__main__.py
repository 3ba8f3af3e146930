"""`python -m luthier_enrichment`: main until SIGTERM."""

from luthier_kit.rpc import LuthierError, Service, SettingsError, load, main
from luthier_kit.store import open_store
import os
import sys

from luthier.enrichment.v1.enrichment_pb2_grpc import add_EnrichmentServiceServicer_to_server
from luthier_enrichment.registry import build as build_providers
from luthier_enrichment.service import EnrichmentServicer
from luthier_enrichment.settings import EnrichmentSettings


def build(settings: EnrichmentSettings) -> Service:
    """The service as its settings say. SettingsError or LuthierError when it cannot work like that."""
    providers = build_providers(settings)
    servicer = EnrichmentServicer(open_store(settings), providers, settings.min_score, settings.max_age_s)
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
    main(service, settings)


if __name__ == "__main__":
    main()
