"""Every query of the dashboards and alert rules returns a series on a cluster that has just worked."""

import contextlib
from collections.abc import Iterator

import pytest

from tests.cluster import work
from tests.cluster.kube import KubeError, wait_until
from tests.cluster.monitoring import Prometheus
from tests.cluster.release import Release
from tests.operations.queries import queries

SERIES_S = 180


@pytest.fixture(scope="module")
def worked(installed: Release) -> Iterator[None]:
    """Calls within the queries' window, answered by Pods that still exist."""
    loads = [work.generate_load(installed, "tuned", 900, 0.5), work.render_load(installed, 900, 0.5)]
    yield
    for load in loads:
        load.stop()


def test_every_query_finds_series(worked: None, prometheus: Prometheus) -> None:
    every = list(queries())
    assert every
    empty: list[str] = []

    def all_found() -> bool:
        empty[:] = [f"{where}: {promql}" for where, promql in every if not prometheus.query(promql)]
        return not empty

    with contextlib.suppress(KubeError):  # a slow machine needs longer for the first answers and two scrapes of each
        wait_until("every query finds series", all_found, SERIES_S)
    assert not empty
