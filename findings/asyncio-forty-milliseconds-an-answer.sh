#!/usr/bin/env bash
# A service binds its port first (to fail early, to give workers one socket, to take a free port) and hands the socket to its web
# server. asyncio switches Nagle's algorithm off for sockets that say TCP (proto 6); one of socket.create_server() says proto 0, as
# do most, and so do those that it accepts. Head and body of an answer are two writes: the second waits for the acknowledgement of
# the first, which the client delays by 40 ms. Most expect the same server on the same port to be as fast, whoever bound it.
# Hurt: pages that play clips and programs that ask for many: each answer takes 40 ms, whatever it is, and no profile shows where.
# Printed (the times vary a little):
#   uvicorn 0.54.0, bound by itself: median 0.2 ms an answer, accepted sockets have TCP_NODELAY
#   uvicorn 0.54.0, socket.create_server: median 44.0 ms an answer, accepted sockets have no TCP_NODELAY
#   uvicorn 0.54.0, the same with TCP_NODELAY: median 0.2 ms an answer, accepted sockets have TCP_NODELAY
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get uvicorn==0.54.0 h11==0.16.0 click==8.5.1
cd "$t" && v/bin/python -W ignore - <<'PY'
import http.client, socket, statistics, threading, time, uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
seen = []
async def app(scope, receive, send):  # a thousand bytes
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
    await send({"type": "http.response.body", "body": bytes(1000)})
class Watched(H11Protocol):
    def connection_made(self, transport):
        super().connection_made(transport)
        seen.append(bool(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
def measured(given=None):
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, http=Watched, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [given] if given else None})
    thread.start()
    while not server.started: time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    client, took = http.client.HTTPConnection("127.0.0.1", port), []
    for _ in range(30):
        began = time.perf_counter()
        client.request("GET", "/")
        client.getresponse().read()
        took.append(1000 * (time.perf_counter() - began))
    client.close(); server.should_exit = True; thread.join()
    return statistics.median(took), seen.pop()
def bound(*, nodelay):
    given = socket.create_server(("127.0.0.1", 0))
    if nodelay: given.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return given
found = {"bound by itself": measured(), "socket.create_server": measured(bound(nodelay=False)), "the same with TCP_NODELAY": measured(bound(nodelay=True))}
for name, (median, nodelay) in found.items():
    print(f"uvicorn {uvicorn.__version__}, {name}: median {median:.1f} ms an answer, accepted sockets have {'' if nodelay else 'no '}TCP_NODELAY")
(own, set_), (given, not_set), (mended, mended_set) = found.values()
assert set_ and mended_set and not not_set and given > 35 > 10 * max(own, mended) / 2
PY
