"""Form: a prompt describes. It gives no orders, asks nothing, and there is nothing around it."""

import re

from luthier_music.captions.draft import Draft
from luthier_music.captions.report import INSTRUCTION, NOT_ONLY_THE_PROMPT, QUESTION, TOO_LONG, Report

MAX_CHARS = 2000  # of a prompt, as the contracts say

_VERBS = """add|aim for|arrange|avoid|begin with|blend|bring|build|capture|combine|compose|craft|create|deliver|describe
design|develop|do not|don't|draw|employ|end with|ensure|evoke|experience|explore|feature|finish with|generate|give|have
ignore|imagine|include|incorporate|introduce|keep|layer|let|let's|listen|make|merge|mix|output|perform|picture|play
prepare|produce|provide|record|render|repeat|return|sing|start with|take|tell|think of|try|turn|use|write"""
# "Mix of rock and jazz", "Blend of …", "Play of light" are nouns.
_ORDER = re.compile(
    rf"(?:^|[.!?;:]\s+|\n\s*|\bplease,? )(?:{_VERBS.replace(chr(10), '|')})\b(?! of\b| between\b)", re.I
)
_WISH = re.compile(
    r"\b(?:please|i want|i need|i would like|i'd like|we want|we need|you should|you must|you are|you're|make sure|"
    r"be sure to|should (?:be|have|feel|sound|include)|must (?:be|have|include)|needs? to (?:be|have)|system prompt|"
    r"previous instructions|following instructions)\b",
    re.I,
)
_ASKS = re.compile(
    r"\?|(?:^|[.!]\s+)(?:what|which|who|why|how|where|when|can|could|would|will|do|does|did|is|are|shall) "
    r"(?:you|i|we|it|the|this|that|about)\b",
    re.I,
)
_LABEL = r"(?:music |text )?(?:prompt|caption|description|output|answer|assistant|user|system|title)\s*:"
_TALK = re.compile(
    rf"^\s*(?:sure|certainly|of course|absolutely|okay|ok|here(?:'s| is| are)|the (?:prompt|caption) is|{_LABEL})|"
    # what a language model says of its task; music has no captions
    r"\bcaptions?\b|\battributes?\b|\bper answer\b|\b(?:plain|these|the|your|my) instructions?\b|"
    r"\bas an ai\b|\bi(?:'m| am)\b|\bi (?:can|cannot|can't|have|hope|think)\b|\blet me know\b|\bnote that\b",
    re.I,
)
_MARKUP = re.compile(
    r"\n|```|\*\*|^\s*[#>*-]\s|</?\w+[^>]*>|<\||\[/?inst|https?://|www\.|[{}]|^\s*[\"'].*[\"']\s*$", re.I
)


def check(draft: Draft, report: Report, max_words: int | None) -> None:
    """Reads the form; only the first offence of each kind is reported."""
    words = len(draft.text.split())
    if max_words is not None and words > max_words:
        report.differs("form", TOO_LONG, f"{words} words", f"at most {max_words} words")
    if match := _ORDER.search(draft.text) or _WISH.search(draft.text):
        report.differs("form", INSTRUCTION, match[0])
    if match := _ASKS.search(draft.text):
        report.differs("form", QUESTION, match[0])
    if match := _TALK.search(draft.text) or _MARKUP.search(draft.text):
        report.differs("form", NOT_ONLY_THE_PROMPT, match[0])
    if not re.search(r"[^\W\d_]", draft.text):
        report.differs("form", NOT_ONLY_THE_PROMPT, draft.text[:40])
    if len(draft.text) > MAX_CHARS:
        report.differs("form", NOT_ONLY_THE_PROMPT, f"{len(draft.text)} characters")
