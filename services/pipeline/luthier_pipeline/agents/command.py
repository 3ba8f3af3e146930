"""mcp: lets agents generate, look models and clips up, and verify files."""

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from luthier_kit.rpc import Credentials
from luthier_pipeline.console import Context, UsageError
from luthier_pipeline.options import Json, begin

if TYPE_CHECKING:
    from mcp.server import MCPServer

MAX_INLINE_KIB: Final = 4096
NEEDED: Final = "luthier mcp needs the package mcp: install luthier-pipeline[mcp]"


def mcp(
    ctx: typer.Context,
    folder: Annotated[
        Path, typer.Option(metavar="FOLDER", file_okay=False, help="Where generated audio goes; it is made.")
    ] = Path("generated"),
    read: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER", exists=True, file_okay=False, help="Files below it may be verified, too; repeatable."
        ),
    ] = None,
    inline_kib: Annotated[
        int,
        typer.Option(metavar="KIB", min=0, max=MAX_INLINE_KIB, help="Audio up to this length is also in the answer."),
    ] = 256,
    patience: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long a service that is away or full is asked again.")
    ] = 120.0,
    http: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Serve streamable HTTP there, on loopback, in place of stdio.")
    ] = "",
    json: Json = False,
) -> None:
    """Serve agents by the Model Context Protocol, over standard input and output.

    Calls are made with this process's token (LUTHIER_TOKEN_FILE, LUTHIER_TOKEN): permissions and quotas are that
    caller's.
    """
    context = begin(ctx, json)
    try:
        from luthier_pipeline.agents.tools import Tools
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("mcp", "mcp_types"):
            raise
        raise UsageError(NEEDED) from None
    address = _loopback(http) if http else None
    Credentials()  # a wrong token or certificate is said at the start
    folder.mkdir(parents=True, exist_ok=True)
    server = Tools(context.clients, folder.resolve(), tuple(read or ()), inline_kib << 10, patience).server()
    if address is None:
        server.run("stdio")
    else:
        _serve_http(server, *address, context)


def _loopback(address: str) -> tuple[str, int]:
    """Host and port; UsageError for another machine's: nobody is asked for a name there."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        if not (host == "localhost" or ipaddress.ip_address(host).is_loopback):
            raise UsageError(f"--http {address} must be on loopback: who reaches it calls with this process's token")
        return host, int(port)
    except ValueError:
        raise UsageError(f"--http {address} must be HOST:PORT, such as 127.0.0.1:7400") from None


def _serve_http(server: "MCPServer", host: str, port: int, context: Context) -> None:
    """Streamable HTTP at `/mcp`, until the process is ended. Answers with its address; port 0 takes a free one."""
    import asyncio
    import socket

    import uvicorn

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        bound = socket.create_server((host, port), family=family)
    except OSError as error:
        raise UsageError(f"--http {host}:{port} cannot be bound: {error.strerror}") from None
    app = server.streamable_http_app(host=host)  # refuses other names in Host and Origin: pages cannot reach it
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{bound.getsockname()[1]}/mcp"
    context.answer({"url": url}, f"serving agents at {url}")
    asyncio.run(uvicorn.Server(uvicorn.Config(app, log_level="warning")).serve(sockets=[bound]))
