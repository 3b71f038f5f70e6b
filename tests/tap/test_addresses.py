"""What is known of addresses, against a model that keeps everything it was ever told."""

from __future__ import annotations

from typing import Final

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knet_trio import InvalidArgumentError
from knet_trio.tap import AddressTable

AGE: Final = 10.0
ROOM: Final = 3
HOSTS: Final = (1, 2, 3)


def mac(number: int) -> bytes:
    return b"\x02" + number.to_bytes(5, "big")


@attrs.frozen
class Sighting:
    address: bytes
    host_id: int
    at: float


@attrs.define
class TableModel:
    """All sightings that count still, the oldest first."""

    sightings: list[Sighting] = attrs.field(factory=list[Sighting])

    def learn(self, address: bytes, host_id: int, now: float) -> None:
        self.forget(address)
        of_host = [one for one in self.sightings if one.host_id == host_id]
        if len(of_host) == ROOM:
            self.sightings.remove(of_host[0])
        self.sightings.append(Sighting(address, host_id, now))

    def forget(self, address: bytes) -> None:
        self.sightings = [one for one in self.sightings if one.address != address]

    def forget_host(self, host_id: int) -> None:
        self.sightings = [one for one in self.sightings if one.host_id != host_id]

    def find(self, address: bytes, now: float) -> int | None:
        for one in self.sightings:
            if one.address == address and now - one.at < AGE:
                return one.host_id
        return None


addresses = st.integers(0, 7).map(mac)
steps = st.lists(
    st.tuples(
        st.sampled_from(["learn", "learn", "learn", "find", "forget", "forget_host"]),
        addresses,
        st.sampled_from(HOSTS),
        st.sampled_from([0.0, 1.0, 4.0, AGE]),
    ),
    max_size=40,
)


@given(steps)
def test_it_knows_what_the_model_knows(steps: list[tuple[str, bytes, int, float]]) -> None:
    table, model = AddressTable(max_age=AGE, max_addresses=ROOM), TableModel()
    now = 0.0
    for step, address, host_id, passes in steps:
        now += passes
        if step == "learn":
            table.learn(address, host_id, now)
            model.learn(address, host_id, now)
        elif step == "find":
            # This may forget it, which must make no difference that can be seen.
            assert table.find(address, now) == model.find(address, now)
        elif step == "forget":
            table.forget(address)
            model.forget(address)
        else:
            table.forget_host(host_id)
            model.forget_host(host_id)
        for each in HOSTS:
            known = table.get_addresses(each, now)
            assert len(known) <= ROOM
            assert known == tuple(
                one.address for one in model.sightings if one.host_id == each and now - one.at < AGE
            )
        assert len(table) <= ROOM * len(HOSTS)
    for address in map(mac, range(8)):
        assert table.find(address, now) == model.find(address, now)


def test_a_host_with_many_addresses_pushes_out_its_own_alone() -> None:
    table = AddressTable(max_addresses=100)
    for number in range(100):
        table.learn(mac(number), 1, 0.0)
    for number in range(100, 100_000):
        table.learn(mac(number), 2, 1.0)
    assert len(table) == 200
    assert table.get_addresses(1, 1.0) == tuple(map(mac, range(100)))
    assert table.get_addresses(2, 1.0) == tuple(map(mac, range(99_900, 100_000)))


@pytest.mark.parametrize(
    "address", ["ffffffffffff", "01005e000001", "3333ff000001", "000000000000"]
)
def test_what_is_no_address_of_one_device_is_not_learnt(address: str) -> None:
    table = AddressTable()
    table.learn(bytes.fromhex(address), 1, 0.0)
    assert len(table) == 0


def test_an_address_is_known_as_long_as_it_is_seen() -> None:
    table = AddressTable(max_age=AGE)
    for at in range(0, 50, 5):
        table.learn(mac(1), 1, at)
        assert table.find(mac(1), at + AGE - 0.1) == 1
    assert table.find(mac(1), 45 + AGE) is None
    assert len(table) == 0


@pytest.mark.parametrize(("max_age", "max_addresses"), [(0, 1), (-1, 1), (1, 0), (float("nan"), 1)])
def test_a_table_that_knows_nothing_is_refused(max_age: float, max_addresses: int) -> None:
    with pytest.raises(InvalidArgumentError, match="above zero"):
        AddressTable(max_age=max_age, max_addresses=max_addresses)
