"""Several generations at once in one event loop: asyncio_several.py [HOST:PORT]."""

import asyncio
import sys

from luthier.inference.v1 import inference_pb2 as pb
from luthier_client import AsyncClient

ADDRESS = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7107"


async def main() -> None:
    async with AsyncClient(ADDRESS) as client:
        requests = [pb.GenerateRequest(prompt="calm piano", seconds_total=3, steps=8, seed=seed) for seed in (4, 5, 6)]
        made = await asyncio.gather(*(client.to_file(request, f"calm-{request.seed}.flac") for request in requests))
        for response in made:
            print(f"calm-{response.seed}.flac: {response.audio.size_bytes} bytes")

        endless = asyncio.create_task(client.generate(pb.GenerateRequest(prompt="calm piano", steps=1000)))
        try:
            await asyncio.wait_for(endless, timeout=0.5)
        except TimeoutError:  # its own name in Python 3.10, TimeoutError's since
            print("the fourth was given up after half a second")


asyncio.run(main())
