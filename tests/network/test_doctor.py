"""Each finding of the doctor: the fault is made, and the real command sees it, and no other fault.

All of them lie in one set-up and are looked at a few at a time; each test has the outcome of one.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs
import pytest
import trio
import trio.lowlevel

from knet_trio import AclEntry, CompressConfig, CryptoConfig, Handle, open_handle
from knet_trio._core.onwire import Data, encode_data
from knet_trio._state.network_link import NetworkLinkState
from knet_trio.cli.doctor.command import ONLY_WARNINGS
from knet_trio.cli.findings import FindingCode
from knet_trio.cluster import KeyChange, KeyChangeFiles, open_cluster
from knet_trio.control import serve_control
from knet_trio.rekeying import serve_rekeying
from tests.cli.commands import Done, run
from tests.cluster import wait_for
from tests.cluster.files import write_file
from tests.network.ward import (
    CRYPTO,
    HERE,
    KEY,
    THERE,
    Patients,
    Ward,
    open_program,
    up,
)
from tests.network.wires import open_wires

SECONDS: Final = 1.0
AT_ONCE: Final = 4
LIMIT: Final = 120.0
# Wire 0 is good; the others are for one patient each.
WIRES: Final = 6
GOOD, LOSSY, SLOW, NARROW, TOO_SLOW, SMALL = range(WIRES)


@attrs.frozen
class Case:
    """A fault.

    Attributes:
        codes: The findings worse than ok that it has, and no others.
        says: What is in the text of one of them.
    """

    codes: frozenset[FindingCode]
    says: str


FINDS: Final = "test_the_fault_is_found"
CASES: Final[dict[str, Case]] = {}
Lie: TypeAlias = Callable[[Ward], AsyncGenerator[Path]]
LieWith: TypeAlias = Callable[[Ward, Handle], AsyncGenerator[None]]
PATIENTS: Final[dict[str, Lie]] = {}
PEERS: Final[dict[str, LieWith]] = {}


def patient(*codes: FindingCode, says: str = "") -> Callable[[Lie], Lie]:
    """Make a case of a function that makes a patient with a fault, and gives its control socket."""

    def add(lie: Lie) -> Lie:
        CASES[lie.__name__] = Case(frozenset(codes), says)
        PATIENTS[lie.__name__] = lie
        return lie

    return add


def peer(*codes: FindingCode, says: str = "") -> Callable[[LieWith], LieWith]:
    """Make a case of a function that gives one patient a host of that name, with a fault.

    All these hosts are looked at together.
    """

    def add(lie: LieWith) -> LieWith:
        CASES[lie.__name__] = Case(frozenset(codes), says)
        PEERS[lie.__name__] = lie
        return lie

    return add


# All is well.


@patient()
async def healthy(ward: Ward) -> AsyncGenerator[Path]:
    async with ward.open() as pair:
        await ward.join(pair, link_id=1, port=pair.port + 1)
        await up(pair)
        yield pair.path


@patient()
async def disabled_here(ward: Ward) -> AsyncGenerator[Path]:
    async with ward.open() as pair:
        await ward.join(pair, link_id=1, port=pair.port + 1, enabled=False)
        await up(pair)
        yield pair.path


# The ends are not configured alike.


@peer(FindingCode.KEY_MISMATCH)
async def wrong_key(ward: Ward, a: Handle) -> AsyncGenerator[None]:
    async with ward.meet(a, "wrong_key", crypto=CryptoConfig(KEY[::-1])):
        yield


@peer(FindingCode.HASH_MISMATCH, says="hash sha1")
async def wrong_hash(ward: Ward, a: Handle) -> AsyncGenerator[None]:
    async with ward.meet(a, "wrong_hash", crypto=CryptoConfig(KEY, hash="sha1")):
        yield


@peer(FindingCode.CIPHER_MISMATCH, says="cipher aes128")
async def wrong_cipher(ward: Ward, a: Handle) -> AsyncGenerator[None]:
    async with ward.meet(a, "wrong_cipher", crypto=CryptoConfig(KEY, cipher="aes128")):
        yield


@patient(FindingCode.CIPHER_MISMATCH)
async def wrong_stream_cipher(ward: Ward) -> AsyncGenerator[Path]:
    here = {"crypto": CryptoConfig(KEY, cipher="aes256-ctr")}
    async with ward.open(here=here, there={"crypto": CryptoConfig(KEY, cipher="none")}) as pair:
        yield pair.path


@peer(FindingCode.MODEL_MISMATCH, says="model aead, which no crypto slot of this host has")
async def other_envelope_there(ward: Ward, a: Handle) -> AsyncGenerator[None]:
    async with ward.meet(a, "other_envelope_there", crypto=CryptoConfig(KEY, model="aead")):
        yield


@patient(FindingCode.MODEL_MISMATCH, says="cipher aes256 and hash sha256: this host")
async def other_envelope_here(ward: Ward) -> AsyncGenerator[Path]:
    async with ward.open(here={"crypto": CryptoConfig(KEY, model="aead")}) as pair:
        yield pair.path


@patient(FindingCode.KEY_MISMATCH)
async def wrong_key_of_model_aead(ward: Ward) -> AsyncGenerator[Path]:
    here, there = ({"crypto": CryptoConfig(key, model="aead")} for key in (KEY, KEY[::-1]))
    async with ward.open(here=here, there=there) as pair:
        yield pair.path


@peer(FindingCode.CRYPTO_OFF, says="are not sealed")
async def no_key_there(ward: Ward, a: Handle) -> AsyncGenerator[None]:
    async with ward.meet(a, "no_key_there", crypto=None):
        yield


@patient(FindingCode.CRYPTO_OFF, FindingCode.NOT_ENCRYPTED, says="this host has no key")
async def no_key_here(ward: Ward) -> AsyncGenerator[Path]:
    async with ward.open(here={"crypto": None}) as pair:
        yield pair.path


@patient(FindingCode.KEY_MISMATCH)
async def wrong_key_of_a_dynamic_link(ward: Ward) -> AsyncGenerator[Path]:
    async with ward.open(None, there={"crypto": CryptoConfig(KEY[::-1])}) as pair:
        link = await ward.add(HERE, pair, dst=None)
        link.acl.append(AclEntry.address(ward.address(THERE)))
        await ward.add(THERE, pair)
        yield pair.path


@peer(FindingCode.HOST_ID_MISMATCH, says="names host 1")
async def wrong_host_id(ward: Ward, a: Handle) -> AsyncGenerator[None]:
    async with ward.meet(a, "wrong_host_id", wrong_id=True):
        yield


@peer(FindingCode.LINK_ID_MISMATCH)
async def wrong_link_id(ward: Ward, a: Handle) -> AsyncGenerator[None]:
    async with ward.meet(a, "wrong_link_id", None) as pair:
        await ward.add(HERE, pair, link_id=0)
        await ward.add(THERE, pair, link_id=3)
        yield


@peer(FindingCode.LINK_ID_MISMATCH)
async def crossed_links(ward: Ward, a: Handle) -> AsyncGenerator[None]:
    async with ward.meet(a, "crossed_links", None) as pair:
        for link_id in (0, 1):
            await ward.add(HERE, pair, link_id=link_id, port=pair.port + link_id)
            await ward.add(THERE, pair, link_id=1 - link_id, port=pair.port + link_id)
        yield


@peer(FindingCode.ADDRESS_MISMATCH)
async def wrong_port(ward: Ward, a: Handle) -> AsyncGenerator[None]:
    async with ward.meet(a, "wrong_port", None) as pair:
        await ward.add(HERE, pair)
        await ward.add(THERE, pair, port=pair.port + 1, to_port=pair.port)
        yield


@peer(FindingCode.TIMERS)
async def timers_that_cannot_work(ward: Ward, a: Handle) -> AsyncGenerator[None]:
    async with ward.meet(a, "timers_that_cannot_work", None) as pair:
        await ward.add(HERE, pair, ping_interval=0.4, pong_timeout=0.02)
        await ward.add(THERE, pair)
        yield


@patient(FindingCode.CHANNEL_CLOSED, says="messages lost")
async def closed_channel(ward: Ward) -> AsyncGenerator[Path]:
    async with ward.open() as pair, sending(pair, 5):
        yield pair.path


@patient(FindingCode.COMPRESSION_MISMATCH)
async def compression_that_is_refused(ward: Ward) -> AsyncGenerator[Path]:
    compress = CompressConfig("zlib", threshold=1)
    async with (
        ward.open(here={"accept_compression": []}, there={"compress": compress}) as pair,
        sending(pair),
    ):
        yield pair.path


# The way between them.


@peer(FindingCode.PORT_CLOSED)
async def nobody_there(ward: Ward, a: Handle) -> AsyncGenerator[None]:
    async with ward.meet(a, "nobody_there", None) as pair:
        await ward.add(HERE, pair)
        yield


@peer(FindingCode.PORT_FILTERED)
async def firewall_both_ways(ward: Ward, a: Handle) -> AsyncGenerator[None]:
    async with ward.meet(a, "firewall_both_ways", None) as pair:
        drop = ("--dport", str(pair.port), "-j", "DROP")
        with ward.firewall(HERE, "INPUT", *drop), ward.firewall(THERE, "INPUT", *drop):
            await ward.join(pair)
            yield


@peer(FindingCode.PORT_FILTERED, says="though its pings arrive")
async def firewall_that_rejects(ward: Ward, a: Handle) -> AsyncGenerator[None]:
    async with ward.meet(a, "firewall_that_rejects", None) as pair:
        with ward.firewall(THERE, "INPUT", "--dport", str(pair.port), "-j", "REJECT"):
            await ward.join(pair)
            yield


@peer(FindingCode.PORT_FILTERED)
async def firewall_after_it_was_up(ward: Ward, a: Handle) -> AsyncGenerator[None]:
    """The link is young, so it stays up for ten times its timeout."""
    async with ward.meet(a, "firewall_after_it_was_up") as pair:
        await up(pair)
        drop = ("--dport", str(pair.port), "-j", "DROP")
        with ward.firewall(HERE, "INPUT", *drop), ward.firewall(THERE, "INPUT", *drop):
            await trio.sleep(1.2)
            yield


@peer(FindingCode.HOST_UNREACHABLE)
async def machine_that_is_down(ward: Ward, a: Handle) -> AsyncGenerator[None]:
    async with ward.meet(a, "machine_that_is_down", None) as pair:
        absent = ward.address(THERE).rpartition(".")[0] + ".99"
        await ward.add(HERE, pair, dst=(absent, pair.port))
        # The kernel asks for its Ethernet address three times, a second apart.
        await wait_for(lambda: pair.link.diagnose().trouble is not None)
        yield


@peer(FindingCode.NO_ROUTE)
async def machine_without_a_route(ward: Ward, a: Handle) -> AsyncGenerator[None]:
    async with ward.meet(a, "machine_without_a_route", None) as pair:
        await ward.add(HERE, pair, dst=("198.51.100.1", pair.port))
        yield


@patient(FindingCode.NO_PEER)
async def dynamic_link_without_a_peer(ward: Ward) -> AsyncGenerator[Path]:
    async with ward.open(None) as pair:
        link = await ward.add(HERE, pair, dst=None)
        link.acl.append(AclEntry.address(ward.address(THERE)))
        yield pair.path


@peer(FindingCode.ONE_WAY)
async def firewall_there_lets_nothing_in(ward: Ward, a: Handle) -> AsyncGenerator[None]:
    async with ward.meet(a, "firewall_there_lets_nothing_in", None) as pair:
        with ward.firewall(THERE, "INPUT", "--dport", str(pair.port), "-j", "DROP"):
            await ward.join(pair)
            yield


@peer(FindingCode.ONE_WAY, says="reached this machine, but not the program")
async def firewall_here_lets_nothing_in(ward: Ward, a: Handle) -> AsyncGenerator[None]:
    async with ward.meet(a, "firewall_here_lets_nothing_in", None) as pair:
        with ward.firewall(HERE, "INPUT", "--dport", str(pair.port), "-j", "DROP"):
            await ward.join(pair)
            yield


@peer(FindingCode.ONE_WAY, says="a firewall of this machine")
async def firewall_here_lets_nothing_out(ward: Ward, a: Handle) -> AsyncGenerator[None]:
    async with ward.meet(a, "firewall_here_lets_nothing_out", None) as pair:
        with ward.firewall(HERE, "OUTPUT", "--sport", str(pair.port), "-j", "DROP"):
            await ward.join(pair)
            yield


@peer(FindingCode.COMING_UP)
async def link_on_its_way_up(ward: Ward, a: Handle) -> AsyncGenerator[None]:
    async with ward.meet(a, "link_on_its_way_up", None) as pair:
        await ward.join(pair, ping_interval=0.3, pong_count=255)
        yield


@peer(FindingCode.MTU_BLACK_HOLE, says="between 12")
async def narrow_path(ward: Ward, a: Handle) -> AsyncGenerator[None]:
    async with ward.meet(a, "narrow_path", NARROW) as pair:
        await up(pair)
        # Nobody has noticed yet.
        await ward.wires.treat(NARROW, mtu=1300)
        yield


@peer(FindingCode.MTU_BLACK_HOLE, says="too small for messages")
async def path_too_narrow_for_data(ward: Ward, a: Handle) -> AsyncGenerator[None]:
    await ward.wires.treat(SMALL, mtu=500)
    async with ward.meet(a, "path_too_narrow_for_data", None) as pair:
        await ward.join(pair, wire=SMALL, latency_samples=1)
        await pair.link.wait_connected()
        await pair.link.discover_mtu()
        yield


@peer(FindingCode.LOSS)
async def lossy_path(ward: Ward, a: Handle) -> AsyncGenerator[None]:
    async with ward.meet(a, "lossy_path", LOSSY) as pair:
        await up(pair)
        await ward.wires.treat(LOSSY, toward=THERE, loss=0.3)
        yield


@peer(FindingCode.LATENCY_TIMEOUT)
async def slow_path(ward: Ward, a: Handle) -> AsyncGenerator[None]:
    await ward.wires.treat(SLOW, delay=0.3)
    async with ward.meet(a, "slow_path", None) as pair:
        await ward.join(pair, wire=SLOW, pong_timeout=1.0)
        await pair.link.wait_connected()
        yield


@peer(FindingCode.LATENCY_TIMEOUT, says="pongs arrive, but after")
async def path_too_slow(ward: Ward, a: Handle) -> AsyncGenerator[None]:
    await ward.wires.treat(TOO_SLOW, delay=0.2)
    async with ward.meet(a, "path_too_slow", None) as pair:
        await ward.join(pair, wire=TOO_SLOW, pong_timeout=0.3)
        yield


@patient(FindingCode.FOREIGN_PACKETS, FindingCode.NOT_ENCRYPTED)
async def forged_packets(ward: Ward) -> AsyncGenerator[Path]:
    """Not from where the link leads, and of no known kind."""
    async with ward.open(here={"crypto": None}, there={"crypto": None}) as pair:
        await up(pair)
        with await ward.new_socket(THERE) as stranger:
            await stranger.connect((ward.address(HERE), pair.port))
            async with again_and_again(partial(stranger.send, bytes(40))):
                yield pair.path


@patient(FindingCode.RECORDED_PACKETS, says="sealed in an earlier life")
async def recordings_of_an_earlier_life(ward: Ward) -> AsyncGenerator[Path]:
    options = {"crypto": CryptoConfig(KEY, model="aead")}
    async with ward.open(here=options, there=options) as pair:
        await up(pair)
        link = pair.to_a.links[0]
        # There is no other way to send a packet from where the peer sends.
        state = link._state  # pyright: ignore[reportPrivateUsage]
        assert isinstance(state, NetworkLinkState)
        packet = encode_data(Data(pair.b.host_id, 1, 0, True, 1, 1, 0, b"recorded"))
        recorded = state.context.crypto.seal([packet])
        # Until the next life is known, it is one that was not there before.
        pair.a.open_channel(0)
        pair.b.renew()

        async def play() -> None:
            assert state.destination is not None
            assert state.endpoint is not None
            state.endpoint.send_nowait(recorded, state.destination)
            await trio.lowlevel.checkpoint()

        async with again_and_again(play):
            yield pair.path


# This machine, and the program.


@patient(FindingCode.BUFFERS_SMALL, says="rmem_max")
async def program_without_rights(ward: Ward) -> AsyncGenerator[Path]:
    async with open_program(ward.new_path(), "without_rights") as path:
        yield path


@patient(FindingCode.BUFFERS_SMALL, says="was full")
async def socket_that_overflows(ward: Ward) -> AsyncGenerator[Path]:
    async with open_program(ward.new_path(), "overflows") as path:
        yield path


@patient(FindingCode.QUEUE_FULL)
async def reader_that_is_too_slow(ward: Ward) -> AsyncGenerator[Path]:
    async with ward.open() as pair:
        pair.a.open_channel(0, receive_buffer=2)
        async with sending(pair):
            yield pair.path


@patient(FindingCode.FORWARDING_OFF)
async def forwarding_that_is_off(ward: Ward) -> AsyncGenerator[Path]:
    async with ward.open(here={"forwarding": False}) as pair:
        await up(pair)
        yield pair.path


@patient(FindingCode.REKEY_UNFINISHED, says="this host accepts the new key beside the old one")
async def rekey_that_has_stopped(ward: Ward) -> AsyncGenerator[Path]:
    path = ward.new_path()
    directory = path.with_suffix(".lab")
    directory.mkdir()
    head = '[cluster]\nkey_file = "lab.key"\nservice_channel = 31\n'
    file = write_file(directory, head + "[[hosts]]\nid = 1\nlinks = ['127.0.0.1']\n")
    key = (directory / "lab.key").read_bytes()
    change = KeyChange(change_id="c0ffee", began_by=1, old=key, new=key[::-1])
    KeyChangeFiles(directory / "lab.key").write_change(change)
    async with (
        open_cluster(file, host=1) as handle,
        serve_rekeying(handle) as rekeying,
        serve_control(handle, path, rekey=rekeying.answer_control),
    ):
        yield path


@patient(FindingCode.CPU_STARVED, says="a call blocked it")
async def program_that_blocks(ward: Ward) -> AsyncGenerator[Path]:
    async with open_program(ward.new_path(), "sleeps") as path:
        yield path


@patient(FindingCode.CPU_STARVED)
async def program_that_calculates(ward: Ward) -> AsyncGenerator[Path]:
    async with open_program(ward.new_path(), "calculates") as path:
        yield path


@patient(FindingCode.CLOCK, says="30")
async def clock_that_was_set(ward: Ward) -> AsyncGenerator[Path]:
    async with open_program(ward.new_path(), "sets_the_clock") as path:
        yield path


@asynccontextmanager
async def sending(pair: Patients, channel_id: int = 0) -> AsyncGenerator[None]:
    """The other host sends messages all the time."""
    await up(pair)
    channel = pair.b.open_channel(channel_id)
    async with again_and_again(partial(channel.send, b"again " * 50)):
        yield


@asynccontextmanager
async def again_and_again(act: Callable[[], Awaitable[object]]) -> AsyncGenerator[None]:
    """Do something all the time in the block."""

    async def go_on() -> None:
        while True:
            await act()
            await trio.sleep(0.02)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(go_on)
        yield
        nursery.cancel_scope.cancel()


# Looking at them.


Outcome: TypeAlias = Done | Exception
"""What the command says, or why it could not be asked."""

TOGETHER: Final = "together"
"""The outcome of all those that are looked at together."""


async def look_at(names: list[str], directory: Path) -> dict[str, Outcome]:
    """The outcome of each of them."""
    outcomes: dict[str, Outcome] = {}
    limit = trio.CapacityLimiter(AT_ONCE)

    async def look(name: str, opens: Callable[[], AbstractAsyncContextManager[Path]]) -> None:
        async with limit:
            try:
                with trio.fail_after(LIMIT):
                    async with opens() as path:
                        options = ("--json", "--seconds", SECONDS, "--socket", path)
                        outcomes[name] = await run("doctor", *options, within=here)
            except Exception as error:
                # It is that test's alone.
                outcomes[name] = error

    async with open_wires(WIRES) as wires, trio.open_nursery() as nursery:
        # All of them are at one address, and each is to get its errors.
        wires.namespaces.run(THERE, "sysctl", "-q", "-w", "net.ipv4.icmp_ratelimit=0")
        here = wires.namespaces.within(HERE)
        ward = Ward(wires, directory)
        peers = [PEERS[name] for name in names if name in PEERS]
        if peers:
            nursery.start_soon(look, TOGETHER, partial(open_together, ward, peers))
        for name in names:
            if name in PATIENTS:
                opens = asynccontextmanager(PATIENTS[name])
                nursery.start_soon(look, name, partial(opens, ward))
    return outcomes


@asynccontextmanager
async def open_together(ward: Ward, lies: Sequence[LieWith]) -> AsyncGenerator[Path]:
    """A patient that has a host with each of these faults."""
    path = ward.new_path()

    async def lie_down(lie: LieWith, task_status: trio.TaskStatus[None]) -> None:
        async with asynccontextmanager(lie)(ward, a):
            task_status.started()
            await trio.sleep_forever()

    async with (
        open_handle(1, crypto=CRYPTO) as a,
        serve_control(a, path),
        trio.open_nursery() as nursery,
    ):
        async with trio.open_nursery() as starting:
            for lie in lies:
                starting.start_soon(nursery.start, lie_down, lie)
        yield path
        nursery.cancel_scope.cancel()


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Outcome]:
    """What the command says of each of those that are to be looked at."""
    wanted = [
        name
        for name in CASES
        if any(item.name == f"{FINDS}[{name}]" for item in request.session.items)
    ]
    return trio.run(look_at, wanted, tmp_path_factory.mktemp("ward"))


@pytest.mark.parametrize("name", CASES)
def test_the_fault_is_found(outcomes: Mapping[str, Outcome], name: str) -> None:
    case, done = CASES[name], outcomes[TOGETHER if name in PEERS else name]
    if isinstance(done, Exception):
        raise done
    assert done.errors == ""
    said: dict[str, Any] = json.loads(done.output)
    findings: list[dict[str, str]] = said["findings"]
    worst = {one["severity"] for one in findings} - {"ok"}
    assert said["ok"] is (not worst)
    assert done.status == (1 if "fault" in worst else ONLY_WARNINGS if worst else 0)
    if name in PEERS:
        findings = [one for one in findings if f" ({name})" in one["where"]]
    worse = [one for one in findings if one["severity"] != "ok"]
    codes = {one["code"] for one in worse}
    if FindingCode.CPU_STARVED not in case.codes:
        # It may well be so, on a busy machine.
        codes.discard(FindingCode.CPU_STARVED)
    assert codes == case.codes, worse
    assert not case.says or any(case.says in one["text"] for one in worse), worse
    assert all(one["remedy"] for one in worse)


def test_every_code_has_its_case() -> None:
    found = {code for case in CASES.values() for code in case.codes}
    fine = {FindingCode.LINK_UP, FindingCode.LINK_DISABLED, FindingCode.PROGRAM_OK}
    of_preflight = {
        FindingCode.ADDRESS_MISSING,
        FindingCode.FILE_MISMATCH,
        FindingCode.HOST_MISSING,
        FindingCode.HOST_LEFT,
        FindingCode.MTU_REDUCED,
        FindingCode.MTU_SETTING,
        FindingCode.REVERSE_PATH_FILTER,
    }
    # They need a kernel with SCTP.
    of_connections = {FindingCode.NO_CONNECTION, FindingCode.PEER_SILENT}
    others = set(FindingCode) - fine - of_preflight - of_connections
    assert others - found == {FindingCode.PATH_ERRORS}
