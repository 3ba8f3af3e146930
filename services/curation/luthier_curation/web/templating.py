"""Templates. Everything that goes into one is escaped: names, tags and prompts are other people's text."""

from pathlib import Path
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

FOLDER = Path(__file__).parent
ENVIRONMENT = Environment(
    loader=FileSystemLoader(FOLDER / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
    lstrip_blocks=True,
)  # fmt: skip


def fragment(template: str, **values: Any) -> str:
    """A rendered template as text."""
    return ENVIRONMENT.get_template(template).render(**values)


def render(template: str, *, status_code: int = 200, **values: Any) -> HTMLResponse:
    """A rendered template as a response."""
    return HTMLResponse(fragment(template, **values), status_code=status_code)
