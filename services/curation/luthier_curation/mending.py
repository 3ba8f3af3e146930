"""Prompts after a clip's facts or tags were corrected: what the grammar wrote is written anew, what people wrote is
kept, and all of it is held against the facts as they are now.

Sentences of a language model are written anew by the grammar in the same style: curation has no model, and a prompt
that says what is wrong is worse than a plain one. The prompt says who wrote it.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

from luthier.common.v1.common_pb2 import ClipFacts, Disagreement, Prompt, PromptCheck, Tag
from luthier_music.captions import VERSION, check
from luthier_music.captions import Disagreement as Difference
from luthier_music.clip_facts import facts_of
from luthier_music.composing import Checked, Grammar, compose, style_of

COMPOSED: Final = ("grammar", "vllm")
"""Composers whose prompts state the facts that they were given and nothing else."""


def mended(clip_id: str, prompts: Sequence[Prompt], facts: ClipFacts, tags: Sequence[Tag]) -> list[Prompt]:
    """The prompts of a clip, in their order, for facts and tags that are others than before: composed ones anew in
    their own styles, always the same for the same facts; the others as they are, checked.

    Composed ones stay as they are, checked, where nothing is known that a prompt could state.
    """
    known = facts_of(facts, tags)
    composed = [prompt for prompt in prompts if prompt.composer in COMPOSED]
    if not composed or known.is_empty():
        return [checked(prompt, facts, tags) for prompt in prompts]
    styles = [style_of(prompt.composer_version) for prompt in composed]
    seed = int.from_bytes(hashlib.sha256(clip_id.encode()).digest()[:8], "big") >> 11
    new = iter(compose(Grammar(), known, count=len(composed), seed=seed, styles=styles).prompts)
    return [_message(next(new)) if prompt.composer in COMPOSED else checked(prompt, facts, tags) for prompt in prompts]


def checked(prompt: Prompt, facts: ClipFacts, tags: Sequence[Tag]) -> Prompt:
    """The same words, held against the facts: what they say must be true, and they need not say everything."""
    result = Prompt()
    result.CopyFrom(prompt)
    found = check(prompt.text, facts_of(facts, tags), allow_subset=True)
    result.check.CopyFrom(_check(found))
    return result


def _message(prompt: Checked) -> Prompt:
    return Prompt(
        text=prompt.text,
        check=_check(prompt.disagreements),
        composer=prompt.composer,
        composer_version=prompt.composer_version,
    )


def _check(found: Sequence[Difference]) -> PromptCheck:
    return PromptCheck(
        passed=not found,
        checker=VERSION,
        disagreements=[
            Disagreement(subject=one.subject, reason=one.reason, stated=one.stated, expected=one.expected)
            for one in found
        ],
    )
