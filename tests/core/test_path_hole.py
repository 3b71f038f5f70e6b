"""What vanishes on a path, and what is refused."""

from __future__ import annotations

import pytest

from knet_trio._core.pmtud import PathMtuSearch
from knet_trio._core.sizes import CLEAR, UDP_HEADER, EnvelopeSizes, PathSizes
from tests.core.test_pmtud import CBC, CTR, SimulatedPath, on_the_wire


@pytest.mark.parametrize("envelope", [CLEAR, CTR, CBC])
def test_the_smallest_size_that_vanishes_is_known(envelope: EnvelopeSizes) -> None:
    sizes = PathSizes(False, UDP_HEADER, envelope)
    search = PathMtuSearch(sizes)
    path = SimulatedPath(search, 1300, local=1500, hint=lambda _: 1500)
    path.run()
    assert search.hole is not None
    assert search.onwire is not None
    block = max(1, sizes.envelope.block)
    assert sizes.sealed_length(search.onwire) <= 1300 < sizes.sealed_length(search.hole)
    assert sizes.sealed_length(search.hole) - sizes.sealed_length(search.onwire) == block
    for probe in path.sent:
        assert on_the_wire(sizes, probe) == sizes.sealed_length(probe.onwire)
    # Again, from what is known.
    path.run()
    assert search.hole is not None
    path.mtu = 1500
    path.run()
    assert search.hole is None


def test_what_this_machine_refuses_has_not_vanished() -> None:
    search = PathMtuSearch(PathSizes(False, UDP_HEADER, CLEAR))
    for path in (
        SimulatedPath(search, 1500, local=1500, hint=lambda _: 1500),
        SimulatedPath(search, 1500, local=1500),
    ):
        path.run()
        assert (search.onwire, search.hole) == (1500, None)


def test_what_the_network_said_has_not_vanished() -> None:
    search = PathMtuSearch(PathSizes(False, UDP_HEADER, CLEAR))
    path = SimulatedPath(search, 1500, local=1500, hint=lambda _: 1500)
    path.run()
    path.mtu = 1300
    assert search.hinted(1300, path.now)
    while search.searching:
        path.step()
    assert (search.onwire, search.hole) == (1300, None)


def test_it_is_forgotten_with_the_rest() -> None:
    search = PathMtuSearch(PathSizes(False, UDP_HEADER, CLEAR))
    SimulatedPath(search, 1300).run()
    assert search.hole == 1301
    search.reset()
    assert search.hole is None
