"""The objects that a program holds take no attributes that they do not have."""

from __future__ import annotations

import pickle
import weakref

import pytest

from knet_trio import (
    AclEntry,
    CompressConfig,
    InvalidArgumentError,
    LinkConfig,
    Unicast,
    UnknownAttributeError,
    open_handle,
)
from tests.cluster import LOCALHOST

HERE = (LOCALHOST, 0)
THERE = (LOCALHOST, 5405)


class TestAttributes:
    async def test_a_misspelt_one_is_refused_with_the_right_one(self) -> None:
        async with open_handle(1) as handle:
            host = handle.add_host(2)
            link = await host.add_link(0, HERE, THERE)
            for thing, name, words in (
                (handle, "hegde", "did you mean hedge"),
                (host, "polcy", "did you mean policy"),
                (link, "enable", "did you mean enabled"),
                (handle.open_channel(), "xyz", "it has no attributes that can be set"),
                (handle, "policy", "each host has its own: write `host.policy"),
                (host, "priority", "each link has its own"),
                (link, "xyz", "use one of enabled, pong_count, priority"),
            ):
                with pytest.raises(UnknownAttributeError, match=words) as caught:
                    setattr(thing, name, True)
                assert isinstance(caught.value, InvalidArgumentError | AttributeError)
                assert not hasattr(thing, name)

    async def test_one_that_can_only_be_read_says_what_changes_it(self) -> None:
        async with open_handle(1) as handle:
            host = handle.add_host(2)
            link = await host.add_link(0, HERE, THERE)
            channel = handle.open_channel()
            for thing, name, words in (
                (handle, "forwarding", r"`await handle\.set_forwarding\(False\)`"),
                (handle, "host_id", "it can only be read"),
                (host, "links", r"await host\.add_link"),
                (link, "config", "set_ping_timers"),
                (link, "acl", r"link\.acl\.append"),
                (channel, "channel", "open another channel"),
            ):
                with pytest.raises(UnknownAttributeError, match=words):
                    setattr(thing, name, getattr(thing, name))

    async def test_weak_references_and_equality_are_as_usual(self) -> None:
        async with open_handle(1) as handle:
            host = handle.add_host(2)
            link = await host.add_link(0, HERE, THERE)
            for thing in (handle, host, link, handle.open_channel()):
                assert weakref.ref(thing)() is thing
                assert len({thing, thing}) == 1
                assert not hasattr(thing, "__dict__")

    def test_records_can_be_copied_to_other_processes(self) -> None:
        for record in (
            LinkConfig(0, "10.0.0.1:5405", "10.0.0.2:5405"),
            AclEntry.address("10.0.0.1"),
            CompressConfig("zlib"),
            Unicast([2, "beta"]),
        ):
            assert pickle.loads(pickle.dumps(record)) == record  # noqa: S301
