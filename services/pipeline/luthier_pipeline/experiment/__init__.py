"""The paper's claim in small: captions that notes prove teach a model tempo; captions that lie do not."""
