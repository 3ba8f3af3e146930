"""What may be said of voices: of renders that there are none, of recordings only what is known."""

from dataclasses import replace

import pytest

from luthier.common.v1 import common_pb2 as common
from luthier_music.captions import check
from luthier_music.clip_facts import Facts, Voice, facts_of
from luthier_music.composing import Grammar, Style

STYLES = tuple(Style)
ROCK = Facts(tempo_bpm=120.0, genres=("rock",))
SAYS = {
    "an instrumental": "An instrumental rock track",
    "no vocals": "A rock track, no vocals",
    "vocals": "A rock track with vocals",
    "a soprano": "A rock track with a soprano",
}
FOUND = {  # by what is known: what is wrong with each caption
    Voice.NONE: {
        "an instrumental": "",
        "no vocals": "",
        "vocals": "CONTRADICTS_FACTS",
        "a soprano": "CONTRADICTS_FACTS",
    },
    Voice.UNKNOWN: dict.fromkeys(SAYS, "NOT_IN_FACTS"),
    Voice.HEARD: {
        "an instrumental": "CONTRADICTS_FACTS",
        "no vocals": "CONTRADICTS_FACTS",
        "vocals": "",
        "a soprano": "NOT_IN_FACTS",
    },
}


@pytest.mark.parametrize("voice", Voice)
@pytest.mark.parametrize("says", SAYS)
def test_a_statement_about_voices_is_held_against_what_is_known(voice: Voice, says: str) -> None:
    found = check(SAYS[says], replace(ROCK, voice=voice), allow_subset=True)
    assert [(one.subject, one.reason) for one in found] == [("vocals", why) for why in [FOUND[voice][says]] if why]


@pytest.mark.parametrize(
    ("presence", "source", "voice"),
    [
        (common.VOICE_PRESENCE_NONE, common.FACT_SOURCE_PERSON, Voice.NONE),
        (common.VOICE_PRESENCE_HEARD, common.FACT_SOURCE_AUDIO, Voice.HEARD),
        (common.VOICE_PRESENCE_NONE, common.FACT_SOURCE_UNSPECIFIED, Voice.UNKNOWN),
        (common.VOICE_PRESENCE_UNSPECIFIED, common.FACT_SOURCE_PERSON, Voice.UNKNOWN),
    ],
)
def test_a_fact_without_a_source_is_unknown(
    presence: common.VoicePresence, source: common.FactSource, voice: Voice
) -> None:
    assert facts_of(common.ClipFacts(voice=common.VoiceFact(presence=presence, source=source)), ()).voice is voice


def test_what_was_rendered_from_notes_has_no_voice() -> None:
    assert facts_of(common.ClipFacts(), ()).voice is Voice.NONE


@pytest.mark.parametrize("voice", Voice)
@pytest.mark.parametrize("style", STYLES)
def test_only_what_nobody_sings_in_is_called_an_instrumental(voice: Voice, style: Style) -> None:
    facts = replace(ROCK, voice=voice)
    drafts = [Grammar().draft(facts, str(seed), style) for seed in range(300)]
    says_so = any("instrumental" in draft.lower() for draft in drafts)
    assert says_so == (voice is Voice.NONE and style in (Style.SENTENCE, Style.SHORT))
    assert not [draft for draft in drafts if check(draft, facts, allow_subset=style.allows_subset)]
