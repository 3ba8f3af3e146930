"""Checkpoints as people have them (`.ckpt`: a pickle) become safetensors: `python -m luthier_model.conversion`.

No service imports this package. The file is opened in a process of its own (`reader`, below `sandbox`), by
`torch.load(weights_only=True)` and nothing else; which of its tensors make the model is decided here (`layout`), from
their names and shapes alone; what was written is checked like any weights from outside (`convert`).
"""
