"""A replicated key-value store: it works as long as a majority of its copies reach each other.

Start three hosts in three terminals, each with a copy, and type ``set colour red`` and
``get colour``; then end one of them, set something, and start it again::

    head -c 128 /dev/urandom > key
    python examples/key_value.py key 1=127.0.0.1:5405 2=127.0.0.2:5405 3=127.0.0.3:5405
    python examples/key_value.py key 2=127.0.0.2:5405 1=127.0.0.1:5405 3=127.0.0.3:5405
    python examples/key_value.py key 3=127.0.0.3:5405 1=127.0.0.1:5405 2=127.0.0.2:5405

Of the hosts, the first is this one. With ``--copies 1 2 3`` at the end those have copies, and
others ask them.

There is no leader. ``set`` asks a majority which version they have, and returns when a majority has
the next one on disk. ``get`` asks a majority, and returns the newest; if they do not all have that,
it gives it to a majority first, so no later ``get`` finds an older one. Two majorities have a copy
in common, so reads and writes are linearizable (Attiya, Bar-Noy and Dolev, 1995). What a host has
missed it gets from the others when it is back. When ``set`` raises

- NoMajorityError: nothing was done, and nothing will be;
- UnknownOutcomeError: some may have the value. It is set now, later (over what somebody else has
  set meanwhile) or never, but not twice: once it has been replaced, it does not come back.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import trio

from knet_trio import CryptoConfig, Handle, open_handle
from knet_trio.streams import HostRequest, RefusedError, Streams, open_streams

TIMEOUT = 5.0
MAX_BYTES = 100_000
AT_ONCE = 50


class NoMajorityError(Exception):
    """Too few copies can be reached. Nothing was done."""


class UnknownOutcomeError(Exception):
    """The value may have been set, or be set in the end, but not twice."""


class Entry(NamedTuple):
    """A value; None says that there is none. Of two with one version, the larger draw is newer."""

    key: str
    version: int
    draw: int
    value: str | None


class Disk:
    """The copy on this host. What it has been given is on disk when the call returns."""

    def __init__(self, path: Path) -> None:
        # In autocommit mode: each statement is a transaction, whatever thread it comes from.
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, version INTEGER,"
            " draw INTEGER, value TEXT, change INTEGER UNIQUE) WITHOUT ROWID"
        )

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    async def keep(self, entry: Entry) -> None:
        """Keep an entry if it is newer than what is there. Each change has the next number."""
        await self._execute(
            "INSERT INTO entries VALUES (?, ?, ?, ?, (SELECT ifnull(max(change), 0) + 1 FROM"
            " entries)) ON CONFLICT (key) DO UPDATE SET (version, draw, value, change) ="
            " (excluded.version, excluded.draw, excluded.value, excluded.change)"
            " WHERE (excluded.version, excluded.draw) > (version, draw)",
            *entry,
        )

    async def newest(self, key: str) -> Entry:
        """Return the entry of a key."""
        rows = await self._execute(
            "SELECT key, version, draw, value FROM entries WHERE key = ?", key
        )
        return Entry(*rows[0]) if rows else Entry(key, 0, 0, None)

    async def since(self, change: int) -> list[Any]:
        """Return the first entries that were changed after that change, with their changes."""
        return await self._execute(
            "SELECT change, key, version, draw, value FROM entries WHERE change > ?"
            f" ORDER BY change LIMIT {AT_ONCE}",
            change,
        )

    async def _execute(self, statement: str, *values: object) -> list[Any]:
        def execute() -> list[Any]:
            return self._database.execute(statement, values).fetchall()

        return await trio.to_thread.run_sync(execute)


@dataclass(frozen=True)
class Cluster:
    """This host, and the ids of the hosts that have copies: the same ones for everybody."""

    handle: Handle
    streams: Streams
    copies: list[int]

    async def ask(self, host_id: int, *question: object) -> Any:
        """Ask a host that has a copy. RefusedError says that it has done nothing."""
        if not self.handle.get_host(host_id).status.reachable:
            raise RefusedError(f"host {host_id} cannot be reached")
        return json.loads(await self.streams.request(host_id, json.dumps(question).encode()))


class Replica:
    """The store, on a host that has a copy."""

    def __init__(self, cluster: Cluster, disk: Disk) -> None:
        self._cluster = cluster
        self._disk = disk

    async def set(self, key: str, value: str | None) -> None:
        """Set a value, None to delete it. Returns when a majority has it."""
        if len(key.encode()) + len((value or "").encode()) > MAX_BYTES:
            raise ValueError(f"key and value have more than {MAX_BYTES} bytes")
        version = max(entry.version for entry in await self._newest(key)) + 1
        # Drawn at random, so that no two writes are the same, whoever makes them.
        entry = Entry(key, version, random.getrandbits(63), value)
        try:
            await self._ask_majority("keep", entry)
        except NoMajorityError as error:
            raise UnknownOutcomeError(f"it may have been set: {error}") from error

    async def get(self, key: str) -> str | None:
        """Return the value that was set last, None if there is none."""
        entries = await self._newest(key)
        newest = max(entries, key=lambda entry: entry[:3])
        if any(entry != newest for entry in entries):
            await self._ask_majority("keep", newest)
        return newest.value

    async def _newest(self, key: str) -> list[Entry]:
        return [Entry(*answer) for answer in await self._ask_majority("newest", key)]

    async def _ask_majority(self, *question: object) -> list[Any]:
        """Ask all copies, and return the answers of those that are the first majority."""
        cluster = self._cluster
        majority = len(cluster.copies) // 2 + 1
        answers: list[Any] = []
        missing = {host_id: f"host {host_id} is too slow" for host_id in cluster.copies}

        async def ask_one(host_id: int) -> None:
            try:
                if host_id == cluster.handle.host_id:
                    answer = await self._do(list(question))
                else:
                    answer = await cluster.ask(host_id, *question)
            except trio.BrokenResourceError as error:
                missing[host_id] = str(error)
                return
            del missing[host_id]
            answers.append(answer)
            if len(answers) == majority:
                # Those that have not answered learn of it from the others.
                nursery.cancel_scope.cancel()

        with trio.move_on_after(TIMEOUT):
            async with trio.open_nursery() as nursery:
                for host_id in cluster.copies:
                    nursery.start_soon(ask_one, host_id)
        if len(answers) >= majority:
            return answers
        count = f"{len(answers)} of {len(cluster.copies)} copies answer, and {majority} have to"
        raise NoMajorityError(f"{count}: {'; '.join(missing.values())}")

    async def _do(self, question: object) -> Any:
        """Answer a question of this host or of another."""
        match question:
            case ["newest", str(key)]:
                return await self._disk.newest(key)
            case ["keep", [str(key), int(version), int(draw), (str() | None) as value]]:
                return await self._disk.keep(Entry(key, version, draw, value))
            case ["since", int(change)]:
                return await self._disk.since(change)
            case ["get", str(key)]:
                return await self.get(key)
            case ["set", str(key), (str() | None) as value]:
                return await self.set(key, value)
            case _:
                raise ValueError("no such question")

    async def serve(self) -> None:
        """Answer the questions of other hosts."""
        async with self._cluster.streams.requests() as requests, trio.open_nursery() as nursery:
            async for request in requests:
                nursery.start_soon(self._answer, request)

    async def _answer(self, request: HostRequest) -> None:
        async with request:
            try:
                answer = await self._do(json.loads(request.data))
            except (NoMajorityError, ValueError) as error:
                # Nothing was done, and the other host is told so.
                await request.refuse(str(error))
            except UnknownOutcomeError as error:
                request.fail(str(error))
            else:
                # If nobody waits for it any more, that is no trouble of this host.
                with suppress(trio.BrokenResourceError):
                    await request.answer(json.dumps(answer).encode())

    async def follow(self, host_id: int) -> None:
        """Keep what another copy has and this one has missed."""
        seen = 0
        while True:
            changes: list[list[Any]] = []
            # While it is away, it is asked again and again.
            with suppress(trio.BrokenResourceError):
                changes = await self._cluster.ask(host_id, "since", seen)
            for change, *entry in changes:
                await self._disk.keep(Entry(*entry))
                seen = change
            if not changes:
                await trio.sleep(1)


class Client:
    """The store, on a host that has no copy: it asks one that has."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def set(self, key: str, value: str | None) -> None:
        """Set a value, None to delete it. Returns when a majority has it."""
        await self._ask_one("set", key, value)

    async def get(self, key: str) -> str | None:
        """Return the value that was set last, None if there is none."""
        value: str | None = await self._ask_one("get", key)
        return value

    async def _ask_one(self, *question: object) -> Any:
        reasons: list[str] = []
        for host_id in self._cluster.copies:
            try:
                return await self._cluster.ask(host_id, *question)
            except RefusedError as error:
                # It has done nothing, so another one may.
                reasons.append(str(error))
            except trio.BrokenResourceError as error:
                # It may have done it. To set it twice could undo what others have set in between;
                # to read twice does no harm.
                if question[0] == "set":
                    raise UnknownOutcomeError(f"it may have been set: {error}") from error
                reasons.append(str(error))
        raise NoMajorityError("; ".join(reasons))


@asynccontextmanager
async def open_store(
    handle: Handle, copies: Collection[int], path: Path
) -> AsyncGenerator[Replica | Client]:
    """The store. If this host is among those that have a copy, that is in the file ``path``."""
    async with open_streams(handle, channel=7, patience=TIMEOUT) as streams:
        cluster = Cluster(handle, streams, sorted(copies))
        if handle.host_id not in copies:
            yield Client(cluster)
            return
        with closing(Disk(path)) as disk:
            async with trio.open_nursery() as nursery:
                replica = Replica(cluster, disk)
                nursery.start_soon(replica.serve)
                for host_id in cluster.copies:
                    if host_id != handle.host_id:
                        nursery.start_soon(replica.follow, host_id)
                yield replica
                nursery.cancel_scope.cancel()


async def do(store: Replica | Client, command: str) -> str:
    """Do what a line says."""
    try:
        match command.split(maxsplit=2):
            case ["get", key]:
                return f"{key} is {await store.get(key)!r}"
            case ["set", key, *value]:
                await store.set(key, value[0].strip() if value else None)
                return f"{key} is set"
            case _:
                return "get KEY, set KEY VALUE, or set KEY"
    except (NoMajorityError, UnknownOutcomeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


async def talk(arguments: argparse.Namespace, crypto: CryptoConfig) -> None:
    """Take part in the cluster, and do what comes on standard input."""
    (host_id, here), peers = arguments.me, arguments.peers
    copies = arguments.copies or [host_id, *(peer_id for peer_id, _ in peers)]
    path = arguments.key.with_name(f"store-{host_id}.db")
    async with open_handle(host_id, crypto=crypto) as handle:
        for peer_id, there in peers:
            peer = handle.add_host(peer_id)
            await peer.add_link(0, here, there, ping_interval=0.2, pong_timeout=1)
        async with open_store(handle, copies, path) as store:
            print(f"host {host_id} is running", flush=True)
            rest = b""
            # Not sys.stdin, which would keep this process from ending while a thread reads there.
            while part := await trio.to_thread.run_sync(os.read, 0, 65536, abandon_on_cancel=True):
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    print(await do(store, line.decode(errors="replace")), flush=True)


def parse_host(text: str) -> tuple[int, str]:
    """Split ``1=127.0.0.1:5405``."""
    host_id, _, address = text.partition("=")
    return int(host_id), address


def main() -> None:
    """Run until the end of standard input, or Ctrl-C. What is set is on disk, so kill will do."""
    parser = argparse.ArgumentParser(description="A host of a replicated key-value store.")
    parser.add_argument("key", type=Path, help="the cluster's key; the copy is in a file beside it")
    parser.add_argument("me", type=parse_host, metavar="ID=ADDRESS")
    parser.add_argument("peers", type=parse_host, metavar="ID=ADDRESS", nargs="+")
    parser.add_argument("--copies", type=int, metavar="ID", nargs="+", help="those that have one")
    arguments = parser.parse_args()
    try:
        trio.run(talk, arguments, CryptoConfig(key=arguments.key.read_bytes()))
    except* KeyboardInterrupt:
        print(f"host {arguments.me[0]} ends")


if __name__ == "__main__":
    main()
