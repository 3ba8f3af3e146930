"""Which services there are, in the order of the data's way, and the first port each one tries.

A service is `services/<name>/.venv/bin/python -m luthier_<name>`; adding one is one line here.
"""

from dataclasses import dataclass

FIRST_PORT = 7101  # gRPC of the first service; the next ones follow
FIRST_METRICS_PORT = 7201
WEB_PORT = 7300
MINIO_PORT = 7400


@dataclass(frozen=True)
class Program:
    """One service: its name, whether it has a web page, whether it runs torch, and which others it calls."""

    name: str
    web: bool = False
    torch: bool = False
    calls: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        return f"luthier_{self.name}"


SERVICES = (
    Program("rendering"),
    Program("analysis"),
    Program("enrichment"),
    Program("prompting"),
    Program("curation", web=True),
    Program("training", torch=True),
    Program("inference", torch=True),
    Program("evaluation", calls=("inference", "analysis")),
)
