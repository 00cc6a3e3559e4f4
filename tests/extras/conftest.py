"""A Ray cluster of three nodes on this machine, for all tests that need one: its start takes long."""

import os
from collections.abc import Iterator

import pytest

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it would tell the internet

NODES, CPUS = 3, 2
MEMORY = 150 * 2**20  # bytes of each node's object store
NEEDS_RAY = [
    pytest.mark.extras,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\."),  # Ray 2.60 warns of what it calls itself
]


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """The address of a cluster of `NODES` nodes with `CPUS` each."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": CPUS, "object_store_memory": MEMORY}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        for _ in range(NODES - 1):
            cluster.add_node(**node)
        yield cluster.address
    finally:
        cluster.shutdown()
