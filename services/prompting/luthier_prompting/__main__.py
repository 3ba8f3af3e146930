"""`python -m luthier_prompting`: serve until SIGTERM."""

import os
import sys

from luthier.prompting.v1.prompting_pb2_grpc import add_PromptingServiceServicer_to_server
from luthier_kit.artifacts import open_artifacts
from luthier_kit.errors import LuthierError
from luthier_kit.server import Service, serve
from luthier_kit.settings import SettingsError, load
from luthier_prompting.backends import Composers
from luthier_prompting.service import PromptingServicer
from luthier_prompting.settings import PromptingSettings


def build(settings: PromptingSettings) -> Service:
    """The service as its settings say. SettingsError or LuthierError when it cannot work like that."""
    servicer = PromptingServicer(open_artifacts(settings), Composers(settings))
    return Service(
        domain="prompting",
        name="luthier.prompting.v1.PromptingService",
        register=lambda server: add_PromptingServiceServicer_to_server(servicer, server),  # type: ignore[no-untyped-call]
        light={"CheckPrompt"},
    )


def main() -> None:
    try:
        settings = load(PromptingSettings, os.environ)
        service = build(settings)
    except (SettingsError, LuthierError) as error:
        print(f"cannot start: {error}", file=sys.stderr)
        sys.exit(2)
    serve(service, settings)


if __name__ == "__main__":
    main()
