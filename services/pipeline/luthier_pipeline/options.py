"""Options that several commands share. Each says its unit and default."""

import getpass
from collections.abc import Callable
from typing import Annotated, Final, Literal

import typer

from luthier.prompting.v1.prompting_pb2 import (
    PROMPT_STYLE_METADATA,
    PROMPT_STYLE_SENTENCE,
    PROMPT_STYLE_SHORT,
    PROMPT_STYLE_TAGS,
    PromptStyle,
)
from luthier_pipeline.console import Context, UsageError
from luthier_pipeline.solo import MONOPHONIC, SUBSETS
from luthier_pipeline.songbook.compose import MAX_SONGS
from luthier_pipeline.variations import MAX_VARIATIONS

DEFAULT_PROMPTS: Final = 3
"""Of prompting, where a request names no number."""
MAX_PROMPTS: Final = 16
SONGBOOK_LICENCE: Final = "Apache-2.0"


def begin(ctx: typer.Context, json: bool) -> Context:
    """The first line of every command: its context, which answers as `--json` says."""
    context: Context = ctx.obj
    context.as_json = json
    return context


def within(value: float, low: float, high: float, unit: str) -> float:
    """Raises BadParameter for a number (nan too) that is not in low..high."""
    if not low <= value <= high:
        raise typer.BadParameter(f"must be between {low:g} and {high:g} {unit}, got {value:g}")
    return value


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "luthier"


USER: Final = _user()
"""Who is logged in."""

Json = Annotated[bool, typer.Option("--json", help="Answer with one line of JSON at the end.")]
Reviewer = Annotated[str, typer.Option("--as", metavar="NAME", help="Who asks.")]


def _within_if_given(low: float, high: float, unit: str) -> Callable[[float | None], float | None]:
    """A typer callback: None where the option was left out, else what `within` lets pass."""
    return lambda value: value if value is None else within(value, low, high, unit)


Collection = Annotated[str, typer.Option(metavar="NAME")]
RequestId = Annotated[str, typer.Option(metavar="ID", help="Default: a digest of the arguments.")]
TempoEstimator = Annotated[
    str, typer.Option(metavar="NAME", help="essentia, deeprhythm or beatnet; default: that of analysis.")
]
Use = Annotated[
    Literal["research", "commercial", "redistribution"] | None,
    typer.Option(
        "--use",
        help="What it is for: refused, naming clips, where a clip's licences forbid it, do not say, or are not known.",
    ),
]
Licence = Annotated[str, typer.Option(metavar="NAME", help="Licence of the songs, recorded in every lineage.")]
Tags = Annotated[str, typer.Option(metavar="FILE", help="Sheet of tags, CSV or JSON; default: FOLDER/tags.csv.")]
RunName = Annotated[str, typer.Option(metavar="ID", help="Name of the run, set by luthier submit.")]
Songbook = Annotated[bool, typer.Option("--songbook", help="Take the songs that the project composes itself.")]
Songs = Annotated[int, typer.Option(metavar="N", min=1, max=MAX_SONGS, help="Songs of the songbook.")]
InFlight = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Songs at a time; default: 2 x cores, 16 for a shard.")
]
Backend = Annotated[str, typer.Option(metavar="NAME", help="soundfont or map; default: the renderer's.")]
HumaniseTimingMs = Annotated[
    float | None,
    typer.Option(
        metavar="MS",
        callback=_within_if_given(0, 20, "milliseconds"),
        help="Move notes at random by up to 0 to 20 ms, within their bars; default: the renderer's, 0 without a map.",
    ),
]
HumaniseVelocity = Annotated[
    float | None,
    typer.Option(
        metavar="STEPS",
        callback=_within_if_given(0, 20, "steps"),
        help="Change velocities at random by up to 0 to 20; default: the renderer's, 0 without a map.",
    ),
]
ClipSeconds = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        callback=_within_if_given(3, 560, "seconds"),
        help="Length of clips aimed for, 3 to 560; default: 30.",
    ),
]
Prompts = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, max=MAX_PROMPTS, help="Prompts of a clip; default: 3, or one of each of more styles."
    ),
]
STYLES: Final = {
    "sentence": PROMPT_STYLE_SENTENCE,
    "short": PROMPT_STYLE_SHORT,
    "tags": PROMPT_STYLE_TAGS,
    "metadata": PROMPT_STYLE_METADATA,
}


def styles_of(names: str) -> list[PromptStyle]:
    """The styles that a list between commas names. Raises BadParameter for one that there is not, and for over 16."""
    found = [name.strip() for name in names.split(",")] if names else []
    if unknown := [name for name in found if name not in STYLES]:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(STYLES)}")
    if len(found) > MAX_PROMPTS:
        raise typer.BadParameter(f"at most {MAX_PROMPTS}, got {len(found)}")
    return [STYLES[name] for name in found]


def prompts_for(styles: list[PromptStyle]) -> int:
    """How many prompts a clip has where nobody says: 0, the service's default, or one of each of more styles."""
    return len(styles) if len(styles) > DEFAULT_PROMPTS else 0


def _known_styles(names: str) -> str:
    styles_of(names)
    return names


Styles = Annotated[
    str,
    typer.Option(
        metavar="NAME,...",
        callback=_known_styles,
        help=f"Styles of a clip's prompts, by turns: {', '.join(STYLES)}; default: sentence.",
    ),
]
NearDuplicates = Annotated[
    Literal["drop", "keep"],
    typer.Option(help="Of near-duplicate songs render the best one, or all of them, which then share a split."),
]
Variations = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=0,
        max=MAX_VARIATIONS,
        help="Variations of each song beside it, 0 to 100: in other keys, 0.8 to 1.25 times as fast, on other "
        "instruments of the same families.",
    ),
]
MixOnly = Annotated[bool, typer.Option("--mix-only", help="Keep no stems.")]


def _subsets(text: str) -> str:
    """A typer callback: names of SUBSETS between commas, each once."""
    names = text.split(",")
    if not set(names) <= set(SUBSETS) or len(set(names)) < len(names):
        raise typer.BadParameter(f"must be {' and '.join(SUBSETS)}, one or both between commas, got {text[:80]!r}")
    return text


def check_subsets(subsets: str, *, mix_only: bool, variations: int) -> tuple[str, ...]:
    """The subsets by name. Raises UsageError for solo clips of songs whose stems are not kept, and for variations where
    solo clips alone are wanted."""
    names = tuple(subsets.split(","))
    if mix_only and MONOPHONIC in names:
        raise UsageError(f"--subsets {MONOPHONIC} cuts solo clips from stems, and --mix-only keeps none: leave one out")
    if variations and names == (MONOPHONIC,):
        why = "cuts solo clips of songs as written"
        raise UsageError(f"--subsets {MONOPHONIC} {why}, and --variations makes others: leave one out")
    return names


Subsets = Annotated[
    str,
    typer.Option(
        metavar="NAMES",
        callback=_subsets,
        help="polyphonic (all parts of a song), monophonic (one part alone, from stems), or both: A,B.",
    ),
]
SoloMinutes = Annotated[
    float | None,
    typer.Option(
        metavar="MINUTES",
        callback=_within_if_given(0.5, 1000, "minutes"),
        help="Solo clips of each instrument, minutes over the whole corpus; default: 10.",
    ),
]
