"""Hosts are killed in the middle of each phase, and start again, while messages flow."""

from __future__ import annotations

import json
import os
from pathlib import Path

import trio

from tests.cli.commands import Done, run
from tests.cluster import KEY, PATIENCE
from tests.rekeying.processes import HostProcess, open_hosts, wait_reachable

# Messages a second of each host, to all others; a machine with few cores has not much more to give.
RATE = float(os.environ.get("KNET_TRIO_REKEY_RATE", "40"))


async def rekey_at(host: HostProcess) -> Done:
    return await run("rekey", "--json", "--socket", str(host.socket))


async def kill_in(host: HostProcess, step: str) -> None:
    """Kill a host as soon as it is in that step, and start it again."""
    assert await host.read() == {"held": step}
    await host.kill()
    await host.start()


async def assert_nothing_lost(hosts: dict[int, HostProcess], killed: set[int]) -> None:
    """Among those that lived all the time."""
    living = hosts.keys() - killed
    for host_id in living:
        counts = (await hosts[host_id].call("count"))["counts"]
        for other in living - {host_id}:
            came, missing = counts[str(other)]
            assert (came > 10, missing) == (True, 0), (host_id, other, counts)


async def test_five_hosts_get_new_keys_whoever_is_killed(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE):
        async with open_hosts(tmp_path, 5, rate=RATE) as hosts:
            # One host in each phase.
            steps = {3: "after set", 4: "after use", 5: "before clear"}
            async with trio.open_nursery() as nursery:
                for host_id, step in steps.items():
                    await hosts[host_id].call("hold", step=step)
                    nursery.start_soon(kill_in, hosts[host_id], step)
                done = await rekey_at(hosts[1])
            said = json.loads(done.output)
            assert (done.status, said["done"]) == (0, True), said
            await assert_nothing_lost(hosts, set(steps))
            (first,) = {host.key for host in hosts.values()}
            assert first != KEY[:256]
            assert not any(host.is_changing for host in hosts.values())
            await wait_reachable(hosts)
            # And the one that does it, whose change another one goes on with.
            await hosts[5].call("hold", step="before use")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(kill_in, hosts[5], "before use")
                done = await rekey_at(hosts[5])
            assert (done.status, done.output) == (3, "")
            assert hosts[2].is_changing
            done = await rekey_at(hosts[2])
            said = json.loads(done.output)
            assert (done.status, said["done"], said["resumed"]) == (0, True, True), said
            assert said["began_by"] == 5
            await assert_nothing_lost(hosts, {5})
            (second,) = {host.key for host in hosts.values()}
            assert second not in (first, KEY[:256])
            for host in hosts.values():
                path = host.file.with_name("lab.key")
                assert path.stat().st_mode & 0o777 == 0o400
                # Nothing of a change is left behind.
                names = {one.name for one in path.parent.iterdir()}
                assert names == {"c.sock", "lab.key", "lab.toml"}
