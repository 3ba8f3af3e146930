"""HTTP beside gRPC, for services that declare `luthier-kit[web]`: a server in threads of the service's process, what it
refuses, and errors as HTTP says them. ASGI applications run on it, whatever made them.

`WebServer` runs an application, its connections bounded. `Safety` refuses what must not reach it, and sets the headers
of every answer. `http_status` and `retry_after` say an error of the platform.
"""

from luthier_kit.web._connections import MAX_CONNECTIONS
from luthier_kit.web._safety import PAGE_HEADER, Refuse, Safety
from luthier_kit.web._server import WebServer
from luthier_kit.web._status import http_status, retry_after

__all__ = [
    "MAX_CONNECTIONS",
    "PAGE_HEADER",
    "Refuse",
    "Safety",
    "WebServer",
    "http_status",
    "retry_after",
]
