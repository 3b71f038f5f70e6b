"""What docs/running.md shows is so."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import trio

from knet_trio.channel_socket import serve_channel
from knet_trio.cluster import load_cluster
from tests.cluster import PATIENCE, open_pair, receive
from tests.cluster.files import write_key

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "running.md").read_text()


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return str(found)


def test_the_file_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "lab.toml").write_text(block("toml"))
    write_key(tmp_path / "lab.key")
    cluster = load_cluster(tmp_path / "lab.toml")
    assert [host.name for host in cluster.hosts] == ["alpha", "beta", "gamma"]
    assert cluster.warnings == ()
    assert f'connect("{cluster.channels[0].socket}")' in block("python")


async def test_the_program_gets_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "events.data"
    program = block("python").replace("/run/knet-trio/events.data", str(path))
    said = io.StringIO()

    def work() -> None:
        with redirect_stdout(said):
            exec(compile(program, "docs/running.md", "exec"), {})  # noqa: S102  # ours

    async with open_pair() as pair, serve_channel(pair.a, 2, path), trio.open_nursery() as nursery:
        channel = pair.b.open_channel(2)
        nursery.start_soon(trio.to_thread.run_sync, work)
        with trio.fail_after(PATIENCE):
            assert await receive(channel, 1) == [b"to all other hosts"]
            await channel.send(b"from another host")
    assert said.getvalue() == "b'from another host'\n"


def test_it_names_what_there_is() -> None:
    for name in re.findall(r"^cp (\S+)", PAGE, re.MULTILINE):
        assert (ROOT / "contrib" / "systemd" / name).exists(), name
