"""Every query of the dashboards and of the alert rules finds something on the running cluster."""

import pytest

from tests.cluster.kube import wait_until
from tests.cluster.monitoring import Prometheus
from tests.cluster.release import Release
from tests.operations.queries import queries


@pytest.mark.parametrize(("where", "promql"), list(queries()))
def test_a_query_finds_series(installed: Release, prometheus: Prometheus, where: str, promql: str) -> None:
    wait_until(f"{where}: {promql}", lambda: prometheus.query(promql), 20)
