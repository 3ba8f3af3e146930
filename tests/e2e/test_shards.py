"""A corpus in shards: two processes, one manifest, every song once."""

import json

from tests.conftest import Answer
from tests.system import SONGS, System, songbook


def test_two_shards_take_every_song_once_and_the_status_sums_them(system: System, ran: Answer) -> None:
    folder = songbook(system.folder / "sharded", keep=SONGS)
    shards = [
        system.begin("run", "corpora/sharded", "--shard", f"{index}/2", "--submission", "s1") for index in range(2)
    ]  # they wait for the manifest
    ingested = system.luthier("ingest", str(folder), "--collection", "sharded", "--submission", "s1")
    ended = [shard.communicate(timeout=300) for shard in shards]
    assert [shard.returncode for shard in shards] == [0, 0], ended
    summaries = [json.loads(out.splitlines()[-1]) for out, _ in ended]
    assert sum(summary["rendered"] for summary in summaries) == ingested["songs"] == SONGS
    assert sum(summary["clips"] for summary in summaries) == ran["clips"]

    run = system.luthier("status", "--collection", "sharded")["runs"]["sharded"]
    assert (run["state"], run["songs"], run["rendered"], run["need_render"]) == ("DONE", SONGS, SONGS, 0)
    assert [(shard["part"], shard["state"]) for shard in run["shards"]] == [("0-of-2", "DONE"), ("1-of-2", "DONE")]

    again = system.luthier("run", "corpora/sharded")
    assert (again["rendered"], again["computed"]) == (SONGS, 0)
