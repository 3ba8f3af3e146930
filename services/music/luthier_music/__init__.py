"""What every service of Luthier must agree on about music: audio files, loudness, keys, tempo, instruments, tags."""
