"""Sizes of images: of each the layers that no other listed image has, and those that it shares."""

import json
import subprocess
from collections import Counter

MB = 1_000_000


def table(builder: str, images: list[str]) -> str:
    """A table of sizes in MB: docker's own, or for buildah one from the images' layers."""
    if builder == "docker":
        return _docker(images)
    layers = {image: _layers(image) for image in images}
    return text(layers)


def text(layers: dict[str, dict[str, int]]) -> str:
    """Total, unique and shared size of each image, and of all together. `layers`: image -> digest -> bytes."""
    users = Counter(digest for own in layers.values() for digest in own)
    rows = [("image", "MB", "unique", "shared")]
    for image, own in layers.items():
        unique = sum(size for digest, size in own.items() if users[digest] == 1)
        total = sum(own.values())
        rows.append((image, _mb(total), _mb(unique), _mb(total - unique)))
    together = {digest: size for own in layers.values() for digest, size in own.items()}
    rows.append(("all together", _mb(sum(together.values())), "", ""))
    width = max(len(row[0]) for row in rows)
    return "\n".join(f"{row[0]:<{width}}" + "".join(f"{cell:>9}" for cell in row[1:]) for row in rows)


def _mb(size: int) -> str:
    return f"{size / MB:.1f}"


def _layers(image: str) -> dict[str, int]:
    """Digest and uncompressed bytes of each layer of a buildah image."""
    manifest = json.loads(_output(["buildah", "inspect", "--type", "image", "--format", "{{.Manifest}}", image]))
    return {layer["digest"]: layer["size"] for layer in manifest["layers"]}


def _docker(images: list[str]) -> str:
    lines = _output(["docker", "system", "df", "--verbose"]).splitlines()
    header = next(line for line in lines if line.startswith("REPOSITORY"))
    names = {tuple(image.rsplit(":", 1)) for image in images}
    return "\n".join([header, *(line for line in lines if tuple(line.split()[:2]) in names)])


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
