"""Jobs of the process that signs and reads: c2pa-python is native code, whose crash must not be the service's."""

import ctypes
import functools
from pathlib import Path
from typing import Final

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h."""
_REUSED_BYTES: Final = 32 << 20
"""The most that glibc takes for M_MMAP_THRESHOLD on 64 bits."""

OFFLINE: Final = {"remote_manifest_fetch": False, "ocsp_fetch": False}
"""Of a reader: a file may name an address for its credentials, to which it must not send the service."""
SIGNERS_USES: Final = (
    "1.3.6.1.5.5.7.3.4",  # id-kp-emailProtection
    "1.3.6.1.5.5.7.3.36",  # id-kp-documentSigning (RFC 9336)
    "1.3.6.1.4.1.62558.2.1",  # c2pa-kp-claimSigning
)
"""What a certificate that may sign is for, as the certificate policy of C2PA has it: claim signing, with one of the
others beside it. The library alone refuses certificates of the last two, also those of C2PA's own programme."""
NONE: Final = ""
"""What `read` returns of a file without credentials."""


@functools.cache
def reuse_memory() -> None:
    """Has this process keep what it frees, at most a few times 32 MiB. The library reads a WAV file whole, several
    times; each time the kernel would have to clear new pages, which takes more than half of the CPU time of signing.
    Does nothing where the C library is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_MMAP_THRESHOLD, _REUSED_BYTES)
        mallopt(_TRIM_THRESHOLD, 4 * _REUSED_BYTES)


def sign(
    source: Path, target: Path, media_type: str, statement: str, chain: Path, key: Path, algorithm: str, authority: str
) -> None:
    """Writes `source` with credentials to `target`, which must not exist. RuntimeError where it cannot be signed. A WAV
    file is not copied: `source` is gone then.

    `authority`: address of a time-stamping authority (RFC 3161), empty for none; where it gives no stamp, nothing is
    signed. The library waits 30 s for it.
    """
    import c2pa  # here alone, so that the service never loads it

    from luthier_inference.credentials.wav import add_manifest, holds_a_manifest_more

    reuse_memory()
    info = c2pa.C2paSignerInfo(
        algorithm.encode(), chain.read_bytes(), key.read_bytes(), authority.encode() if authority else None
    )
    try:
        with (
            c2pa.Context.from_dict(_settings()) as context,
            c2pa.Signer.from_info(info) as signer,
            c2pa.Builder(statement, context=context) as builder,
            source.open("r+b") as unsigned,
            target.open("x+b") as signed,
        ):
            if media_type == "audio/wav" and holds_a_manifest_more(unsigned):
                add_manifest(unsigned, builder, signer)
                source.replace(target)
            else:
                unsigned.seek(0)
                builder.sign(signer, media_type, unsigned, signed)
    except c2pa.C2paError as error:
        raise RuntimeError(str(error)) from None


def read(path: Path, media_type: str, anchors: str) -> str:
    """What a reader says of a file's credentials, as JSON; NONE where it holds none. RuntimeError where damaged.

    `anchors`: trusted certificates as PEM, empty for none.
    """
    import c2pa

    try:
        with (
            c2pa.Context.from_dict(_settings(anchors)) as context,
            path.open("rb") as file,
            c2pa.Reader(media_type, file, context=context) as reader,
        ):
            return str(reader.json())
    except c2pa.C2paError as error:
        if isinstance(error, c2pa.C2paError.ManifestNotFound) or str(error).startswith("Remote:"):
            return NONE
        raise RuntimeError(str(error)) from None


def _settings(anchors: str = "") -> dict[str, object]:
    """Of the library, as its JSON has them."""
    uses = {"trust_config": "\n".join(SIGNERS_USES)}
    return {"verify": OFFLINE, "trust": {**uses, "user_anchors": anchors} if anchors else uses}
