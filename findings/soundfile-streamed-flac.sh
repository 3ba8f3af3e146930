#!/usr/bin/env bash
# An encoder that writes FLAC to a pipe cannot go back to its header, so the number of samples there stays 0, which RFC 9639 (8.2)
# defines as "unknown": `flac -c -`, `ffmpeg … -f flac -`, recorders and web services make such files, and players play them. libsndfile
# 1.2.2 then says 2^63 - 1 frames: soundfile's read() fails over the size of an array, and reading in blocks fails in the seek that
# soundfile makes after each. Most expect a valid FLAC to be read, or refused as what it is.
# Hurt: loaders on soundfile or librosa, such as Hugging Face datasets 3: "array is too big" for one file of a folder.
# Printed:
#   the file:      88200 frames, whole
#   from a pipe:   9223372036854775807 frames by soundfile 0.14.0 (libsndfile 1.2.2)
#     read():      ValueError: array is too big; `arr.size * arr.dtype.itemsize` is larger than the maximum possible size.
#     in blocks:   LibsndfileError: Internal psf_fseek() failed.
#     PyAV 18.0.0: 88200 frames, the same samples
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get numpy==2.4.6 soundfile==0.14.0 av==18.0.0
cd "$t" && v/bin/python -W ignore - <<'PY'
import av, numpy as np, os, soundfile, threading
from importlib.metadata import version
pcm = np.round(12000 * np.sin(2 * np.pi * 440 * np.arange(88200) / 44100)).astype(np.int16)
soundfile.write("file.flac", pcm, 44100)
reader, writer = os.pipe()
copy = threading.Thread(target=lambda: open("pipe.flac", "wb").write(open(reader, "rb").read()))
copy.start()
with av.open(f"pipe:{writer}", "w", format="flac") as out:
    stream = out.add_stream("flac", rate=44100, layout="mono", format="s16")
    for first in range(0, len(pcm), 4410):
        frame = av.AudioFrame.from_ndarray(pcm[None, first : first + 4410], format="s16", layout="mono")
        frame.sample_rate, frame.pts = 44100, first
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))
os.close(writer)
copy.join()
def outcome(call):
    try: return len(call())
    except Exception as error: return f"{type(error).__name__}: {error}"
print(f"the file:      {soundfile.info('file.flac').frames} frames, whole")
said = soundfile.info("pipe.flac").frames
print(f"from a pipe:   {said} frames by soundfile {version('soundfile')} (libsndfile {soundfile.__libsndfile_version__})")
whole, block = outcome(lambda: soundfile.read("pipe.flac")[0]), outcome(lambda: np.concatenate(list(soundfile.blocks("pipe.flac", 4096))))
print(f"  read():      {whole}\n  in blocks:   {block}")
with av.open("pipe.flac") as file:
    decoded = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
print(f"  PyAV {version('av')}: {len(decoded)} frames, {'the same samples' if np.array_equal(decoded, pcm) else 'OTHER SAMPLES'}")
assert np.array_equal(decoded, pcm) and said == 2**63 - 1 and isinstance(whole, str) and isinstance(block, str)
PY
