"""Analysis: measures audio and cuts songs into clips that know the facts of their own span."""
