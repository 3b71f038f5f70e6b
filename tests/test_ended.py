"""Calls on what was removed, and on handles that have ended, say so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from knet_trio import (
    AclEntry,
    Channel,
    UnknownLinkError,
    open_handle,
)
from tests.cluster import LOCALHOST

HERE = (LOCALHOST, 0)
THERE = (LOCALHOST, 5405)


class TestRemoved:
    async def test_waiting_says_what_was_removed(self) -> None:
        async with open_handle(1) as handle:
            host = handle.add_host(2)
            link = await host.add_link(0, HERE, THERE)
            await link.remove()
            with pytest.raises(trio.ClosedResourceError, match="link 0 to host 2 was removed"):
                await link.wait_connected()
            await host.remove()
            with pytest.raises(trio.ClosedResourceError, match=r"^host 2 was removed"):
                await host.wait_reachable()

    async def test_waiting_says_that_the_handle_has_ended(self) -> None:
        async with open_handle(1) as handle:
            host = handle.add_host(2)
            link = await host.add_link(0, HERE, THERE)
        for wait in (host.wait_reachable, link.wait_connected, link.wait_disconnected):
            with pytest.raises(trio.ClosedResourceError, match=r"^the handle has ended"):
                await wait()

    async def test_a_link_explains_that_it_was_removed(self) -> None:
        async with open_handle(1) as handle:
            link = await handle.add_host(2).add_link(0, HERE, THERE)
            await link.remove()
            assert "is down: it was removed; add_link makes another one" in link.explain()
            assert "enabled" not in link.explain()

    async def test_its_access_list_can_be_read_and_not_changed(self) -> None:
        entry = AclEntry.address("10.0.0.1")
        async with open_handle(1) as handle:
            link = await handle.add_host(2).add_link(0, HERE, THERE)
            left = await handle.add_host(3).add_link(0, HERE, THERE)
            await link.remove()
            changes: tuple[Callable[[], None], ...] = (
                lambda: link.acl.append(entry),
                lambda: link.acl.insert(0, entry),
                lambda: link.acl.remove(entry),
                link.acl.clear,
            )
            for change in changes:
                with pytest.raises(UnknownLinkError, match="link 0 to host 2 was removed"):
                    change()
            assert list(link.acl) == [AclEntry.address(LOCALHOST)]
        with pytest.raises(trio.ClosedResourceError, match="the handle has ended"):
            left.acl.clear()

    async def test_nothing_of_an_ended_handle_can_be_set(self) -> None:
        async with open_handle(1) as handle:
            pass
        changes: dict[str, Callable[[], object]] = {
            "filter": lambda: handle.set_filter(None),
            "crypto": lambda: handle.set_crypto(None),
            "use": lambda: handle.use_crypto(0),
            "replace": lambda: handle.replace_crypto(None),
            "compress": lambda: handle.set_compress(None),
            "level": lambda: handle.set_log_level("link", "info"),
            "clear": handle.clear_statistics,
            "host": lambda: handle.add_host(2),
            **{
                name: lambda name=name: setattr(handle, name, getattr(handle, name))  # type: ignore[misc]
                for name in ("mtu", "pmtud_interval", "access_lists", "hedge", "dscp")
            },
        }
        for change in changes.values():
            with pytest.raises(trio.ClosedResourceError, match="the handle has ended"):
                change()
        assert handle.statistics().tx_uncompressed_packets == 0


async def test_calls_after_a_bug_say_that_it_was_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    calls: list[Callable[[Channel], Awaitable[None]]] = [
        lambda channel: channel.send(b"x"),
        lambda channel: channel.send_many([b"x"]),
        lambda channel: channel.send_sync(b"x", to=2),
    ]
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with open_handle(1) as handle:
            handle.add_host(2)
            channel = handle.open_channel(0)
            monkeypatch.setattr("knet_trio._pipeline.transmitter.Batch", bug)
            with trio.CancelScope(shield=True):
                for call in calls:
                    with pytest.raises(
                        trio.ClosedResourceError, match=r"a bug .*ZeroDivisionError"
                    ):
                        await call(channel)
