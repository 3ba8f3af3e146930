"""A server of the Model Context Protocol: what agents may ask of an installation."""
