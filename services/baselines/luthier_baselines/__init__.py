"""Published models beside Luthier's: what they make of the same prompts and the same audio, for `luthier score`.

MusicGen (Copet 2023) and AudioLDM 2 (Liu 2023) generate; EnCodec (Défossez 2022) and DAC (Kumar 2023) reconstruct.
Weights are folders in the layout of transformers and diffusers that the user has; nothing is downloaded.
"""
