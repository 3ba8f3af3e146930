"""How people speak of General MIDI's instruments: every phrase, and the programs of which it is true.

A phrase is written in the singular; the plural is read as well. Longer phrases are read before shorter ones.
Programs are 0 to 127, "drums" stands for the kit.
"""

import re
from typing import Final

from luthier_music.instruments import DRUM_PROGRAM, DRUMS, PROGRAM_NAMES

_SOURCE: Final = """
piano: 0-3 | keyboard, keys: 0-7 16-20 80-103 | grand piano: 0 2 | acoustic piano: 0 1 3 | acoustic grand piano: 0
upright piano: 0 1 3 | electric piano: 2 4 5 | rhodes, rhodes piano, wurlitzer: 4 | fm piano, fm electric piano: 5
electric grand, electric grand piano: 2 | honky tonk, honky tonk piano, tack piano: 3
harpsichord: 6 | clavinet, clavi, clav: 7 | celesta, celeste: 8 | glockenspiel: 9 | music box: 10
vibraphone: 11 | marimba: 12 | xylophone: 13 | tubular bell: 14 | chime: 14 | dulcimer, hammered dulcimer: 15
mallet, mallet percussion: 8-13 | bell: 8 9 10 14 112 98 | tuned percussion: 8-15 114 | zither: 15
organ: 16-20 | hammond, hammond organ, drawbar organ, tonewheel organ: 16 17 18 | electric organ: 16-18
percussive organ: 17 | church organ, pipe organ: 19 | reed organ, harmonium, pump organ: 20
accordion: 21 23 | harmonica, mouth harp: 22 | bandoneon, tango accordion: 23
guitar: 24-31 | acoustic guitar: 24 25 | nylon guitar, nylon string guitar, nylon string acoustic guitar: 24
nylon acoustic guitar, acoustic nylon guitar: 24 | nylon string: 24
steel guitar, steel string guitar, steel string acoustic guitar, steel acoustic guitar, acoustic steel guitar: 25
steel string: 25 | electric guitar: 26-31 | lead guitar, rhythm guitar: 24-31
clean guitar, clean electric guitar: 26 27 28 | muted guitar, palm muted guitar, muted electric guitar: 28
distorted guitar, distortion guitar, distorted electric guitar, fuzz guitar, fuzzy guitar: 29 30
overdriven guitar, overdriven electric guitar, overdrive guitar, crunchy guitar: 29 30
guitar harmonic: 31 | power chord: 24-31
bass: 32-39 43 | bassline, bass line: 32-39 43 87 | walking bass, walking bass line: 32-39 43
acoustic bass: 32 43 | upright bass, double bass, string bass: 32 43 | contrabass: 32 43
electric bass, bass guitar, electric bass guitar: 33-37 | finger bass, fingered bass, fingerstyle bass: 33
fingered electric bass, fingerstyle electric bass: 33 | pick bass, picked bass, picked electric bass: 34
fretless bass, fretless: 35 | slap bass, slapped bass: 36 37
synth bass, synthesizer bass, bass synth, synthesized bass, synth bassline, synth bass line: 38 39 | sub bass: 38 39
violin: 40 110 | viola: 41 | cello: 42 | strings: 40-45 48-51 | string section, string ensemble: 48-51
string orchestra: 48-51 | violins, violas, cellos: 40-42 48 49 110 | orchestral strings: 40-45 48 49
orchestral string section, orchestral string ensemble: 48 49
tremolo strings, tremolo string: 44 | pizzicato, pizzicato strings, pizzicato string: 45 | harp, orchestral harp: 46
timpani, kettledrum: 47 | synth strings, synthesizer strings, synth string, string synth, string machine: 50 51
plucked strings: 15 24 25 45 46 104-107 | orchestra: 40-49 55-61 68-74
choir aahs, choir, choral aahs, choir pad, synth choir, synthesized choir: 52 53 54 91 | voice oohs: 53
synth voice, synthesized voice: 54 85 | orchestra hit, orchestral hit, orchestra stab: 55
brass: 56-63 | brass section, brass ensemble, horn section: 61 62 63 | trumpet: 56 59 | muted trumpet: 59
trombone: 57 | tuba: 58 | french horn: 60 | horn: 56-69
synth brass, synthesizer brass, synthesized brass, brass synth: 62 63
woodwind, wind: 64-79 | reed: 64-71 | sax, saxophone: 64-67 | soprano sax, soprano saxophone: 64
alto sax, alto saxophone: 65 | tenor sax, tenor saxophone: 66
baritone sax, bari sax, baritone saxophone: 67 | oboe: 68 | english horn, cor anglais: 69 | bassoon: 70 | clarinet: 71
piccolo: 72 | flute: 73 75 77 | recorder: 74 | pan flute, panpipe, pan pipe, panflute: 75
blown bottle: 76 | shakuhachi: 77 | whistle, tin whistle: 78 | ocarina: 79
synth, synthesizer, synthesiser: 38 39 50 51 54 62 63 80-103 118 | analog synth, analogue synth: 38 39 80 81 89 90 62 63
synth lead, lead synth, synthesizer lead: 80-87 | square lead, square wave lead, square synth: 80
square wave, square wave synth, square wave synth lead, square synth lead: 80
saw lead, sawtooth lead, saw synth, sawtooth synth, sawtooth synth lead, saw wave, sawtooth wave, sawtooth: 81
calliope, calliope lead, calliope synth lead: 82 | chiff lead, chiff synth lead: 83
charang, charang lead, charang synth lead: 84 | voice lead: 85 | fifths lead, fifths synth lead: 86
bass and lead synth: 87 | synth pad, synthesizer pad, pad: 88-95 50 51 | new age pad, new age synth pad: 88
polysynth, polysynth pad: 90 | bowed pad, bowed synth pad, bowed glass pad: 92
metallic pad, metallic synth pad: 93 | halo pad, halo synth pad: 94 | sweep pad, sweep synth pad, sweeping pad: 95
synth effect, synth fx, synthesizer effect: 96-103 | rain synth effect: 96 | soundtrack synth effect: 97
crystal synth, crystal synth effect: 98 | atmosphere synth effect: 99 | brightness synth effect: 100
goblin synth effect: 101 | echo synth effect: 102 | sci fi synth effect: 103
sitar: 104 | banjo: 105 | shamisen: 106 | koto: 107 | kalimba, thumb piano, mbira: 108 | bagpipe: 109
fiddle: 110 40 | shanai, shehnai: 111 | tinkle bell: 112 | agogo, agogo bell: 113 | steel drum, steelpan, steel pan: 114
woodblock, wood block: 115 | taiko, taiko drum: 116 | melodic tom: 117 | synth drum: 118 drums | reverse cymbal: 119
guitar fret noise, fret noise: 120 | breath noise: 121 | seashore, ocean wave: 122 | bird tweet, birdsong: 123
telephone ring: 124 | helicopter: 125 | applause: 126 | gunshot: 127
drum, drum kit, drum set, drumkit, drumset, drum beat, drumbeat, drum pattern, drumming, backbeat: drums
drum machine, electronic drum, 808 drum, 909 drum, 808, 909: drums 118 | percussion: drums 112-119 47
percussive: drums 112-119 47 8-15 | kick, kick drum, bass drum, snare, snare drum, rimshot: drums | tom, tom tom: drums
hi hat, hihat, cymbal, ride cymbal, crash cymbal, four on the floor: drums | drummer: drums
percussionist: drums 112-119 47 8-15 | pianist: 0-5 | guitarist: 24-31 | bassist: 32-39 43 | violinist: 40 110
cellist: 42 | harpist: 46 | flutist, flautist: 73 | clarinetist, clarinettist: 71 | oboist: 68 | trumpeter: 56 59
saxophonist: 64-67 | trombonist: 57 | organist: 16-20 | keyboardist: 0-7 16-20 80-103 | accordionist: 21 23
fiddler: 40 110 | stratocaster, telecaster, les paul: 26-31 | steinway: 0 | fender rhodes: 4
moog, minimoog, juno synth: 38 39 80 81 89 90 62 63 | tr 808, tr 909, linndrum: drums 118
"""

# True readings of words that also mean something else: they count as instruments only where they are true.
_WHERE_TRUE: Final = """
jazz guitar, jazz electric guitar: 26 | classical guitar, spanish guitar, flamenco guitar: 24 | rock organ: 18
bright piano, bright acoustic piano: 1 | warm pad, warm synth pad: 89 | vibe: 11 | folk guitar: 25
soft pad: 88-95 | country fiddle, folk fiddle: 110
"""

_NOWHERE: Final = """
theremin, mandolin, ukulele, bass clarinet, bass flute, bass trombone, didgeridoo, conga, bongo, djembe, tabla, cajon,
cajón, tambourine, shaker, maraca, castanet, cowbell, hand clap, handclap, clap, finger snap, lute, lyre, erhu,
guzheng, pipa, oud, bouzouki, balalaika, melodica, concertina, euphonium, cornet, flugelhorn, bugle, turntable,
mellotron, handpan, hang drum, singing bowl, hurdy gurdy, vinyl crackle, field recording, lap steel, pedal steel,
pedal steel guitar, lap steel guitar, slide guitar, twelve string guitar, 12 string guitar, baritone guitar,
bass harmonica, jaw harp, cimbalom, udu, surdo, timbale, glass harmonica, musical saw, spinet, wind chime, gong,
siren, tb 303, record scratch
"""
UNKNOWN: Final = tuple(word.strip() for word in _NOWHERE.split(","))
"""Instruments that no General MIDI program and no kit stands for: naming one is never a fact."""


def _programs(text: str) -> frozenset[int]:
    found: set[int] = set()
    for item in text.split():
        low, _, high = item.partition("-")
        found |= {DRUM_PROGRAM} if item == "drums" else set(range(int(low), int(high or low) + 1))
    return frozenset(found)


def _table(source: str) -> dict[str, frozenset[int]]:
    phrases = {}
    for entry in re.split(r"[|\n]", source.strip()):
        words, _, programs = entry.partition(":")
        phrases.update({word.strip(): _programs(programs) for word in words.split(",")})
    return phrases


_GM_NAMES: Final = {name.lower(): frozenset({program}) for program, name in enumerate(PROGRAM_NAMES)}

PHRASES: Final = {DRUMS.lower(): frozenset({DRUM_PROGRAM}), **_GM_NAMES, **_table(_SOURCE)}
"""Phrase -> programs of which it is true. General MIDI's own names are phrases too."""

WHERE_TRUE: Final = _table(_WHERE_TRUE)

SECTIONS: Final = frozenset({*range(48, 56), 61})  # programs that imitate many players at once
VOICES: Final = frozenset({52, 53, 54, 85, 91})  # programs that imitate voices


def name_of(program: int) -> str:
    """The General MIDI name, or "Drums"."""
    return DRUMS if program == DRUM_PROGRAM else PROGRAM_NAMES[program]
