"""Eight real recordings, as a folder for `luthier add-audio`: rock and metal of Debian's packages
`fretsonfire-songs-muldjord` (CC-BY-SA-3.0) and `fretsonfire-songs-sectoid` (MIT style).

    services/analysis/.venv/bin/python tests/bench/recordings.py FOLDER

Needs `apt-get` and `dpkg-deb`. The packages hold each song as two files that the game plays together, the guitar alone
and the rest: their sum is the song.
"""

import argparse
import configparser
import csv
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile

LICENCES = {"muldjord": "CC-BY-SA-3.0", "sectoid": "MIT"}
GENRE = "metal"
CREDIT = "Composed and performed by "


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as name, (folder / "tags.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["artist", "title", "tag", "kind", "audio_licence"])
        for package, licence in LICENCES.items():
            unpacked = fetched(Path(name), f"fretsonfire-songs-{package}")
            for song in sorted(unpacked.rglob("song.ini")):
                artist, title = written(folder, song)
                rows.writerow([artist, title, GENRE, "genre", licence])
                print(f"{artist}/{title}.flac")


def fetched(folder: Path, package: str) -> Path:
    """The package's files."""
    subprocess.run(["apt-get", "download", "-qq", package], cwd=folder, check=True)
    [archive] = folder.glob(f"{package}_*.deb")
    subprocess.run(["dpkg-deb", "-x", archive, folder / package], check=True)
    return folder / package


def written(folder: Path, ini: Path) -> tuple[str, str]:
    """Writes the sum of a song's files; its artist and title."""
    settings = configparser.ConfigParser(interpolation=None, strict=False)
    settings.read(ini)
    artist = settings["song"]["artist"].split(" - ")[0].removeprefix(CREDIT).strip()
    title = settings["song"]["name"].strip()
    parts = [soundfile.read(ini.with_name(name), always_2d=True) for name in ("song.ogg", "guitar.ogg")]
    [rate_hz] = {rate for _, rate in parts}
    mix = np.zeros((max(len(samples) for samples, _ in parts), 2))
    for samples, _ in parts:
        mix[: len(samples)] += samples
    (folder / artist).mkdir(exist_ok=True)
    soundfile.write(folder / artist / f"{title}.flac", mix / max(1.0, np.abs(mix).max()), rate_hz)
    return artist, title


if __name__ == "__main__":
    main()
