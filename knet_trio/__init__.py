"""Messages between the hosts of a cluster, over several networks at once, for Trio programs.

It speaks the wire protocol of libknet (kronosnet). ``open_handle`` is where to begin; ``docs/`` and
the README show the rest.

Names that stand in signatures, for annotations:

- ``AddressLike``: a numeric IP address and a port, as a pair or as text: ``("10.0.0.1", 5405)``,
  ``"10.0.0.1:5405"``, ``"[fd00::1]:5405"``.
- ``BytesLike``: a message to be sent, ``bytes``, ``bytearray`` or ``memoryview``.
- ``Destination``: a host, by its id, its name, or what ``Handle.add_host`` returned.
- ``Destinations``: one ``Destination``, or several.
- ``FilterResult``: what a ``Filter`` answers, ``Broadcast``, ``Unicast`` or ``Drop``.
- ``Event``: one of the records that ``Handle.events`` gives.

There are no assertions here for pytest to rewrite, so it does not warn of a program that has
imported this module before it starts pytest: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from knet_trio._catalogue import (
        get_cipher_list,
        get_compress_list,
        get_crypto_list,
        get_hash_list,
        get_transport_id,
        get_transport_list,
        get_transport_name,
    )
    from knet_trio._core.acl import AccessList, AclEntry
    from knet_trio._core.policy import LinkPolicy
    from knet_trio._logs.names import (
        LogLevel,
        LogSubsystem,
        get_log_level_id,
        get_log_level_name,
        get_log_subsystem_id,
        get_log_subsystem_name,
    )
    from knet_trio.address import AddressLike, format_address, parse_address
    from knet_trio.channel import BytesLike, Channel
    from knet_trio.config import CompressConfig, CryptoConfig, DefragBuffers, LinkConfig
    from knet_trio.datafd import Datafd
    from knet_trio.errors import (
        AlreadyExistsError,
        BusyError,
        DestinationError,
        DropCause,
        DroppedByFilterError,
        FilterError,
        ForwardingDisabledError,
        HostDownError,
        InvalidArgumentError,
        KnetError,
        LimitError,
        NoFilterError,
        NoProgressError,
        NotImplementedByKnetError,
        OutsideTrioError,
        PacketError,
        SealError,
        SendError,
        TransportError,
        UnknownAttributeError,
        UnknownHostError,
        UnknownLinkError,
    )
    from knet_trio.events import (
        ChannelError,
        DataMtuChanged,
        Event,
        EventsLost,
        HostStatusChanged,
        LinkStatusChanged,
    )
    from knet_trio.handle import Handle, open_handle
    from knet_trio.host import Destination, Destinations, Host
    from knet_trio.link import Link
    from knet_trio.message import (
        Broadcast,
        Direction,
        Drop,
        Filter,
        FilterPacket,
        FilterResult,
        Message,
        Unicast,
    )
    from knet_trio.status import (
        ClosedChannel,
        CryptoFault,
        DropDetail,
        HandleDiagnosis,
        HandleStatistics,
        HostStatus,
        LinkCause,
        LinkDiagnosis,
        LinkStatistics,
        LinkStatus,
        LinkTransition,
        LinkTrouble,
        OnwireVersions,
    )

__version__ = "0.1.0"

__all__ = [
    "AccessList",
    "AclEntry",
    "AddressLike",
    "AlreadyExistsError",
    "Broadcast",
    "BusyError",
    "BytesLike",
    "Channel",
    "ChannelError",
    "ClosedChannel",
    "CompressConfig",
    "CryptoConfig",
    "CryptoFault",
    "DataMtuChanged",
    "Datafd",
    "DefragBuffers",
    "Destination",
    "DestinationError",
    "Destinations",
    "Direction",
    "Drop",
    "DropCause",
    "DropDetail",
    "DroppedByFilterError",
    "Event",
    "EventsLost",
    "Filter",
    "FilterError",
    "FilterPacket",
    "FilterResult",
    "ForwardingDisabledError",
    "Handle",
    "HandleDiagnosis",
    "HandleStatistics",
    "Host",
    "HostDownError",
    "HostStatus",
    "HostStatusChanged",
    "InvalidArgumentError",
    "KnetError",
    "LimitError",
    "Link",
    "LinkCause",
    "LinkConfig",
    "LinkDiagnosis",
    "LinkPolicy",
    "LinkStatistics",
    "LinkStatus",
    "LinkStatusChanged",
    "LinkTransition",
    "LinkTrouble",
    "LogLevel",
    "LogSubsystem",
    "Message",
    "NoFilterError",
    "NoProgressError",
    "NotImplementedByKnetError",
    "OnwireVersions",
    "OutsideTrioError",
    "PacketError",
    "SealError",
    "SendError",
    "TransportError",
    "Unicast",
    "UnknownAttributeError",
    "UnknownHostError",
    "UnknownLinkError",
    "format_address",
    "get_cipher_list",
    "get_compress_list",
    "get_crypto_list",
    "get_hash_list",
    "get_log_level_id",
    "get_log_level_name",
    "get_log_subsystem_id",
    "get_log_subsystem_name",
    "get_transport_id",
    "get_transport_list",
    "get_transport_name",
    "open_handle",
    "parse_address",
]

# Names are imported when they are first asked for: a command that only looks into a running host,
# or a program that uses the errors, does not wait for all the rest. The imports above say the same
# to type checkers.
_MODULES: Final = {
    "knet_trio._catalogue": (
        "get_cipher_list",
        "get_compress_list",
        "get_crypto_list",
        "get_hash_list",
        "get_transport_id",
        "get_transport_list",
        "get_transport_name",
    ),
    "knet_trio._core.acl": (
        "AccessList",
        "AclEntry",
    ),
    "knet_trio._core.policy": ("LinkPolicy",),
    "knet_trio._logs.names": (
        "LogLevel",
        "LogSubsystem",
        "get_log_level_id",
        "get_log_level_name",
        "get_log_subsystem_id",
        "get_log_subsystem_name",
    ),
    "knet_trio.address": (
        "AddressLike",
        "format_address",
        "parse_address",
    ),
    "knet_trio.channel": (
        "BytesLike",
        "Channel",
    ),
    "knet_trio.config": (
        "CompressConfig",
        "CryptoConfig",
        "DefragBuffers",
        "LinkConfig",
    ),
    "knet_trio.datafd": ("Datafd",),
    "knet_trio.errors": (
        "AlreadyExistsError",
        "BusyError",
        "DestinationError",
        "DropCause",
        "DroppedByFilterError",
        "FilterError",
        "ForwardingDisabledError",
        "HostDownError",
        "InvalidArgumentError",
        "KnetError",
        "LimitError",
        "NoFilterError",
        "NoProgressError",
        "NotImplementedByKnetError",
        "OutsideTrioError",
        "PacketError",
        "SealError",
        "SendError",
        "TransportError",
        "UnknownAttributeError",
        "UnknownHostError",
        "UnknownLinkError",
    ),
    "knet_trio.events": (
        "ChannelError",
        "DataMtuChanged",
        "Event",
        "EventsLost",
        "HostStatusChanged",
        "LinkStatusChanged",
    ),
    "knet_trio.handle": (
        "Handle",
        "open_handle",
    ),
    "knet_trio.host": (
        "Destination",
        "Destinations",
        "Host",
    ),
    "knet_trio.link": ("Link",),
    "knet_trio.message": (
        "Broadcast",
        "Direction",
        "Drop",
        "Filter",
        "FilterPacket",
        "FilterResult",
        "Message",
        "Unicast",
    ),
    "knet_trio.status": (
        "ClosedChannel",
        "CryptoFault",
        "DropDetail",
        "HandleDiagnosis",
        "HandleStatistics",
        "HostStatus",
        "LinkCause",
        "LinkDiagnosis",
        "LinkStatistics",
        "LinkStatus",
        "LinkTransition",
        "LinkTrouble",
        "OnwireVersions",
    ),
}
_MODULE_OF: Final = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    module = _MODULE_OF.get(name)
    submodule = f"{__name__}.{name}"
    if submodule in _MODULES:
        return import_module(submodule)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=None)
    value: object = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
