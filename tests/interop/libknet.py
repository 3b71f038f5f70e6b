"""A typed ctypes binding of the C library, libknet 1.x: what the interop tests need of it.

`Handle` owns one libknet handle. Its methods have the names of the C calls without the
prefix, and raise `OSError` with libknet's errno. Units are C's: times in milliseconds.
Nothing here depends on knet_trio, so a mistake there cannot hide behind one here.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

SONAME: Final = "libknet.so.1"

# Constants of the 1.x ABI.
MAX_HOST: Final = 65536
MAX_LINK: Final = 8
MAX_CHANNEL: Final = 32
MAX_PACKET: Final = 65536
MIN_KEY: Final = 128
MAX_KEY: Final = 4096
POLICIES: Final[Mapping[str, int]] = {"passive": 0, "active": 1, "round-robin": 2}
TRANSPORTS: Final[Mapping[str, int]] = {"loopback": 0, "udp": 1, "sctp": 2}
LOG_LEVELS: Final[Mapping[str, int]] = {"error": 0, "warning": 1, "info": 2, "debug": 3}
ACL_TYPES: Final[Mapping[str, int]] = {"address": 0, "mask": 1, "range": 2}
HANDLE_FLAG_PRIVILEGED: Final = 1
LINK_FLAG_TRAFFICHIPRIO: Final = 1
NOTIFY_TX: Final = 0
NOTIFY_RX: Final = 1
CLEARSTATS_HANDLE_ONLY: Final = 1
CLEARSTATS_HANDLE_AND_LINK: Final = 2
RX_ALLOW_CLEAR_TRAFFIC: Final = 0
RX_DISALLOW_CLEAR_TRAFFIC: Final = 1

LogRecord = tuple[str, int, str]
"""Subsystem, level (see `LOG_LEVELS`), text."""

HostStatusCallback = Callable[[int, bool, bool, bool], None]
DataMtuCallback = Callable[[int], None]
SockNotifyCallback = Callable[[int, int, int, int, int], None]
FilterCallback = Callable[[bytes, int, int, int, int], tuple[Sequence[int] | None, int] | None]
"""(data, tx_rx, this host, source host, channel) to (host ids, or None for everybody; channel),
or to None for libknet's -1."""


class Timespec(ctypes.Structure):
    """`struct timespec`."""

    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class LinkStats(ctypes.Structure):
    """`struct knet_link_stats`."""

    _fields_ = (
        ("tx_data_packets", ctypes.c_uint64),
        ("rx_data_packets", ctypes.c_uint64),
        ("tx_data_bytes", ctypes.c_uint64),
        ("rx_data_bytes", ctypes.c_uint64),
        ("rx_ping_packets", ctypes.c_uint64),
        ("tx_ping_packets", ctypes.c_uint64),
        ("rx_ping_bytes", ctypes.c_uint64),
        ("tx_ping_bytes", ctypes.c_uint64),
        ("rx_pong_packets", ctypes.c_uint64),
        ("tx_pong_packets", ctypes.c_uint64),
        ("rx_pong_bytes", ctypes.c_uint64),
        ("tx_pong_bytes", ctypes.c_uint64),
        ("rx_pmtu_packets", ctypes.c_uint64),
        ("tx_pmtu_packets", ctypes.c_uint64),
        ("rx_pmtu_bytes", ctypes.c_uint64),
        ("tx_pmtu_bytes", ctypes.c_uint64),
        ("tx_total_packets", ctypes.c_uint64),
        ("rx_total_packets", ctypes.c_uint64),
        ("tx_total_bytes", ctypes.c_uint64),
        ("rx_total_bytes", ctypes.c_uint64),
        ("tx_total_errors", ctypes.c_uint64),
        ("tx_total_retries", ctypes.c_uint64),
        ("tx_pmtu_errors", ctypes.c_uint32),
        ("tx_pmtu_retries", ctypes.c_uint32),
        ("tx_ping_errors", ctypes.c_uint32),
        ("tx_ping_retries", ctypes.c_uint32),
        ("tx_pong_errors", ctypes.c_uint32),
        ("tx_pong_retries", ctypes.c_uint32),
        ("tx_data_errors", ctypes.c_uint32),
        ("tx_data_retries", ctypes.c_uint32),
        ("latency_min", ctypes.c_uint32),
        ("latency_max", ctypes.c_uint32),
        ("latency_ave", ctypes.c_uint32),
        ("latency_samples", ctypes.c_uint32),
        ("down_count", ctypes.c_uint32),
        ("up_count", ctypes.c_uint32),
        ("last_up_times", ctypes.c_long * 16),
        ("last_down_times", ctypes.c_long * 16),
        ("last_up_time_index", ctypes.c_int8),
        ("last_down_time_index", ctypes.c_int8),
    )


class LinkStatus(ctypes.Structure):
    """`struct knet_link_status`."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("src_ipaddr", ctypes.c_char * 256),
        ("src_port", ctypes.c_char * 6),
        ("dst_ipaddr", ctypes.c_char * 256),
        ("dst_port", ctypes.c_char * 6),
        ("enabled", ctypes.c_uint8),
        ("connected", ctypes.c_uint8),
        ("dynconnected", ctypes.c_uint8),
        ("latency", ctypes.c_ulonglong),
        ("pong_last", Timespec),
        ("mtu", ctypes.c_uint),
        ("proto_overhead", ctypes.c_uint),
        ("stats", LinkStats),
    )


class HandleStats(ctypes.Structure):
    """`struct knet_handle_stats`."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("tx_uncompressed_packets", ctypes.c_uint64),
        ("tx_compressed_packets", ctypes.c_uint64),
        ("tx_compressed_original_bytes", ctypes.c_uint64),
        ("tx_compressed_size_bytes", ctypes.c_uint64),
        ("tx_compress_time_ave", ctypes.c_uint64),
        ("tx_compress_time_min", ctypes.c_uint64),
        ("tx_compress_time_max", ctypes.c_uint64),
        ("rx_compressed_packets", ctypes.c_uint64),
        ("rx_compressed_original_bytes", ctypes.c_uint64),
        ("rx_compressed_size_bytes", ctypes.c_uint64),
        ("rx_compress_time_ave", ctypes.c_uint64),
        ("rx_compress_time_min", ctypes.c_uint64),
        ("rx_compress_time_max", ctypes.c_uint64),
        ("tx_crypt_packets", ctypes.c_uint64),
        ("tx_crypt_byte_overhead", ctypes.c_uint64),
        ("tx_crypt_time_ave", ctypes.c_uint64),
        ("tx_crypt_time_min", ctypes.c_uint64),
        ("tx_crypt_time_max", ctypes.c_uint64),
        ("rx_crypt_packets", ctypes.c_uint64),
        ("rx_crypt_time_ave", ctypes.c_uint64),
        ("rx_crypt_time_min", ctypes.c_uint64),
        ("rx_crypt_time_max", ctypes.c_uint64),
    )


class CryptoCfg(ctypes.Structure):
    """`struct knet_handle_crypto_cfg`."""

    _fields_ = (
        ("crypto_model", ctypes.c_char * 16),
        ("crypto_cipher_type", ctypes.c_char * 16),
        ("crypto_hash_type", ctypes.c_char * 16),
        ("private_key", ctypes.c_ubyte * MAX_KEY),
        ("private_key_len", ctypes.c_uint),
    )


class CompressCfg(ctypes.Structure):
    """`struct knet_handle_compress_cfg`."""

    _fields_ = (
        ("compress_model", ctypes.c_char * 16),
        ("compress_threshold", ctypes.c_uint32),
        ("compress_level", ctypes.c_int),
    )


class HostStatus(ctypes.Structure):
    """`struct knet_host_status`."""

    _fields_ = (
        ("reachable", ctypes.c_uint8),
        ("remote", ctypes.c_uint8),
        ("external", ctypes.c_uint8),
    )


class LogMsg(ctypes.Structure):
    """`struct knet_log_msg`."""

    _fields_ = (
        ("msg", ctypes.c_char * 254),
        ("subsystem", ctypes.c_uint8),
        ("msglevel", ctypes.c_uint8),
    )


# The sizes libknet 1.25 has: a field forgotten above shows here, not as rubbish in a test.
EXPECTED_SIZES: Final[Mapping[type[ctypes.Structure], int]] = {
    LinkStatus: 1064,
    LinkStats: 496,
    HandleStats: 184,
    CryptoCfg: 4148,
    CompressCfg: 24,
    HostStatus: 3,
    LogMsg: 256,
}

_P = ctypes.c_void_p
_U8, _U16, _U32, _U64 = ctypes.c_uint8, ctypes.c_uint16, ctypes.c_uint, ctypes.c_uint64
_INT, _I8, _SIZE, _STR = ctypes.c_int, ctypes.c_int8, ctypes.c_size_t, ctypes.c_char_p

_FILTER_FN = ctypes.CFUNCTYPE(
    _INT, _P, _P, ctypes.c_ssize_t, _U8, _U16, _U16,
    ctypes.POINTER(_I8), ctypes.POINTER(_U16), ctypes.POINTER(_SIZE),
)  # fmt: skip
_SOCK_FN = ctypes.CFUNCTYPE(None, _P, _INT, _I8, _U8, _INT, _INT)
_HOST_FN = ctypes.CFUNCTYPE(None, _P, _U16, _U8, _U8, _U8)
_MTU_FN = ctypes.CFUNCTYPE(None, _P, _U32)

_ARGUMENTS: Final[Mapping[str, Sequence[Any]]] = {
    "knet_handle_free": (_P,),
    "knet_handle_enable_sock_notify": (_P, _P, _SOCK_FN),
    "knet_handle_add_datafd": (_P, _P, _P),
    "knet_handle_remove_datafd": (_P, _INT),
    "knet_handle_get_datafd": (_P, _I8, _P),
    "knet_handle_get_channel": (_P, _INT, _P),
    "knet_handle_enable_filter": (_P, _P, _FILTER_FN),
    "knet_handle_setfwd": (_P, _U32),
    "knet_handle_enable_access_lists": (_P, _U32),
    "knet_handle_pmtud_setfreq": (_P, _U32),
    "knet_handle_pmtud_set": (_P, _U32),
    "knet_handle_pmtud_get": (_P, _P),
    "knet_handle_enable_pmtud_notify": (_P, _P, _MTU_FN),
    "knet_handle_set_transport_reconnect_interval": (_P, ctypes.c_uint32),
    "knet_handle_crypto": (_P, _P),
    "knet_handle_crypto_set_config": (_P, _P, _U8),
    "knet_handle_crypto_use_config": (_P, _U8),
    "knet_handle_crypto_rx_clear_traffic": (_P, _U8),
    "knet_handle_compress": (_P, _P),
    "knet_handle_get_stats": (_P, _P, _SIZE),
    "knet_handle_clear_stats": (_P, _INT),
    "knet_host_add": (_P, _U16),
    "knet_host_remove": (_P, _U16),
    "knet_host_set_name": (_P, _U16, _STR),
    "knet_host_get_name_by_host_id": (_P, _U16, _P),
    "knet_host_get_id_by_host_name": (_P, _STR, _P),
    "knet_host_get_host_list": (_P, _P, _P),
    "knet_host_set_policy": (_P, _U16, _U8),
    "knet_host_get_policy": (_P, _U16, _P),
    "knet_host_enable_status_change_notify": (_P, _P, _HOST_FN),
    "knet_host_get_status": (_P, _U16, _P),
    "knet_link_set_config": (_P, _U16, _U8, _U8, _P, _P, _U64),
    "knet_link_clear_config": (_P, _U16, _U8),
    "knet_link_add_acl": (_P, _U16, _U8, _P, _P, _INT, _INT),
    "knet_link_clear_acl": (_P, _U16, _U8),
    "knet_link_set_enable": (_P, _U16, _U8, _U32),
    "knet_link_set_ping_timers": (_P, _U16, _U8, ctypes.c_long, ctypes.c_long, _U32),
    "knet_link_set_pong_count": (_P, _U16, _U8, _U8),
    "knet_link_set_priority": (_P, _U16, _U8, _U8),
    "knet_link_get_link_list": (_P, _U16, _P, _P),
    "knet_link_get_status": (_P, _U16, _U8, _P, _SIZE),
    "knet_link_get_config": (_P, _U16, _U8, _P, _P, _P, _P, _P),
    "knet_link_get_enable": (_P, _U16, _U8, _P),
    "knet_link_get_ping_timers": (_P, _U16, _U8, _P, _P, _P),
    "knet_link_get_pong_count": (_P, _U16, _U8, _P),
    "knet_link_get_priority": (_P, _U16, _U8, _P),
    "knet_link_insert_acl": (_P, _U16, _U8, _INT, _P, _P, _INT, _INT),
    "knet_link_rm_acl": (_P, _U16, _U8, _P, _P, _INT, _INT),
    "knet_handle_pmtud_getfreq": (_P, _P),
    "knet_handle_get_transport_reconnect_interval": (_P, _P),
    "knet_log_get_loglevel": (_P, _U8, _P),
    "knet_log_set_loglevel": (_P, _U8, _U8),
    "knet_send_sync": (_P, _P, _SIZE, _I8),
}


def _load() -> ctypes.CDLL:
    return ctypes.CDLL(ctypes.util.find_library("knet") or SONAME, use_errno=True)


def libknet_missing() -> str | None:
    """None when the C library can be used here, else why not and how to get it."""
    try:
        library = _load()
    except OSError as error:
        return f"the C library is not here ({error}): apt-get install libknet1"
    lacking = [name for name in _ARGUMENTS if not hasattr(library, name)]
    if lacking:
        return f"this libknet lacks {', '.join(lacking)}: apt-get install libknet1 (1.25 or newer)"
    return None


def sockaddr_storage(address: str, port: int) -> ctypes.Array[ctypes.c_char]:
    """A `struct sockaddr_storage`. A scope, as in fe80::1%veth0, is that of this process."""
    info = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
    family, _, _, _, sockaddr = info[0]
    host = str(sockaddr[0]).partition("%")[0]
    if family == socket.AF_INET:
        raw = struct.pack("=H", family) + struct.pack("!H", port) + socket.inet_pton(family, host)
    else:
        scope = int(sockaddr[3]) if len(sockaddr) > 3 else 0
        raw = struct.pack("=H", family) + struct.pack("!HI", port, 0)
        raw += socket.inet_pton(family, host) + struct.pack("=I", scope)
    return ctypes.create_string_buffer(raw, 128)


def as_dict(record: ctypes.Structure) -> dict[str, Any]:
    """A structure as plain values: text for character arrays, lists for the others."""
    result: dict[str, Any] = {}
    for name, *_ in record._fields_:
        value: Any = getattr(record, name)
        if isinstance(value, ctypes.Structure):
            value = as_dict(value)
        elif isinstance(value, bytes):
            value = value.decode()
        elif isinstance(value, ctypes.Array):
            value = list(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        result[name] = value
    return result


class Handle:
    """One libknet handle. Thread-safe as far as libknet is; callbacks come on its threads."""

    def __init__(
        self,
        host_id: int,
        *,
        log_fd: int = 0,
        log_level: int = LOG_LEVELS["warning"],
        privileged: bool = False,
    ) -> None:
        self._library = _load()
        self._callbacks: dict[str, Any] = {}
        self._functions: dict[str, Any] = {}
        for name, arguments in _ARGUMENTS.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = list(arguments), _INT
            self._functions[name] = function
        for name in ("knet_send", "knet_recv"):
            function = getattr(self._library, name)
            function.argtypes, function.restype = [_P, _P, _SIZE, _I8], ctypes.c_ssize_t
            self._functions[name] = function
        self._library.knet_log_get_subsystem_name.argtypes = [_U8]
        self._library.knet_log_get_subsystem_name.restype = _STR
        new = self._library.knet_handle_new_ex
        new.argtypes, new.restype = [_U16, _INT, _U8, _U64], _P
        ctypes.set_errno(0)
        flags = HANDLE_FLAG_PRIVILEGED if privileged else 0
        self._handle = new(host_id, log_fd, log_level, flags)
        if not self._handle:
            raise self._error("knet_handle_new_ex", -1)

    @staticmethod
    def _error(name: str, result: int) -> OSError:
        code = ctypes.get_errno()
        # -2 is the crypto calls' "no errno is provided": whatever errno holds then is incidental.
        text = f"{name} returned {result}" if result != -1 else name
        return OSError(code, f"{text}: {os.strerror(code)}")

    def call(self, name: str, *arguments: Any) -> int:
        """One C call on this handle; what is below zero raises."""
        ctypes.set_errno(0)
        result = int(self._functions[name](self._handle, *arguments))
        if result < 0:
            raise self._error(name, result)
        return result

    def free(self) -> None:
        """Remove every link and host, then free the handle; it cannot be used after."""
        for host_id in self.host_list():
            for link_id in self.link_list(host_id):
                self.call("knet_link_set_enable", host_id, link_id, 0)
                self.call("knet_link_clear_config", host_id, link_id)
            self.call("knet_host_remove", host_id)
        self.call("knet_handle_free")

    # Data

    def add_datafd(self, channel: int = -1) -> tuple[int, int]:
        """A socket pair on the channel (-1: a free one): this side's descriptor, the channel."""
        fd, number = ctypes.c_int(0), ctypes.c_int8(channel)
        self.call("knet_handle_add_datafd", ctypes.byref(fd), ctypes.byref(number))
        return fd.value, number.value

    def send(self, data: bytes, channel: int) -> int:
        return self.call("knet_send", data, len(data), channel)

    def send_sync(self, data: bytes, channel: int) -> int:
        return self.call("knet_send_sync", data, len(data), channel)

    def recv_into(self, buffer: ctypes.Array[ctypes.c_char], channel: int) -> int:
        return self.call("knet_recv", ctypes.addressof(buffer), len(buffer), channel)

    # Crypto and compression

    def crypto_config(self, model: str, cipher: str, hash_name: str, key: bytes) -> CryptoCfg:
        """The record for the crypto calls. One too long keeps its length, for libknet to refuse."""
        config = CryptoCfg()
        config.crypto_model = model.encode()
        config.crypto_cipher_type = cipher.encode()
        config.crypto_hash_type = hash_name.encode()
        ctypes.memmove(config.private_key, key, min(len(key), MAX_KEY))
        config.private_key_len = len(key)
        return config

    def compress(self, model: str, level: int, threshold: int) -> None:
        config = CompressCfg(model.encode(), threshold, level)
        self.call("knet_handle_compress", ctypes.byref(config))

    # Answers

    def statistics(self) -> dict[str, Any]:
        stats = HandleStats()
        stats.size = ctypes.sizeof(stats)
        self.call("knet_handle_get_stats", ctypes.byref(stats), ctypes.sizeof(stats))
        return as_dict(stats)

    def data_mtu(self) -> int:
        value = ctypes.c_uint()
        self.call("knet_handle_pmtud_get", ctypes.byref(value))
        return value.value

    def host_list(self) -> list[int]:
        ids, count = (ctypes.c_uint16 * MAX_HOST)(), ctypes.c_size_t()
        self.call("knet_host_get_host_list", ids, ctypes.byref(count))
        return list(ids[: count.value])

    def link_list(self, host_id: int) -> list[int]:
        ids, count = (ctypes.c_uint8 * MAX_LINK)(), ctypes.c_size_t()
        self.call("knet_link_get_link_list", host_id, ids, ctypes.byref(count))
        return list(ids[: count.value])

    def host_status(self, host_id: int) -> dict[str, Any]:
        status = HostStatus()
        self.call("knet_host_get_status", host_id, ctypes.byref(status))
        return as_dict(status)

    def host_name(self, host_id: int) -> str:
        name = ctypes.create_string_buffer(256)
        self.call("knet_host_get_name_by_host_id", host_id, name)
        return name.value.decode()

    def host_id_of(self, name: str) -> int:
        host_id = ctypes.c_uint16()
        self.call("knet_host_get_id_by_host_name", name.encode(), ctypes.byref(host_id))
        return host_id.value

    def link_status(self, host_id: int, link_id: int) -> dict[str, Any]:
        status = LinkStatus()
        status.size = ctypes.sizeof(status)
        size = ctypes.sizeof(status)
        self.call("knet_link_get_status", host_id, link_id, ctypes.byref(status), size)
        return as_dict(status)

    def log_record(self, raw: bytes) -> LogRecord:
        record = LogMsg.from_buffer_copy(raw)
        subsystem = self._library.knet_log_get_subsystem_name(record.subsystem)
        return subsystem.decode(), int(record.msglevel), record.msg.decode(errors="replace")

    # Links

    def link_set_config(
        self,
        host_id: int,
        link_id: int,
        src: tuple[str, int],
        dst: tuple[str, int] | None,
        *,
        transport: int,
        flags: int,
    ) -> None:
        source = sockaddr_storage(*src)
        destination = None if dst is None else sockaddr_storage(*dst)
        arguments = (host_id, link_id, transport, source, destination, flags)
        self.call("knet_link_set_config", *arguments)

    def link_add_acl(
        self, host_id: int, link_id: int, kind: int, first: str, second: str | None, *, accept: bool
    ) -> None:
        low = sockaddr_storage(first, 0)
        high = None if second is None else sockaddr_storage(second, 0)
        self.call("knet_link_add_acl", host_id, link_id, low, high, kind, 0 if accept else 1)

    # Callbacks. ctypes frees a callback with its last reference, libknet may still be in the old
    # one: so the old one is let go only after the call that replaces it has returned.

    def on_host_status(self, callback: HostStatusCallback) -> None:
        def trampoline(_: Any, host_id: int, reachable: int, remote: int, external: int) -> None:
            callback(host_id, bool(reachable), bool(remote), bool(external))

        function = _HOST_FN(trampoline)
        self.call("knet_host_enable_status_change_notify", None, function)
        self._callbacks["host"] = function

    def on_data_mtu(self, callback: DataMtuCallback) -> None:
        def trampoline(_: Any, data_mtu: int) -> None:
            callback(data_mtu)

        function = _MTU_FN(trampoline)
        self.call("knet_handle_enable_pmtud_notify", None, function)
        self._callbacks["mtu"] = function

    def on_socket(self, callback: SockNotifyCallback) -> None:
        def trampoline(_: Any, fd: int, channel: int, tx_rx: int, error: int, code: int) -> None:
            callback(fd, channel, tx_rx, error, code)

        function = _SOCK_FN(trampoline)
        self.call("knet_handle_enable_sock_notify", None, function)
        self._callbacks["socket"] = function

    def set_filter(self, callback: FilterCallback | None) -> None:
        if callback is None:
            self.call("knet_handle_enable_filter", None, _FILTER_FN())
            self._callbacks.pop("filter", None)
            return
        decide = callback

        def trampoline(
            _: Any,
            data: int,
            size: int,
            tx_rx: int,
            this_host: int,
            source: int,
            channel: Any,
            host_ids: Any,
            count: Any,
        ) -> int:
            payload = ctypes.string_at(data, size)
            answer = decide(payload, tx_rx, this_host, source, channel[0])
            if answer is None:
                return -1
            hosts, channel[0] = answer
            if hosts is None:
                return 1
            for index, host_id in enumerate(hosts):
                host_ids[index] = host_id
            count[0] = len(hosts)
            return 0

        function = _FILTER_FN(trampoline)
        self.call("knet_handle_enable_filter", None, function)
        self._callbacks["filter"] = function
