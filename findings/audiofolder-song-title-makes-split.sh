#!/usr/bin/env bash
# One song whose file is called "night train.wav" makes a Hugging Face AudioFolder of one song: the word between blanks, dots, dashes or
# underscores is taken for the split's name, at any depth, and every file that does not carry a split's word is left out. No warning.
# "mic test", "dev take" and an artist's folder "train" do the same. Most expect only the top folders train, test, validation to count.
# Hurt: music data sets in artist/title folders: thousands of clips vanish because of one title; row counts are seldom compared.
# Printed:
#   datasets 5.2.0: six songs in artist folders
#     all plain titles: {'train': 6}
#     one is called 'night train': {'train': 1}
#     one is called 'mic-test': {'test': 1}
#     one artist's folder is called 'train': {'train': 1}
set -euo pipefail
t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
if command -v uv >/dev/null; then uv venv -q -p 3.11 "$t/v"; get() { uv pip install -q -p "$t/v/bin/python" "$@"; }
else python3 -m venv "$t/v"; get() { "$t/v/bin/pip" install -q "$@"; }; fi
get datasets==5.2.0
cd "$t" && v/bin/python -W ignore - <<'PY'
import os, shutil, wave
os.environ["HF_HUB_OFFLINE"] = "1"
import datasets
datasets.disable_progress_bars()
plain = [f"artist {n}/song {n}.wav" for n in "abcdef"]
cases = {
    "all plain titles": (plain, {"train": 6}),
    "one is called 'night train'": (plain[:5] + ["artist f/night train.wav"], {"train": 1}),
    "one is called 'mic-test'": (plain[:5] + ["artist f/mic-test.wav"], {"test": 1}),
    "one artist's folder is called 'train'": (plain[:5] + ["train/song f.wav"], {"train": 1}),
}
print(f"datasets {datasets.__version__}: six songs in artist folders")
for case, (names, expected) in cases.items():
    shutil.rmtree("songs", ignore_errors=True)
    for name in names:
        os.makedirs(os.path.dirname("songs/" + name), exist_ok=True)
        with wave.open("songs/" + name, "wb") as file:
            file.setnchannels(1), file.setsampwidth(2), file.setframerate(8000), file.writeframes(bytes(1600))
    files = datasets.load_dataset_builder("audiofolder", data_dir="songs", cache_dir="cache").config.data_files  # decodes nothing
    counts = {str(split): len(paths) for split, paths in files.items()}
    print(f"  {case}: {counts}")
    assert counts == expected, (case, counts)
PY
