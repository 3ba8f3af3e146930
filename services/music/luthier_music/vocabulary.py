"""The vocabulary of tags: what a word about music is (genre, mood, era, instrument), and which words are dropped.

Tags come from people and are untrusted text: `clean` and `normalise` bound and clean them before anything else
reads them. Canonical words are lower case with spaces. Aliases are written without hyphens: `normalise` has
turned those into spaces before a word is looked up. The genres here are the project's own; `genres.txt` beside this
file has some 940 more and adds spellings to these, but never changes them.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

MAX_TAG_CHARS: Final = 64
KINDS: Final = ("genre", "mood", "era", "instrument", "other")

_GENRES: Final = """
rock: rock music, rock and roll, rock n roll, rock 'n' roll, rock'n'roll
alternative rock < rock: alternative, alt rock
indie rock < rock | hard rock < rock | punk < rock: punk rock | pop punk < punk | post rock < rock: postrock
progressive rock < rock: prog rock, prog | psychedelic rock < rock: psych rock | garage rock < rock | grunge < rock
surf rock < rock: surf | folk rock < rock, folk | soft rock < rock | blues rock < rock, blues | classic rock < rock
metal: heavy metal | death metal < metal | black metal < metal | thrash metal < metal: thrash | doom metal < metal
progressive metal < metal: prog metal | power metal < metal | industrial metal < metal, industrial
pop: pop music | indie pop < pop: indiepop | synth pop < pop, electronic: synthpop, electropop
dream pop < pop | city pop < pop | power pop < pop | k pop < pop: kpop | j pop < pop: jpop | indie
jazz: jazzy, jazz music | swing < jazz: swing jazz | bebop < jazz: bop | smooth jazz < jazz | cool jazz < jazz
jazz fusion < jazz: fusion | acid jazz < jazz | latin jazz < jazz, latin | big band < jazz | dixieland < jazz
ragtime < jazz | blues: bluesy, rhythm and blues music | delta blues < blues | boogie woogie < blues: boogie
soul | neo soul < soul | motown < soul | r&b: rnb, r and b, r'n'b, rhythm and blues | funk: funky | disco
gospel | reggae | dub < reggae | ska: ska punk | dancehall < reggae | reggaeton < latin
hip hop: hiphop, rap, hip hop music | trap < hip hop | boom bap < hip hop
lo fi < : lofi, lo fi hip hop, lofi hip hop
instrumental hip hop < hip hop | trip hop < electronic: triphop
electronic: electronica, electro music, electronic music | house < electronic: house music | deep house < house
tech house < house | progressive house < house | acid house < house | techno < electronic | trance < electronic
psytrance < trance: psychedelic trance, goa | edm < electronic: electronic dance music | electro < electronic
dubstep < electronic | drum and bass < electronic: drum n bass, dnb, d&b, drum & bass, drum'n'bass
jungle < drum and bass | breakbeat < electronic: breaks | idm < electronic | synthwave < electronic: retrowave, outrun
vaporwave < electronic | chiptune < electronic: 8 bit, 8bit, chip tune, chip music, chiptunes
downtempo < electronic | garage < electronic: uk garage | hardstyle < electronic | eurodance < electronic
industrial | ambient: ambient music | dark ambient < ambient | drone < ambient | new age | chillout < : chill out
lounge | easy listening | country: country music | bluegrass < country | americana < country, folk
folk: folky, folk music | celtic < folk | world: world music | flamenco < latin | latin: latin music
bossa nova < latin: bossanova, bossa | samba < latin | salsa < latin | tango < latin | mambo < latin | cumbia < latin
rumba < latin | mariachi < latin | merengue < latin | bachata < latin | afrobeat < world | calypso < world
klezmer < folk | polka < folk | waltz | march: marching band
classical: classical music | baroque < classical | romantic era < classical | renaissance < classical
impressionist < classical | minimalism < classical: minimalist
contemporary classical < classical
orchestral: orchestra, symphonic | chamber music < classical | opera < classical
soundtrack: film score, film music, movie score, ost | video game music < soundtrack: game music, vgm
musical: musical theatre, show tunes | experimental | avant garde: avantgarde | noise | math rock < rock
shoegaze < rock: shoe gaze | new wave < pop, rock | post punk < punk: postpunk | emo < punk | hardcore < punk
christmas: xmas | children's music: kids
"""

_MOODS: Final = """
energetic: high energy, energizing, energising | driving | powerful: power
 aggressive: angry, fierce | intense
heavy | epic | heroic | triumphant: victorious | anthemic | majestic: grand, regal, stately | dramatic | cinematic
tense: suspenseful, tension | dark: darkness
ominous: sinister, menacing, threatening | eerie: spooky, creepy, haunting
mysterious: mystery | gloomy: bleak, somber, sombre
melancholic: melancholy, melancholia, wistful
sad: sorrowful, mournful
nostalgic: nostalgia | bittersweet | emotional: heartfelt, moving, touching | romantic: romance
sensual: sexy, seductive
passionate | tender: intimate | gentle: soft, delicate | warm | mellow | calm: calming, tranquil, serene, placid
peaceful: peace | relaxed: relaxing, relax, laid back, laidback, easygoing, chilled, chill, mellowed | soothing
meditative: meditation, contemplative, reflective, pensive, introspective | dreamy: dreamlike, ethereal, otherworldly
atmospheric: atmosphere | spacious: expansive, airy | hypnotic: trancelike, mesmerizing, mesmerising
floating: drifting | happy: cheerful, joyful, joyous, merry, jolly | upbeat: feel good, feelgood
uplifting: inspiring
optimistic: hopeful | bright: sparkling, shimmering | sunny: summery, summer
playful: whimsical, quirky, humorous, funny
catchy: infectious | fun: party | danceable: dance, dancing, dancy | groovy: groove | soulful | smooth: silky
elegant: graceful, sophisticated | gritty: raw, rough | frantic: frenetic, chaotic, hectic | exciting: thrilling
adventurous: adventure | rebellious | confident | sentimental | lonely: lonesome, desolate | cold: icy, frosty
lush: rich | sparse: minimal, stripped down | solemn: reverent, sacred, spiritual
martial: militaristic
futuristic: sci fi, space, spacey | psychedelic: trippy, psych | retro: vintage, old school, oldschool
exotic: tropical | rustic: pastoral | lively: vibrant, spirited, bouncy, jaunty | swinging | moody: brooding
"""

_NOISE_TAGS: Final = """
seen live, favorites, favourites, favorite, favourite, favorite songs, favourite songs, my music, awesome, love,
loved, love it, best, cool, good, great, beautiful, amazing, under 2000 listeners, spotify, check out, all, music,
songs, song, track, tracks, album, albums i own, own it, owned, on cd, vinyl, mp3, midi, unknown, various,
various artists, misc, other, test, todo, wishlist, guilty pleasures, 5 stars
"""
_NOISE: Final = frozenset(re.split(r",\s*", _NOISE_TAGS.strip()))

_VOCAL: Final = re.compile(
    r"\b(vocals?|vocalists?|vocali[sz]ation|vox|voices?|voiced|sing(?:s|ing|ers?)?|sung|lyric(?:s|al|ist)?|"
    r"a ?cap+el+a|choirs?|choral|rap(?:per|pers|ping)?|mcs?|spoken(?: word)?|beatbox(?:ing)?|scat|falsetto|"
    r"scream(?:s|ing|o)?|growl(?:s|ing)?|yodel(?:ing|ling)?|karaoke|duets?|baritone vocals?|opera|speech|"
    r"girl groups?|boy bands?|frontm[ae]n|frontwom[ae]n|fronted|(?:fe)?males?|crooners?)\b"
)
_NOT_VOCAL: Final = re.compile(r"\b(instrumentals?|no vocals?|non vocal|without vocals?|vocal free)\b")
_ERA: Final = re.compile(r"(?:the )?(?:(19[0-9]|20[0-2])0'?s|([2-9])0'?s|(19[0-9]|20[0-2])\d)")
_DECADES: Final = {
    "sixties": "1960s", "seventies": "1970s", "eighties": "1980s", "nineties": "1990s", "fifties": "1950s",
    "forties": "1940s", "thirties": "1930s", "twenties": "1920s", "noughties": "2000s",
}  # fmt: skip
# A tag may name the country of the artist before the genre ("british blues rock"): the genre is true all the same, but
# for those that are another tradition's.
_COUNTRIES: Final = """
american argentine argentinian australian austrian belgian brazilian british canadian chilean chinese cuban czech danish
dutch english european finnish french german greek hungarian icelandic indian irish israeli italian jamaican japanese
korean mexican nordic norwegian polish portuguese romanian russian scandinavian scottish spanish swedish swiss turkish
uk ukrainian us usa welsh
"""
_COUNTRY: Final = frozenset(_COUNTRIES.split())
_OF_THE_WEST: Final = frozenset({"classical", "baroque", "renaissance", "opera"})
"""Genres whose word stands for another tradition, too: "chinese classical" is not what a caption calls classical."""
_OF_OTHER_TRADITIONS: Final = frozenset(["chinese", "indian", "japanese", "korean", "turkish"])
_MOSTLY_NO_GENRE: Final = frozenset(
    {
        "cadence", "compas", "drill", "fuji", "mod", "oi", "punta", "reel", "riddim", "sega", "snap", "son", "stride",
        "twist", "western",
    }
)  # fmt: skip
_TELLS_NOTHING_MORE: Final = frozenset({"music", "song", "songs"})  # at a tag's end: "soul music", "sad songs"
_MIN_PLURAL_CHARS: Final = 6  # "waltzes" is waltz, but "rocks" and "pops" are no genres
_MAX_QUALIFIERS: Final = 2  # before or after the genre: "80s british pop"
_INSTRUMENT_TAG: Final = re.compile(
    r"\b(pianos?|guitars?|bass|drums?|percussion|strings?|violins?|violas?|cellos?|organs?|synth(?:esi[sz]er)?s?|"
    r"sax(?:ophone)?s?|trumpets?|trombones?|tubas?|brass|horns?|flutes?|clarinets?|oboes?|harps?|harpsichords?|"
    r"accordions?|harmonicas?|banjos?|fiddles?|marimbas?|vibraphones?|xylophones?|sitars?|keyboards?|ukuleles?|"
    r"mandolins?|bagpipes?|recorders?|bells?|glockenspiels?)\b"
)


def clean(text: str, max_chars: int) -> str:
    """Untrusted text made plain: NFKC, no control, format or private characters, single blanks, at most so long."""
    plain = unicodedata.normalize("NFKC", text[: 4 * max_chars])
    visible = "".join(" " if c.isspace() else c for c in plain if c.isspace() or unicodedata.category(c)[0] not in "C")
    return " ".join(visible.split())[:max_chars].rstrip()


def normalise(tag: str) -> str:
    """A tag in the form in which tags are compared: lower case, only letters, digits, blanks and & ' . + allowed,
    at most MAX_TAG_CHARS characters. Empty when nothing is left."""
    text = clean(tag, MAX_TAG_CHARS).casefold().replace("’", "'")
    text = re.sub(r"[^\w&'.+ ]|_", " ", text)
    return " ".join(text.split()).strip("'.+& ")[:MAX_TAG_CHARS]


def _table(source: str) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Reads `word < parents: aliases` entries: (alias or word -> word), (word -> parents)."""
    words: dict[str, str] = {}
    parents: dict[str, tuple[str, ...]] = {}
    for entry in re.split(r"[|\n]", source.strip()):
        head, _, aliases = entry.partition(":")
        word, _, above = (part.strip() for part in head.partition("<"))
        parents[word] = tuple(p.strip() for p in above.split(",") if p.strip())
        for alias in (word, *(a.strip() for a in aliases.split(","))):
            if alias:
                words.setdefault(alias, word)
    return words, parents


def _unaccented(text: str) -> str:
    if text.isascii():
        return text
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


# Genres whose first word people shorten: "psych pop", "alt country".
_SHORTENED: Final = {"alternative": "alt", "gothic": "goth", "progressive": "prog", "psychedelic": "psych"}


def _genres() -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """The project's own genres, then those of genres.txt as far as these do not say otherwise."""
    words, parents = _table(_GENRES)
    text = files("luthier_music").joinpath("genres.txt").read_text("utf-8")
    more_words, more_parents = _table("\n".join(line for line in text.splitlines() if not line.startswith("#")))
    words, parents = more_words | words, more_parents | parents
    for spelling, word in list(words.items()):
        if not spelling.isascii():
            words.setdefault(_unaccented(spelling), word)
        first, blank, rest = spelling.partition(" ")
        if blank and first in _SHORTENED:
            words.setdefault(f"{_SHORTENED[first]} {rest}", word)
    return words, parents


GENRE_WORDS, GENRE_PARENTS = _genres()
"""Every spelling of a genre to its canonical word; the genres that a genre is a kind of."""

MOOD_WORDS, _ = _table(_MOODS)
"""Every spelling of a mood to its canonical word."""


_GENRE_SPELLINGS: Final = {
    "lo fi": "lo-fi",
    "r&b": "R&B",
    "k pop": "K-pop",
    "j pop": "J-pop",
    "idm": "IDM",
    "edm": "EDM",
    "aor": "AOR",
    "mpb": "MPB",
    "c pop": "C-pop",
    "j rock": "J-rock",
    "g funk": "G-funk",
    "p funk": "P-funk",
    "hi nrg": "hi-NRG",
    "doo wop": "doo-wop",
    "post rock": "post-rock",
    "uk hip hop": "UK hip hop",
    "uk hardcore": "UK hardcore",
}


def written_genre(genre: str) -> str:
    """A canonical genre as people write it: "lo-fi" for "lo fi"."""
    return _GENRE_SPELLINGS.get(genre, genre)


def implied_genres(genre: str) -> frozenset[str]:
    """A canonical genre and all that it is a kind of: what may be said of it truly."""
    found: set[str] = set()
    waiting = [genre]
    while waiting:
        found.add(word := waiting.pop())
        waiting += [parent for parent in GENRE_PARENTS.get(word, ()) if parent not in found]
    return frozenset(found)


def is_vocal(tag: str) -> bool:
    """Whether a tag is about a voice; renders are instrumental, so such tags are dropped."""
    text = normalise(tag)
    return bool(_VOCAL.search(text)) and not _NOT_VOCAL.search(text)


def is_noise(tag: str) -> bool:
    """Whether a tag says nothing about the music ("seen live"), or nothing at all."""
    text = normalise(tag)
    return text in _NOISE or len(text) < 2 or not re.search(r"[^\W\d]|\d0s", text)


def era(tag: str) -> str:
    """The decade that a tag names, e.g. "1980s"; empty when none."""
    text = normalise(tag)
    if text in _DECADES:
        return _DECADES[text]
    if not (match := _ERA.fullmatch(text)):
        return ""
    if short := match[2]:
        return f"19{short}0s"
    return f"{match[1] or match[3]}0s"


@dataclass(frozen=True)
class Word:
    """A tag understood: its canonical text and its kind (one of KINDS)."""

    text: str
    kind: str


def understand(tag: str, kind: str = "") -> tuple[Word, ...]:
    """What a tag means: one word, or several where it is put together of known ones ("sad 80s pop").

    `kind` is what its provider states. Without `genre`, words that mostly mean something else ("sega", "western") are
    not taken for the genres of that name.

    Words are compared by their spelling alone, never by likeness: "poprock" is "pop rock", "post rock" is not. A tag
    that nothing is known of is one word of kind `other`. Drop vocal tags and noise first: they are understood as well
    as any other.
    """
    text = normalise(tag)
    if text in _MOSTLY_NO_GENRE and kind != "genre":
        return (Word(text, "other"),)
    if word := _known(text):
        return (word,)
    if decade := era(text):
        return (Word(decade, "era"),)
    if words := _qualified(text):
        return words
    return (Word(text, "instrument" if _INSTRUMENT_TAG.search(text) else "other"),)


def spelling(text: str) -> str:
    """What all spellings of a word share: no blanks, accents, apostrophes or dots; "&" and an "n" between are "and"."""
    words = _unaccented(text).replace("&", " and ").replace("'", " ").replace(".", "").split()
    return "".join("and" if word == "n" and 0 < place < len(words) - 1 else word for place, word in enumerate(words))


@cache
def _words_by_spelling() -> dict[str, Word]:
    moods = {spelling(text): Word(mood, "mood") for text, mood in MOOD_WORDS.items()}
    return moods | {spelling(text): Word(genre, "genre") for text, genre in GENRE_WORDS.items()}


def _known(text: str) -> Word | None:
    """The genre or mood of this spelling: as it is, as a plural, or before "music" or "songs"."""
    words = _words_by_spelling()
    if word := words.get(spelling(text)):
        return word
    if len(text) >= _MIN_PLURAL_CHARS and text.endswith("s"):
        singular = words.get(spelling(text[:-1])) or words.get(spelling(text.removesuffix("es")))
        if singular and singular.kind == "genre":
            return singular
    front, _, last = text.rpartition(" ")
    return words.get(spelling(front)) if last in _TELLS_NOTHING_MORE else None


def _qualified(text: str) -> tuple[Word, ...]:
    """A genre with decades, moods and countries before it or a decade after it; empty when any part is unknown."""
    left, qualifiers = text.split(), list[Word]()
    for _ in range(_MAX_QUALIFIERS):
        if len(left) < 2:
            return ()
        if decade := era(left[0]) or era(left[-1]):
            left = left[1:] if era(left[0]) else left[:-1]
            qualifiers.append(Word(decade, "era"))
        elif left[0] in MOOD_WORDS:
            qualifiers.append(Word(MOOD_WORDS[left.pop(0)], "mood"))
        elif left[0] in _COUNTRY:
            left.pop(0)
        else:
            return ()
        genre = _known(" ".join(left))
        if genre and genre.text in _OF_THE_WEST and not _OF_OTHER_TRADITIONS.isdisjoint(text.split()):
            return ()
        if genre and genre.kind == "genre":
            return (genre, *qualifiers)
    return ()
