"""Mistakes of whoever runs a host: each is one line, and a status that means something."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from knet_trio.cli.run.command import run
from tests.cli.commands import started
from tests.cli.run.supervising import Lab, make_lab
from tests.cluster import PATIENCE
from tests.kernel import kernel_has_sctp


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return make_lab(tmp_path)


def port_of(lab: Lab) -> int:
    return int(lab.text.partition("port = ")[2].partition("\n")[0])


def mistake(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """The status of a run that cannot be, and its one line with an error."""
    with pytest.raises(SystemExit) as caught:
        run.main([str(argument) for argument in arguments], prog_name="knet-trio run")
    said = capfd.readouterr()
    assert said.out == ""
    lines = [line for line in said.err.splitlines() if "  error    " in line]
    assert len(lines) == 1, said.err
    assert isinstance(caught.value.code, int)
    return caught.value.code, lines[0]


def test_the_file_is_not_there(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    status, said = mistake(capfd, lab.path.with_name("no.toml"))
    assert "no.toml: the cluster file cannot be read: No such file" in said
    assert status == 2


def test_the_key_is_for_everybody(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    lab.path.with_name("lab.key").chmod(0o644)
    status, said = mistake(capfd, lab.path)
    assert "lab.toml:3:12: cluster.key_file: other users may read or write the key file" in said
    assert status == 2


def test_the_host_is_not_known(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    status, said = mistake(capfd, lab.path, "--host", "gamma")
    assert "the file has no host 'gamma'; its hosts are alpha (1), beta (2)" in said
    assert status == 2
    status, said = mistake(capfd, lab.path)
    assert "this machine has the addresses of several hosts" in said
    assert "choose one with --host: alpha, beta" in said
    assert "host=" not in said
    assert status == 2
    lab.write(lab.text.replace("127.0.0.", "203.0.113."))
    status, said = mistake(capfd, lab.path)
    assert "this machine has no address of a host of" in said
    assert status == 2


def test_the_control_socket_is_in_use(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(lab.control(1)))
        other.listen()
        status, said = mistake(capfd, lab.path, "--host", "alpha")
    running = f"host 1 (alpha) seems to be running already: process {os.getpid()} already serves"
    assert f"{running} {lab.control(1)}: stop it first" in said
    assert status == 3
    assert not lab.channel(1).exists()


def test_there_is_no_key(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    text = lab.text.replace('key_file = "lab.key"\n', "")
    said = (
        "warning  packets are not encrypted: there is no key_file, so anybody who can send to these"
    )
    for address, warns in (("127.0.0.1", False), ("203.0.113.1", True)):
        # Something else is wrong too, so that the command ends.
        lab.write(
            text.replace('"127.0.0.1"', f'"{address}"') + "[metrics]\nlisten = '192.0.2.1:1'\n"
        )
        with pytest.raises(SystemExit):
            run.main([str(lab.path), "--host", "alpha"], prog_name="knet-trio run")
        assert (said in capfd.readouterr().err) is warns


def test_a_port_is_in_use(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", port_of(lab)))
        status, said = mistake(capfd, lab.path, "--host", "alpha")
    assert f"127.0.0.1:{port_of(lab)}: Address already in use" in said
    assert status == 3


@pytest.mark.skipif(kernel_has_sctp(), reason="this kernel has SCTP")
def test_the_kernel_has_no_sctp(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    lab.write(lab.text + "[cluster.link.0]\ntransport = 'sctp'\n")
    status, said = mistake(capfd, lab.path, "--host", "alpha")
    assert f"cannot bind SCTP 127.0.0.1:{port_of(lab)}: this kernel has no SCTP" in said
    assert "`modprobe sctp`" in said
    assert status == 3


def test_there_is_no_such_group(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    lab.write(lab.text.replace("channel = 2", 'channel = 2\ngroup = "nobody-here"'))
    status, said = mistake(capfd, lab.path, "--host", "alpha")
    assert "group 'nobody-here' does not exist on this machine" in said
    assert status == 2


def test_what_metrics_need_is_missing(
    lab: Lab, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.write(lab.text + '[metrics]\nlisten = "127.0.0.1:9905"\n')
    # Other tests may have imported it.
    for name in [name for name in sys.modules if name.startswith("knet_trio.metrics")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    status, said = mistake(capfd, lab.path, "--host", "alpha")
    assert "[metrics], and prometheus_client is missing: pip install 'knet-trio[metrics]'" in said
    assert status == 2


async def test_one_signal_is_enough_while_the_file_does_not_come(tmp_path: Path) -> None:
    """As from a network file system, or by way of a resolver that does not answer."""
    file = tmp_path / "lab.toml"
    os.mkfifo(file)
    async with started("run", file) as process:
        writer = -1
        while writer < 0:
            await trio.sleep(0.01)
            # There is nobody to read yet.
            with suppress(OSError):
                writer = os.open(file, os.O_WRONLY | os.O_NONBLOCK)
        process.send_signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE):
            assert await process.wait() == 0
        os.close(writer)


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["--hots", "alpha", "a"]])
def test_wrong_arguments(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run.main(arguments)
    assert caught.value.code == 2
    assert "Usage:" in capfd.readouterr().err
