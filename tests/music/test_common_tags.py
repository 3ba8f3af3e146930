"""Common tags of Last.fm, and what each must become. Written from general knowledge of music and of what its users
tag, not from the vocabulary's own output."""

import pytest

from luthier_music.vocabulary import Word, is_noise, is_vocal, spelling, understand

# tag: canonical genre
GENRES = {
    "rock": "rock", "pop": "pop", "alternative": "alternative rock", "indie": "indie", "electronic": "electronic",
    "jazz": "jazz", "metal": "metal", "chillout": "chillout", "chill out": "chillout", "classic rock": "classic rock",
    "indie rock": "indie rock", "soul": "soul", "electronica": "electronic", "folk": "folk", "punk": "punk",
    "blues": "blues", "hard rock": "hard rock", "ambient": "ambient", "Hip-Hop": "hip hop", "country": "country",
    "easy listening": "easy listening", "funk": "funk", "electro": "electro", "heavy metal": "metal",
    "Progressive rock": "progressive rock", "rnb": "r&b", "R'n'B": "r&b", "rhythm and blues": "r&b",
    "Rhythm & Blues": "r&b", "indie pop": "indie pop", "House": "house", "soundtrack": "soundtrack",
    "Soundtracks": "soundtrack", "punk rock": "punk", "downtempo": "downtempo", "trip-hop": "trip hop",
    "reggae": "reggae", "emo": "emo", "Progressive metal": "progressive metal", "techno": "techno",
    "post-punk": "post punk", "new wave": "new wave", "Pop-Rock": "pop rock", "pop rock": "pop rock",
    "pop/rock": "pop rock", "poprock": "pop rock", "trance": "trance", "alternative metal": "alternative metal",
    "alt metal": "alternative metal", "world music": "world", "Ballad": "ballad", "ballads": "ballad",
    "power ballads": "power ballad", "lounge": "lounge", "latin": "latin", "britpop": "britpop", "Brit-Pop": "britpop",
    "brit pop": "britpop", "grunge": "grunge", "post-grunge": "post grunge", "hardcore": "hardcore",
    "death metal": "death metal", "industrial": "industrial", "Disco": "disco", "post-rock": "post rock",
    "postrock": "post rock", "psychedelic rock": "psychedelic rock", "psych rock": "psychedelic rock",
    "psychedelic pop": "psychedelic pop", "psych pop": "psychedelic pop", "psych-folk": "psychedelic folk",
    "thrash metal": "thrash metal", "black metal": "black metal", "metalcore": "metalcore", "metal core": "metalcore",
    "synthpop": "synth pop", "synth-pop": "synth pop", "shoegaze": "shoegaze", "shoegazing": "shoegaze",
    "Gothic": "gothic", "goth": "gothic", "goth rock": "gothic rock", "nu metal": "nu metal", "nu-metal": "nu metal",
    "numetal": "nu metal", "classical": "classical", "Classical Music": "classical", "swing": "swing",
    "drum and bass": "drum and bass", "Drum n Bass": "drum and bass", "drum & bass": "drum and bass",
    "dubstep": "dubstep", "IDM": "idm", "intelligent dance music": "idm", "lo-fi": "lo fi", "dream pop": "dream pop",
    "ska": "ska", "bluegrass": "bluegrass", "americana": "americana", "alt-country": "alternative country",
    "noise": "noise", "avant-garde": "avant garde", "avantgarde": "avant garde", "dub": "dub",
    "rockabilly": "rockabilly", "psychobilly": "psychobilly", "motown": "motown", "sunshine pop": "sunshine pop",
    "Sunshine-Pop": "sunshine pop", "bubblegum pop": "bubblegum pop", "bubblegum": "bubblegum pop",
    "doo wop": "doo wop", "doo-wop": "doo wop", "DooWop": "doo wop", "glam rock": "glam rock", "glam": "glam rock",
    "power pop": "power pop", "powerpop": "power pop", "soft rock": "soft rock", "folk rock": "folk rock",
    "folk-rock": "folk rock", "blues rock": "blues rock", "southern rock": "southern rock",
    "country rock": "country rock", "hair metal": "glam metal", "glam metal": "glam metal", "AOR": "aor",
    "arena rock": "arena rock", "yacht rock": "yacht rock", "adult contemporary": "adult contemporary",
    "eurodance": "eurodance", "eurobeat": "eurobeat", "italo disco": "italo disco", "hi-nrg": "hi nrg",
    "europop": "europop", "schlager": "schlager", "baroque pop": "baroque pop", "chamber pop": "chamber pop",
    "jangle pop": "jangle pop", "garage rock": "garage rock", "surf rock": "surf rock", "surf music": "surf rock",
    "math rock": "math rock", "djent": "djent", "stoner rock": "stoner rock", "doom metal": "doom metal",
    "sludge metal": "sludge metal", "gothic metal": "gothic metal", "symphonic metal": "symphonic metal",
    "melodic death metal": "melodic death metal", "viking metal": "viking metal", "folk metal": "folk metal",
    "speed metal": "speed metal", "krautrock": "krautrock", "space rock": "space rock", "art rock": "art rock",
    "proto-punk": "proto punk", "post-hardcore": "post hardcore", "skate punk": "skate punk",
    "celtic": "celtic", "celtic music": "celtic", "flamenco": "flamenco", "bossa nova": "bossa nova",
    "salsa": "salsa", "tango": "tango", "tangos": "tango", "afrobeat": "afrobeat", "K-Pop": "k pop", "kpop": "k pop",
    "J-Rock": "j rock", "video game music": "video game music", "Christmas Songs": "christmas",
    "rock n roll": "rock", "rock and roll": "rock", "Rock & Roll": "rock", "rock'n'roll": "rock",
    "Rock 'n' Roll": "rock", "rock-n-roll": "rock", "northern soul": "northern soul", "neo-soul": "neo soul",
    "philly soul": "philly soul", "acid jazz": "acid jazz", "nu jazz": "nu jazz", "nu-jazz": "nu jazz",
    "smooth jazz": "smooth jazz", "free jazz": "free jazz", "hard bop": "hard bop", "big band": "big band",
    "jazz fusion": "jazz fusion", "new jack swing": "new jack swing", "electroclash": "electroclash",
    "darkwave": "dark wave", "dark wave": "dark wave", "EBM": "electronic body music", "chillwave": "chillwave",
    "synthwave": "synthwave", "witch house": "witch house", "big beat": "big beat", "breakcore": "breakcore",
    "glitch": "glitch", "UK Garage": "garage", "2-step": "2 step", "goa trance": "goa trance",
    "progressive house": "progressive house", "prog house": "progressive house", "minimal techno": "minimal techno",
    "happy hardcore": "happy hardcore", "honky tonk": "honky tonk", "honky-tonk": "honky tonk",
    "western swing": "western swing", "outlaw country": "outlaw country", "zydeco": "zydeco",
    "chanson": "chanson", "forro": "forró", "MPB": "mpb", "tropicalia": "tropicália", "uk funky": "uk funky",
    "merseybeat": "beat music", "british invasion": "british invasion", "piano rock": "piano rock",
    "soul music": "soul", "jazz music": "jazz", "waltzes": "waltz", "Childrens Music": "children's music",
    "british blues rock": "blues rock", "swedish death metal": "melodic death metal", "german techno": "techno",
}  # fmt: skip

# tag: genre, and what is said beside it
TOGETHER = {
    "80s pop": (Word("pop", "genre"), Word("1980s", "era")),
    "70s rock": (Word("rock", "genre"), Word("1970s", "era")),
    "1960s pop rock": (Word("pop rock", "genre"), Word("1960s", "era")),
    "rock 90s": (Word("rock", "genre"), Word("1990s", "era")),
    "sad songs": (Word("sad", "mood"),),
    "relaxing music": (Word("relaxed", "mood"),),
    "mellow rock": (Word("rock", "genre"), Word("mellow", "mood")),
    "dark electro": (Word("dark electro", "genre"),),
    "80s british pop": (Word("pop", "genre"), Word("1980s", "era")),
}

# Of these nobody can say from the tag alone what sounds: for a person.
UNKNOWN = (
    "british", "american", "oldies", "acoustic", "instrumental", "usa", "japanese", "finnish", "covers", "seattle",
    "love songs", "disney", "sweet", "pop rocks my world", "popular rock", "rocks", "pops", "the who", "brazil",
    "sega", "son", "western",
    "mod", "riddim", "chinese classical", "turkish classical", "post", "prog n",
    "blue", "jazzercise", "metallic", "folklore", "soulless", "funkytown",
)  # fmt: skip

# They speak of voices, and renders have none.
VOCAL = (
    "female vocalists", "male vocalists", "female vocalist", "female vocals", "vocal", "singer-songwriter", "female",
    "male", "rap", "screamo", "female fronted metal", "girl groups", "a cappella", "vocal jazz", "crooners", "choral",
    "gangsta rap", "rap rock", "opera", "duets", "Male Vocals",
)  # fmt: skip

# They say nothing about the music.
NOISE = (
    "favorites", "Favourites", "seen live", "awesome", "love", "Love it", "beautiful", "amazing", "cool",
    "albums I own", "under 2000 listeners", "5", "<3",
)  # fmt: skip


@pytest.mark.parametrize(("tag", "genre"), GENRES.items())
def test_a_common_tag_is_its_genre(tag: str, genre: str) -> None:
    assert not is_vocal(tag)
    assert not is_noise(tag)
    assert understand(tag) == (Word(genre, "genre"),)


@pytest.mark.parametrize(("tag", "words"), TOGETHER.items())
def test_a_tag_of_several_known_words_is_all_of_them(tag: str, words: tuple[Word, ...]) -> None:
    assert understand(tag) == words


@pytest.mark.parametrize("tag", UNKNOWN)
def test_nothing_is_guessed(tag: str) -> None:
    assert [word.kind for word in understand(tag)] == ["other"]


def test_what_a_provider_calls_a_genre_is_one() -> None:
    assert understand("sega", "genre") == (Word("sega", "genre"),)
    assert understand("forro", "other") == (Word("forró", "genre"),)


@pytest.mark.parametrize("tag", VOCAL)
def test_common_tags_of_voices_are_vocal(tag: str) -> None:
    assert is_vocal(tag)


@pytest.mark.parametrize("tag", NOISE)
def test_common_tags_that_say_nothing_are_noise(tag: str) -> None:
    assert is_noise(tag)


def test_post_rock_is_no_pop_rock() -> None:
    assert spelling("post rock") != spelling("pop rock")
    assert understand("post rock") != understand("pop rock")
