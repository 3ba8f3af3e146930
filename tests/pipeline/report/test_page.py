"""The report's page: all that is counted is there, and nothing that files say is taken for markup."""

from dataclasses import replace
from html.parser import HTMLParser

from luthier.pipeline.v1.pipeline_pb2 import CorpusFile, SongFailure
from luthier_pipeline.report.figures import CorpusMusic, Fault, Figures, Group, Member, Skipped, figures
from luthier_pipeline.report.page import INSTRUMENTS_SHOWN, MOST_ROWS, page

from .test_figures import corpus, counted, facts

EVIL = '<script>alert("1")</script>&amp;'


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile() -> tuple[Figures, list[SongFailure]]:
    found = replace(
        counted(facts()),
        groups=[Group(EVIL, [Member(EVIL, "near-duplicate", 0.97, False, "has more parts")])],
        faults=[Fault(EVIL, EVIL, 1, 2)],
        skipped=[Skipped(EVIL, EVIL)],
    )
    return found, [SongFailure(path=EVIL, reason=EVIL, message=EVIL)]


def test_what_files_say_is_text() -> None:
    shown = Page(page(*hostile(), EVIL))
    assert not [tag for tag, _ in shown.tags if tag == "script"]
    assert shown.text.count(EVIL) >= 8


def test_it_stands_alone() -> None:
    shown = Page(page(*hostile(), "mine"))
    assert not [tag for tag, _ in shown.tags if tag in ("link", "img", "iframe", "object")]
    assert not [value for _, attributes in shown.tags for name, value in attributes.items() if name in ("src", "href")]
    assert "http" not in page(*hostile(), "mine")


def test_histograms_are_named_for_who_cannot_see_them() -> None:
    shown = Page(page(counted(facts((0.0, 121.0)), facts((0.0, 95.0))), [], "mine"))
    names = [attributes["aria-label"] for _, attributes in shown.tags if attributes.get("role") == "img"]
    assert names[0] == "Tempo in BPM, songs: 90-100 1, 120-130 1"
    assert len(names) == 4


def test_light_and_dark_and_narrow_screens() -> None:
    text = page(counted(facts()), [], "mine")
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport" content="width=device-width' in text


def test_what_is_counted_is_said() -> None:
    text = " ".join(Page(page(*hostile(), "mine")).text.split())
    for words in ("1 songs, 01:00 of music", "Acoustic Grand Piano", "4/4", "has more parts", "97 %", "no key leads"):
        assert words in text


def test_a_corpus_without_a_song_has_a_page() -> None:
    failed = CorpusFile(path="c", failure=SongFailure(reason="MIDI_EMPTY", message="it has no notes"))
    text = Page(page(figures(corpus(failed), CorpusMusic()), [failed.failure], "mine")).text
    assert "it has no notes" in text


def test_long_tables_end_and_say_so() -> None:
    found, _ = hostile()
    failures = [SongFailure(path=f"{number}.mid") for number in range(MOST_ROWS + 7)]
    text = " ".join(Page(page(found, failures, "mine")).text.split())
    assert "… and 7 more: luthier inspect --json has all." in text
    many = replace(found, instruments=[*found.instruments] * (INSTRUMENTS_SHOWN + 3))
    assert "3 more" in Page(page(many, [], "mine")).text
