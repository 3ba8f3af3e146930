"""A registry of images on loopback, and small images in it."""

import hashlib
import io
import json
import subprocess
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path

from tests.support.services import require_tool
from tests.support.stores import free_port

READY_S = 30.0
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@contextmanager
def serving_registry(folder: Path) -> Iterator[str]:
    """A registry of distribution (CNCF) with its data in `folder`: host:port. Skips where the program is missing."""
    program, address = require_tool("registry"), f"127.0.0.1:{free_port()}"
    config = folder / "config.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\nhttp: {{addr: {address}}}\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", config], stdout=log, stderr=log)
    try:
        _wait_ready(f"http://{address}/v2/")
        yield address
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait_ready(url: str) -> None:
    pause = threading.Event()
    for _ in range(int(READY_S / 0.1)):
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.URLError:
            pause.wait(0.1)
    raise AssertionError(f"{url} does not answer")


def push_image(registry: str, name: str, tag: str, content: bytes) -> str:
    """Puts an image of one file into a registry. Its digest, sha256:…"""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("file")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    layer = buffer.getvalue()
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]}}
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
        }
    ).encode()
    base = f"http://{registry}/v2/{name}"
    for blob in (layer, config):
        with _request(f"{base}/blobs/uploads/", "POST", b"") as started:
            where = started.headers["Location"]
        separator = "&" if "?" in where else "?"
        _request(f"{where}{separator}digest={_digest(blob)}", "PUT", blob, "application/octet-stream").close()
    _request(f"{base}/manifests/{tag}", "PUT", manifest, MANIFEST).close()
    return _digest(manifest)


def _request(url: str, method: str, data: bytes, kind: str = "application/octet-stream") -> HTTPResponse:
    request = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": kind})
    response: HTTPResponse = urllib.request.urlopen(request, timeout=30)
    return response


def _descriptor(kind: str, content: bytes) -> dict[str, object]:
    return {"mediaType": kind, "digest": _digest(content), "size": len(content)}


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
