"""A new key for hosts that run as services, while programs talk to each other."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

from tests.channel_socket.programs import connected
from tests.cli.commands import run
from tests.cli.run.supervising import Lab, make_lab, running
from tests.cli.run.test_run import ALL_UP, flow


async def test_by_the_command(tmp_path: Path) -> None:
    one, other = make_both(tmp_path)
    keys = [lab.path.with_name("lab.key") for lab in (one, other)]
    before = keys[0].read_bytes()
    async with running(one.path, "alpha") as alpha, running(other.path, "beta") as beta:
        for service in (alpha, beta):
            await service.wait_status(ALL_UP)
        wrong = await run("rekey", "--model", "aed", "--socket", one.control(1))
        assert (wrong.status, wrong.output) == (2, "")
        assert wrong.errors.startswith("knet-trio: crypto model 'aed' is not known; use one of")
        assert [key.read_bytes() for key in keys] == [before, before]
        with connected(one.channel(1)) as here, connected(other.channel(2)) as there:
            async with flow(here, there), flow(there, here):
                done = await run("rekey", "--socket", one.control(1))
            assert done.status == 0, done.errors
            assert done.output.startswith(
                "the key is changed: 2 hosts have only the new one, with aes256 and sha256\n"
            )
            seen = await run("rekey", "--status", "--socket", other.control(2))
            assert (seen.status, seen.output) == (0, "no change of the key is in progress\n")
            assert keys[0].read_bytes() == keys[1].read_bytes() != before
            # The new key is what the file says, as far as the host is concerned.
            beta.signal(signal.SIGHUP)
            await beta.line("reloaded: nothing has changed")
            async with flow(here, there), flow(there, here):
                pass


def make_both(directory: Path) -> tuple[Lab, Lab]:
    """The same file and the same key on two machines, as it were."""
    places = [directory / "one", directory / "other"]
    places[0].mkdir()
    one = make_lab(places[0])
    one.write(one.text.replace('name = "lab"\n', 'name = "lab"\nservice_channel = 31\n'))
    shutil.copytree(places[0], places[1])
    return one, Lab(places[1] / one.path.name, one.text)
