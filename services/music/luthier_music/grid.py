"""Whether the tempo map of a MIDI file is to be believed: the notes of music that follows it begin on its grid.

The grid is sixteenths and eighth triplets of a quarter note, met within 1/48 of it; of onsets at random 25 % do.
"""

from typing import Final

MIN_ONSETS: Final = 8  # fewer prove nothing about a grid
MIN_ON_GRID: Final = 0.6  # share of the onsets on the grid from which on the map is trusted


def grid_holds(onsets: int, onsets_on_grid: int) -> bool:
    """Whether so many of the onsets lie on the grid that the map is trusted."""
    return onsets >= MIN_ONSETS and onsets_on_grid / onsets >= MIN_ON_GRID
