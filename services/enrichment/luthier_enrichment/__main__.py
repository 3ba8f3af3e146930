"""`python -m luthier_enrichment`: serve until SIGTERM."""

import sys

from luthier.enrichment.v1 import enrichment_pb2
from luthier_enrichment.registry import build_providers
from luthier_enrichment.service import EnrichmentServicer
from luthier_enrichment.settings import EnrichmentSettings
from luthier_kit.rpc import Service, main
from luthier_kit.store import open_store


def build(settings: EnrichmentSettings) -> Service:
    """The service as its settings say."""
    providers = build_providers(settings)
    store = open_store(settings)
    servicer = EnrichmentServicer(store, providers, settings.min_score, settings.max_age_s)
    store.actions.configuration = servicer.configuration.digest
    return Service(
        enrichment_pb2.DESCRIPTOR.services_by_name["EnrichmentService"],
        servicer,
        light=[servicer.ListProviders],
        configuration=servicer.configuration,
    )


if __name__ == "__main__":
    sys.exit(main(EnrichmentSettings, build))
