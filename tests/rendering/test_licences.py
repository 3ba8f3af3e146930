"""The licence of the library that writes FLAC is installed beside it, as in an image."""

import ctypes
from importlib.metadata import distribution
from pathlib import Path

import flacarray


def libflac_version() -> str:
    """Of the library that is loaded, as `1.5.0`."""
    library = ctypes.CDLL(str(Path(flacarray.__file__).parent / "lib" / "libflacarray.so"))
    return ctypes.c_char_p.in_dll(library, "FLAC__VERSION_STRING").value.decode()  # type: ignore[union-attr]


def test_the_text_that_is_installed_is_that_of_this_version() -> None:
    """Another version may have other years or holders: then the text is replaced with that version's COPYING.Xiph."""
    version = libflac_version().rpartition(".")[0]
    [file] = [file for file in distribution("luthier-music").files or [] if "libFLAC" in file.name]
    assert file.name == f"libFLAC-{version}-BSD-3-Clause.txt"
    assert file.parts[0].endswith(".dist-info")
    assert "Xiph.Org Foundation" in file.read_text()


def test_flacarray_brings_its_own() -> None:
    texts = [file.read_text() for file in distribution("flacarray").files or [] if file.name == "LICENSE"]
    assert any("Redistribution and use in source and binary forms" in text for text in texts)
