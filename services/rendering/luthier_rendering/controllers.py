"""Controllers by their numbers (MIDI 1.0, table III)."""

from typing import Final

BANK, MODULATION, DATA, VOLUME, BALANCE, PAN, EXPRESSION, BANK_LSB, DATA_LSB = 0, 1, 6, 7, 8, 10, 11, 32, 38
LSB: Final = 32  # from a controller 0..31 to the one that has its lower seven bits
SUSTAIN, PORTAMENTO, SOSTENUTO, SOFT = range(64, 68)
INCREMENT, DECREMENT, NRPN_LSB, NRPN, RPN_LSB, RPN = range(96, 102)
SOUND_OFF, RESET_CONTROLLERS, LOCAL, NOTES_OFF = 120, 121, 122, 123  # 124..127 choose a mode and end all notes
