"""A Ray cluster of three nodes on this machine, for all tests that need one: its start takes long."""

from collections.abc import Iterator

import pytest

NEEDS_RAY = [
    pytest.mark.extras,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\."),  # Ray 2.60 warns of what it calls itself
]


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """The address of a cluster of `onray.NODES` nodes with `onray.CPUS` each."""
    pytest.importorskip("ray")
    from benchmarks import onray

    with onray.cluster() as found:
        yield found.address
