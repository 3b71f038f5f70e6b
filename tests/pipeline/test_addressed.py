"""Envelopes that say whom they are for, on their way out."""

from __future__ import annotations

import pytest
from trio.testing import wait_all_tasks_blocked

from knet_trio._core.onwire import Data, decode_untrusted
from knet_trio._core.policy import LinkPolicy
from knet_trio._crypto.aead import read_header_untrusted
from knet_trio._crypto.life import Life
from knet_trio.address import Address
from knet_trio.config import CryptoConfig
from tests.pipeline.sending import make, message, running, send
from tests.state.fakes import KEY, World, address

CONFIG = CryptoConfig(KEY, model="aead")


def make_sealing(*hosts: int, policy: LinkPolicy = LinkPolicy.PASSIVE, links: int = 1) -> World:
    """A node whose packets are sealed from now on."""
    world = make(*hosts, policy=policy, links=links)
    world.context.crypto.replace(CONFIG)
    world.endpoint.sent.clear()
    return world


def sent_to(world: World, destination: Address) -> list[tuple[bytes, Data]]:
    """The envelopes of data that went somewhere, and what is in them."""
    (sealer,) = world.context.crypto.aead
    found: list[tuple[bytes, Data]] = []
    for sent in world.endpoint.sent:
        packet = decode_untrusted(sealer.open_untrusted(sent.datagram))
        if sent.destination == destination and isinstance(packet, Data):
            found.append((sent.datagram, packet))
    return found


def to_of(envelope: bytes) -> int | None:
    header = read_header_untrusted(envelope)
    assert header is not None
    return header.to


async def test_what_is_for_everybody_is_sealed_once() -> None:
    world = make_sealing(2, 3)
    await send(world, message())
    first, second = (sent_to(world, address(10 * host)) for host in (2, 3))
    assert first == second
    ((envelope, packet),) = first
    assert to_of(envelope) is None
    assert packet.broadcast


async def test_what_is_for_some_is_sealed_for_each_with_one_number() -> None:
    world = make_sealing(2, 3)
    await send(world, message(b"x" * 2000, to=[2, 3]), message(to=[3]))
    first, second = (sent_to(world, address(10 * host)) for host in (2, 3))
    assert {to_of(envelope) for envelope, _ in first} == {2}
    assert {to_of(envelope) for envelope, _ in second} == {3}
    assert [packet for _, packet in second][: len(first)] == [packet for _, packet in first]
    assert len(second) == len(first) + 1
    headers = [read_header_untrusted(envelope) for envelope, _ in (*first, *second)]
    assert len({header.counter for header in headers if header}) == len(headers)


async def test_what_goes_over_several_links_is_sealed_once() -> None:
    world = make_sealing(2, policy=LinkPolicy.ACTIVE, links=2)
    await send(world, message(to=[2]))
    assert sent_to(world, address(20)) == sent_to(world, address(21)) != []


async def test_what_found_no_room_goes_in_the_envelopes_that_it_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = 0
    take = Life.take

    def count(self: Life, number: int) -> range:
        nonlocal taken
        taken += number
        return take(self, number)

    monkeypatch.setattr(Life, "take", count)
    world = make_sealing(2)
    world.endpoint.room = 0
    async with running(world) as transmitter:
        await transmitter.send(*message(to=[2]))
        assert sent_to(world, address(20)) == []
        # A lane that is sent from again knows only then whether there is room.
        world.handle.hosts[2].network_links[0].sender.send_socket.full = False
        world.context.on_room([2])
        await wait_all_tasks_blocked()
        world.endpoint.room = 100
        world.handle.hosts[2].network_links[0].sender.send_socket.full = False
        world.context.on_room([2])
        await transmitter.flush()
    assert len(sent_to(world, address(20))) == 1
    assert taken == 1


async def test_what_waits_is_sealed_in_the_life_of_when_it_leaves() -> None:
    world = make_sealing(2)
    world.endpoint.room = 0
    lives = [world.context.crypto.life.name]
    async with running(world) as transmitter:
        await transmitter.send(*message(to=[2]))
        await transmitter.send(*message())
        world.context.crypto.life.renew()
        lives.append(world.context.crypto.life.name)
        world.endpoint.room = 100
        world.handle.hosts[2].network_links[0].sender.send_socket.full = False
        world.context.on_room([2])
        await transmitter.flush()
    sent = sent_to(world, address(20))
    headers = [read_header_untrusted(envelope) for envelope, _ in sent]
    assert [header.life for header in headers if header] == [lives[1]] * 2
    assert lives[0] != lives[1]
