#!/usr/bin/env bash
# The same samples written in the same format are the same bytes: people expect so who name audio by its digest, compare builds or
# look for what changed. soundfile.write (libsndfile) puts the clock into WAVs of float samples (chunk PEAK, seconds since 1970), and
# draws the serial number of an Ogg stream by it (Vorbis and Opus), which changes the checksum of every page, too. WAV and FLAC of
# integer samples, and MP3, are the same.
# Hurt: stores by content, caches and reproducible data sets: each run has other digests, and no sample differs.
# Our own code: services/inference/luthier_inference/audio.py writes neither; tests/inference/test_audio.py.
# Printed:
#   soundfile 0.14.0, libsndfile 1.2.2
#   WAV PCM_16: 0 of 96044 bytes differ, samples the same: True
#   WAV FLOAT: 1 of 192080 bytes differ, samples the same: True
#   FLAC PCM_24: 0 of 38513 bytes differ, samples the same: True
#   OGG VORBIS: 24 of 5764 bytes differ, samples the same: True
#   OGG OPUS: 32 of 8680 bytes differ, samples the same: True
#   MP3 MPEG_LAYER_III: 0 of 5208 bytes differ, samples the same: True
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get numpy==2.4.6 soundfile==0.14.0
cd "$t" && v/bin/python -W ignore - <<'PY'
import pathlib, time, numpy as np, soundfile
print(f"soundfile {soundfile.__version__}, libsndfile {soundfile.__libsndfile_version__}")
tone = 0.25 * np.sin(2 * np.pi * 440 * np.arange(48000) / 48000)
kinds = {("WAV", "PCM_16"): True, ("WAV", "FLOAT"): False, ("FLAC", "PCM_24"): True, ("OGG", "VORBIS"): False,
         ("OGG", "OPUS"): False, ("MP3", "MPEG_LAYER_III"): True}
first = {}
for round_ in range(2):
    for (container, subtype), same in kinds.items():
        soundfile.write("tone", tone, 48000, subtype, format=container)
        written, read = pathlib.Path("tone").read_bytes(), soundfile.read("tone")[0]
        if round_ == 0:
            first[container, subtype] = written, read
            continue
        before, samples = first[container, subtype]
        differ = sum(a != b for a, b in zip(written, before))
        print(f"{container} {subtype}: {differ} of {len(written)} bytes differ, samples the same: {np.array_equal(read, samples)}")
        assert (written == before) == same and np.array_equal(read, samples) and len(written) == len(before)
    time.sleep(1.1)
PY
