"""C2PA content credentials of generated audio (https://spec.c2pa.org, claim version 2): a signed statement in the file
of what made it, which any C2PA reader checks.

Signing is the last thing that is done to a file: whoever adds a tag after it makes it invalid. FLAC, WAV and MP3 can
hold credentials, Ogg cannot.
"""
