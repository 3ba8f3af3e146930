"""The report's page. All that comes from files (names, paths, reasons) is untrusted and escaped by the template."""

from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from luthier.pipeline.v1.pipeline_pb2 import SongFailure
from luthier_pipeline.console import clock
from luthier_pipeline.report.figures import Figures

MOST_ROWS: Final = 500
"""Of each table; `--json` has all."""
INSTRUMENTS_SHOWN: Final = 20
"""The others are behind a click."""


def page(found: Figures, failures: list[SongFailure], folder: str) -> str:
    """One HTML file that stands alone, for people on any screen."""
    templates = Environment(
        loader=PackageLoader("luthier_pipeline", "report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    templates.filters["clock"] = clock
    return templates.get_template("report.html").render(
        found=found,
        failures=failures,
        folder=folder,
        most=MOST_ROWS,
        shown=INSTRUMENTS_SHOWN,
        modes=[found.keys[:12], found.keys[12:]],
    )
