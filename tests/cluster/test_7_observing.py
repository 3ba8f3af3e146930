"""Every query of the dashboards and alert rules returns a series on a cluster that has just worked."""

import time

import pytest

from tests.cluster import work
from tests.cluster.monitoring import Prometheus
from tests.cluster.release import Release
from tests.operations.queries import queries

WORK_S = 20
SCRAPES_S = 10  # a rate needs two of them


@pytest.fixture(scope="module")
def worked(installed: Release) -> None:
    """Calls within the queries' window, answered by Pods that still exist."""
    loads = [work.generate_load(installed, "tuned", 900, 0.5), work.render_load(installed, 900, 0.5)]
    time.sleep(WORK_S)
    for load in loads:
        load.stop()
    time.sleep(SCRAPES_S)


def test_every_query_finds_series(worked: None, prometheus: Prometheus) -> None:
    every = list(queries())
    empty = [f"{where}: {promql}" for where, promql in every if not prometheus.query(promql)]
    assert every
    assert not empty
