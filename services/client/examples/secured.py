"""With a token, over TLS: secured.py HOST:PORT TOKEN-FILE CA.PEM."""

import sys

from luthier_client import Client

address, token_file, authority = sys.argv[1:]

with Client(address, token_file=token_file, tls_ca=authority) as client:
    for model in client.models().models:
        print(f"{model.name}@{model.version}, at most {model.window_s:g} s")
    usage = client.usage().usage
    print(f"{usage.caller} had {usage.calls} calls today")
