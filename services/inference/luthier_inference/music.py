"""Music that a request asks for in typed fields: checked, and turned into the prompt and the length that take effect.

    music + prompt ─ no contradiction ─ prompt completed by the grammar of the data's captions ─ names the audio
    bars, meter, tempo ─ seconds_total, exact to the sample

Nothing else of a generation knows of it: the completed prompt asked for alone is the same audio.
"""

import re
from typing import Final

from luthier.inference.v1 import inference_pb2 as pb
from luthier_kit.rpc import MAX_PROMPT_CHARS, Checks
from luthier_music.captions.instruments import instrument_of
from luthier_music.captions.tempo import HIGHEST_BPM, LOWEST_BPM
from luthier_music.captions.wanted import Wanted, completed_prompt, contradictions
from luthier_music.clip_facts import MAX_REQUIRED_INSTRUMENTS
from luthier_music.keys import Key, parse_key
from luthier_music.meter import bars_s

MAX_BARS: Final = 1000
MAX_WORDS_CHARS: Final = 64  # of an instrument
_METER: Final = re.compile(r"([1-9]|[12][0-9]|3[0-2])/(1|2|4|8|16|32)")


def wanted_of(checks: Checks, request: pb.GenerateRequest, min_s: float, window_s: float) -> Wanted:
    """What the request's `music` asks for. What is wrong with it goes into `checks`, and counts as not asked for.

    `min_s`, `window_s`: the shortest and the longest audio, seconds.
    """
    fields = request.music
    tempo_bpm = fields.tempo_bpm if fields.HasField("tempo_bpm") else None
    if tempo_bpm is not None and not checks.within("music.tempo_bpm", tempo_bpm, LOWEST_BPM, HIGHEST_BPM):
        tempo_bpm = None
    meter = _meter(checks, fields.meter)
    instruments = [
        words
        for field, words in checks.items("music.instruments", fields.instruments, 0, MAX_REQUIRED_INSTRUMENTS)
        if _is_instrument(checks, field, words)
    ]
    named = fields.HasField("tempo_bpm") or fields.key or fields.meter or fields.instruments
    checks.that(bool(named), "music", "must ask for tempo, key, meter or instruments")
    bars = _bars(checks, request)
    duration_s = bars_s(bars, *meter, tempo_bpm) if bars and meter and tempo_bpm else None
    if bars and duration_s:
        most = int(window_s * bars / duration_s)
        checks.that(
            min_s <= duration_s <= window_s,
            "music.bars",
            f"must last between {min_s:g} and {window_s:g} s, which is at most {most} bars of "
            f"{duration_s / bars:.4g} s; got {bars}, which last {duration_s:.4g} s",
        )
    return Wanted(tempo_bpm, _key(checks, fields.key), meter, bars, duration_s, tuple(instruments))


def prompt_of(checks: Checks, prompt: str, wanted: Wanted | None, *, quotes: bool = True) -> str:
    """The prompt, completed by what is wanted. One that is empty, too long, or says something else goes into `checks`;
    None: it is taken as it is.
    """
    fits = checks.text("prompt", prompt, max_chars=MAX_PROMPT_CHARS, blank=wanted is not None)
    if wanted is None or not fits:
        return prompt
    for one in contradictions(prompt, wanted):
        stated = repr(one.stated) if quotes else "something else"
        checks.that(False, "prompt", f"says {stated}, and music.{one.field} asks for {one.asked}")
    made = completed_prompt(prompt, wanted)
    more = f"must have at most {MAX_PROMPT_CHARS} characters with what music adds, which makes it {len(made)}"
    checks.that(len(made) <= MAX_PROMPT_CHARS, "prompt", more)
    return made


def music_message(wanted: Wanted) -> pb.MusicFields:
    """What took effect, as a message."""
    return pb.MusicFields(
        tempo_bpm=wanted.tempo_bpm,
        key=str(wanted.key or ""),
        meter="{}/{}".format(*wanted.meter) if wanted.meter else "",
        bars=wanted.bars,
        instruments=wanted.instruments,
    )


def _bars(checks: Checks, request: pb.GenerateRequest) -> int | None:
    """How many are asked for; None = none, or no right number, or how long one is cannot be known."""
    fields = request.music
    if not fields.HasField("bars"):
        return None
    needs = "needs music.tempo_bpm and music.meter, which say how long a bar is"
    right = [
        checks.within("music.bars", fields.bars, 1, MAX_BARS),
        checks.that(fields.HasField("tempo_bpm") and bool(fields.meter), "music.bars", needs),
        checks.that(
            not request.HasField("seconds_total"), "seconds_total", "must be absent with music.bars: it is the length"
        ),
    ]
    return fields.bars if all(right) else None


def _key(checks: Checks, text: str) -> Key | None:
    if not text:
        return None
    try:
        return parse_key(text)
    except ValueError:
        bound = f"must be a tonic and major or minor, such as 'F# minor' or 'Bb major', got {text[:40]!r}"
        checks.that(False, "music.key", bound)
        return None


def _meter(checks: Checks, text: str) -> tuple[int, int] | None:
    match = _METER.fullmatch(text)
    if text and not match:
        checks.that(
            False, "music.meter", f"must be 1 to 32 over 1, 2, 4, 8, 16 or 32, such as '3/4', got {text[:40]!r}"
        )
    return (int(match[1]), int(match[2])) if match else None


def _is_instrument(checks: Checks, field: str, words: str) -> bool:
    if not checks.text(field, words, max_chars=MAX_WORDS_CHARS, blank=False):
        return False
    known = bool(instrument_of(words))
    return checks.that(
        known,
        field,
        "must be an instrument of General MIDI as captions of the data name it, such as 'piano', 'nylon-string "
        f"guitar' or 'drums', got {words!r}",
    )
