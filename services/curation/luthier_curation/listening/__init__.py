"""Blind listening tests: MOS (ITU-T P.800) and MUSHRA (ITU-R BS.1534-3) in the browser.

`audio` keeps what is heard, `orders` says who hears what when, `sessions` what listeners said, `results` what it comes
to. `Listening` is all of it over one database and one store.
"""

from luthier_curation.listening.listening import Listening

__all__ = ["Listening"]
