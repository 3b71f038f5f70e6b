"""What the package makes and programs hold cannot be made, or derived from, by programs."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any, Final, get_args, get_type_hints

import pytest
import trio

import knet_trio
from knet_trio import Channel, Handle, Host, Link, open_handle
from knet_trio._constructors import NoPublicConstructor, construct
from knet_trio.channel_socket import ChannelSocket, serve_channel
from knet_trio.cluster import open_cluster
from knet_trio.control import ControlClient, ControlEvents, connect_control
from knet_trio.events import EventReceiver
from knet_trio.rekeying import Rekeying, serve_rekeying
from knet_trio.streams import (
    HostRequest,
    HostStream,
    MessageReceiver,
    RequestReceiver,
    StreamListener,
    Streams,
    open_streams,
)
from knet_trio.tap import Tap, open_tap
from knet_trio.testing import SimulatedNetwork, open_network
from tests.cluster import LOCALHOST

# By how each is made.
KINDS: Final[dict[str, type]] = {
    "knet_trio.open_handle()": Handle,
    "Handle.add_host()": Host,
    "Host.add_link()": Link,
    "Handle.open_channel()": Channel,
    "Handle.events()": EventReceiver,
    "knet_trio.streams.open_streams()": Streams,
    "Streams.listener()": StreamListener,
    "Streams.connect() or StreamListener.accept()": HostStream,
    "Streams.messages()": MessageReceiver,
    "Streams.requests()": RequestReceiver,
    "RequestReceiver.receive()": HostRequest,
    "knet_trio.control.connect_control()": ControlClient,
    "ControlClient.events()": ControlEvents,
    "knet_trio.testing.open_network() or run()": SimulatedNetwork,
    "knet_trio.tap.open_tap()": Tap,
    "knet_trio.channel_socket.serve_channel()": ChannelSocket,
    "knet_trio.rekeying.serve_rekeying()": Rekeying,
}

every_kind = pytest.mark.parametrize(("made_by", "kind"), KINDS.items(), ids=lambda kind: str(kind))


@every_kind
def test_a_call_says_what_to_use(made_by: str, kind: Any) -> None:
    for arguments in ((), (1, 2, 3)):
        with pytest.raises(TypeError) as caught:
            kind(*arguments)
        assert str(caught.value) == f"{kind.__name__} has no public constructor: use {made_by}"


@every_kind
def test_what_it_says_exists(made_by: str, kind: type) -> None:
    for call in made_by.split(" or "):
        name = call.removesuffix("()")
        if "." not in name:
            assert hasattr(importlib.import_module(kind.__module__.rpartition(".")[0]), name)
        elif name.startswith("knet_trio."):
            module, _, function = name.rpartition(".")
            assert callable(getattr(importlib.import_module(module), function))
        else:
            maker, _, method = name.partition(".")
            (found,) = (kind for kind in KINDS.values() if kind.__name__ == maker)
            assert callable(getattr(found, method))


@every_kind
def test_no_class_can_be_derived_from_it(made_by: str, kind: type) -> None:
    assert getattr(kind, "__final__", False), f"{made_by}: no @final"
    with pytest.raises(TypeError, match=f"{kind.__name__} cannot be subclassed: keep one in"):
        type(kind)("Derived", (kind,), {})


def test_no_other_class_is_of_that_kind() -> None:
    for module in pkgutil.walk_packages(knet_trio.__path__, "knet_trio."):
        # The command ends the process, and some compressors are not installed.
        if not module.name.startswith(("knet_trio.cli", "knet_trio._")):
            importlib.import_module(module.name)

    def known(kind: type) -> set[type]:
        subclasses: list[type] = type.__subclasses__(kind)
        return set(subclasses).union(*map(known, subclasses))

    found = {kind for kind in known(object) if type(kind) is NoPublicConstructor}
    assert found == set(KINDS.values())


@pytest.mark.parametrize(
    "function",
    [
        *(open_handle, open_streams, connect_control, open_tap, open_network),
        *(serve_channel, serve_rekeying, open_cluster),
    ],
    ids=lambda function: function.__name__,
)
def test_what_the_openers_give_is_of_that_kind(function: Any) -> None:
    (*_, given) = get_args(get_type_hints(function)["return"])[:1]
    assert given in KINDS.values()


async def test_those_made_are_instances() -> None:
    async with open_handle(1) as handle, handle.events() as events:
        host = handle.add_host(2)
        link = await host.add_link(0, (LOCALHOST, 0), (LOCALHOST, 5405))
        channel = handle.open_channel()
        for made, kind in (
            (handle, Handle),
            (host, Host),
            (link, Link),
            (channel, Channel),
            (channel, trio.abc.SendChannel),
            (events, EventReceiver),
        ):
            assert isinstance(made, kind)
            assert not isinstance(1, kind)
            assert issubclass(type(made), kind)


def test_the_arguments_of_the_package_itself_are_checked() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'queue'"):
        construct(ControlEvents)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
