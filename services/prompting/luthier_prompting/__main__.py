"""`python -m luthier_prompting`: serve until SIGTERM."""

import sys

from luthier.prompting.v1 import prompting_pb2
from luthier_kit.rpc import Service, main
from luthier_kit.store import open_store
from luthier_prompting.composers import Composers
from luthier_prompting.service import PromptingServicer
from luthier_prompting.settings import PromptingSettings


def build(settings: PromptingSettings) -> Service:
    """The service as its settings say."""
    store = open_store(settings)
    servicer = PromptingServicer(store, Composers(settings))
    store.actions.configuration = servicer.configuration.digest
    return Service(
        prompting_pb2.DESCRIPTOR.services_by_name["PromptingService"],
        servicer,
        light=[servicer.CheckPrompt],
        configuration=servicer.configuration,
    )


if __name__ == "__main__":
    sys.exit(main(PromptingSettings, build))
