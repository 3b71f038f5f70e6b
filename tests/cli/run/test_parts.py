"""What runs beside the handle, when the file changes: all or nothing."""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
import trio

from knet_trio.control import ControlRequestError, connect_control
from tests.channel_socket.programs import connected
from tests.cli.commands import run
from tests.cli.run.supervising import GAMMA, make_lab, running
from tests.interop.namespaces import namespace_pair
from tests.ports import free_tcp_port

MORE = '[[channels]]\nchannel = 3\nsocket = "more-{id}.data"\nmode = "0666"\n'
TAP = '[tap]\nname = "knet0"\nchannel = 1\naddress = "10.99.0.{id}/24"\n'


async def ask(path: Path) -> list[str]:
    """Have the file read again by the control socket; what has changed."""
    async with connect_control(path) as client:
        result: Any = await client.reload()
    changes: list[str] = result["changes"]
    return changes


async def refused(path: Path) -> str:
    """The same, for a file that cannot be taken over."""
    async with connect_control(path) as client:
        with pytest.raises(ControlRequestError) as caught:
            await client.reload()
        return caught.value.reason


async def test_what_changes_and_what_cannot(tmp_path: Path) -> None:
    lab = make_lab(tmp_path)
    first = lab.text
    port = free_tcp_port()
    metrics = f'[metrics]\nlisten = "127.0.0.1:{port}"\n'
    async with running(lab.path, "alpha") as alpha:
        with connected(lab.channel(1)) as untouched:
            # Others are there beside those that were.
            lab.write(first + metrics + MORE)
            channels, served = await ask(lab.control(1))
            assert re.match("channels: .* channel=3 .* mode=0666, it was channel=2 ", channels)
            assert served == f"metrics: added, listen=127.0.0.1:{port}"
            with connected(tmp_path / "more-1.data"):
                pass
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.aclose()

            async with connect_control(lab.control(1)) as client:
                with pytest.raises(ControlRequestError, match="takes no parameters: leave out now"):
                    await client.reload(now=True)

            # Nothing is left of what could not be done as a whole.
            with socket.create_server(("127.0.0.1", 0)) as taken:
                other = f"127.0.0.1:{taken.getsockname()[1]}"
                lab.write(first + f'[metrics]\nlisten = "{other}"\n' + GAMMA)
                assert f"cannot serve metrics at {other}: Address already in use" in await refused(
                    lab.control(1)
                )
            lab.write(first.replace("port =", "privileged = true\nport ="))
            assert "privileged cannot change while the host runs" in await refused(lab.control(1))
            async with connect_control(lab.control(1)) as client:
                assert [host.name for host in (await client.status()).hosts] == ["beta"]
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.aclose()
            with connected(tmp_path / "more-1.data"):
                pass
            untouched.sock.send(b"still there")
            with pytest.raises(BlockingIOError):
                untouched.sock.recv(1)

            # The one over which it was asked for goes, when it has given the answer.
            lab.write(first.replace("lab-{id}.sock", "other-{id}.sock"))
            assert len(await ask(lab.control(1))) == 3
            assert "more-1.data" not in os.listdir(tmp_path)
            assert await ask(tmp_path / "other-1.sock") == []

            # What differs is closed, and opened anew.
            lab.write(lab.text.replace("events-", "new-"))
            assert len(await ask(tmp_path / "other-1.sock")) == 1
            assert await untouched.receive() == b""
            with connected(tmp_path / "new-1.data"):
                pass
        alpha.signal(signal.SIGTERM)
        assert await alpha.status() == 0


@pytest.mark.usefixtures("taps")
async def test_a_tap_that_somebody_deletes_is_made_again(tmp_path: Path) -> None:
    lab = make_lab(tmp_path, TAP)
    with namespace_pair(links=1) as places:
        within = places.within(0)
        async with running(lab.path, "alpha", within=within) as alpha:
            assert "10.99.0.1/24" in places.run(0, "ip", "address", "show", "knet0")
            places.run(0, "ip", "link", "delete", "knet0")
            await alpha.line("error .*the tap knet0 has ended: somebody has deleted the tap")
            alpha.signal(signal.SIGHUP)
            await alpha.line("started: the tap knet0")
            await alpha.line("nothing has changed")
            # An address that covers the one before, with its port.
            for listen in ("127.0.0.1", "0.0.0.0"):  # in a namespace
                lab.write(f'{lab.text}[metrics]\nlisten = "{listen}:9905"\n')
                alpha.signal(signal.SIGHUP)
                await alpha.line(f"reloaded: metrics: .*listen={listen}:9905")
                lab.text = lab.text.partition("[metrics]")[0]
            alpha.signal(signal.SIGTERM)
            assert await alpha.status() == 0
        # Of all that root may, but not what a tap needs.
        without = [*within, "setpriv", "--bounding-set=-net_admin"]
        done = await run("run", lab.path, "--host", "alpha", within=without)
    assert done.status == 3
    (said,) = [line for line in done.errors.splitlines() if "error" in line]
    assert "tap device knet0: Operation not permitted; it takes CAP_NET_ADMIN" in said
