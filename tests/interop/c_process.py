"""One libknet handle driven over pipes: `python -m tests.interop.c_process '{"host_id": 2}'`.

stdin carries one JSON command a line, `{"id": 7, "do": "add_host", ...arguments}`. stdout
carries one JSON object a line, either an answer, `{"id": 7, "result": ...}` or `{"id": 7,
"error": {"errno": 17, "message": ...}}`, or an event, `{"event": "host_status", ...}`.
Message data is base64. End of input frees the handle and ends the process, so a parent that
dies leaves nothing behind.
"""

from __future__ import annotations

import base64
import ctypes
import errno
import json
import os
import queue
import select
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from tests.interop import libknet

LOG_RECORD_SIZE: Final = ctypes.sizeof(libknet.LogMsg)
# One event a burst, cut so that a flood still shows up while it goes on.
BURST_LIMIT: Final = 256


class Output:
    """Lines to stdout from any thread. libknet's callbacks must not block, so one thread writes."""

    def __init__(self) -> None:
        self._lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="output", daemon=True)
        self._thread.start()

    def put(self, line: dict[str, Any]) -> None:
        self._lines.put(line)

    def event(self, kind: str, **fields: Any) -> None:
        self.put({"event": kind, **fields})

    def close(self) -> None:
        self._lines.put(None)
        self._thread.join()

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            sys.stdout.write(json.dumps(line) + "\n")
            if self._lines.empty():
                sys.stdout.flush()
        sys.stdout.flush()


class Stream:
    """Numbered messages sent from a thread of their own until done or told to stop."""

    def __init__(
        self,
        node: Node,
        stream_id: int,
        count: int,
        size: int,
        interval: float,
        start: int,
        channel: int,
    ) -> None:
        self._node, self._id = node, stream_id
        self._count, self._size, self._interval = count, size, interval
        self._start, self._channel = start, channel
        self._stop = threading.Event()
        self.sent = 0
        self._thread = threading.Thread(target=self._run, name="stream", daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """End it if it is running; how many messages it sent."""
        self._stop.set()
        self._thread.join()
        return self.sent

    def _run(self) -> None:
        began = time.monotonic()
        filler = b"\0" * (self._size - 8)
        failure: dict[str, Any] | None = None
        try:
            while self.sent < self._count and not self._stop.is_set():
                number = self._start + self.sent
                if not self._node.send(
                    number.to_bytes(8, "big") + filler, self._channel, self._stop
                ):
                    break
                self.sent += 1
                # Against the schedule, not after the last send, or the rate would drift.
                pause = began + self.sent * self._interval - time.monotonic()
                if pause > 0:
                    self._stop.wait(pause)
        except OSError as error:
            failure = error_record(error)
        self._node.output.event("stream_done", stream=self._id, sent=self.sent, error=failure)


def error_record(error: OSError) -> dict[str, Any]:
    return {"errno": error.errno, "message": str(error.strerror or error)}


class Node:
    """The handle, the threads that read what it produces, and a method for each command."""

    def __init__(
        self, output: Output, host_id: int, *, log_level: str = "warning", privileged: bool = False
    ) -> None:
        self.output = output
        log_read, log_write = os.pipe()
        # Against libknet blocking on a full pipe, as its manual page asks.
        os.set_blocking(log_write, False)
        self.handle = libknet.Handle(
            host_id,
            log_fd=log_write,
            log_level=libknet.LOG_LEVELS[log_level],
            privileged=privileged,
        )
        self._descriptors: dict[int, int] = {}
        self._poll = select.poll()
        self._poll.register(log_read, select.POLLIN)
        self._log_fd = log_read
        self._wake_read, self._wake_write = os.pipe()
        self._poll.register(self._wake_read, select.POLLIN)
        self._stream: Stream | None = None
        self._streams = 0
        self._reader = threading.Thread(target=self._read, name="reader", daemon=True)
        self.handle.on_socket(self._socket_event)
        self.handle.on_host_status(
            lambda host_id, reachable, remote, external: output.event(
                "host_status",
                host_id=host_id,
                reachable=reachable,
                remote=remote,
                external=external,
            )
        )
        self.handle.on_data_mtu(lambda data_mtu: output.event("data_mtu", data_mtu=data_mtu))
        self._reader.start()

    def _socket_event(self, fd: int, channel: int, tx_rx: int, error: int, code: int) -> None:
        self.output.event("socket", channel=channel, tx_rx=tx_rx, error=error, errno=code)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.stop()
        # The reader first: its descriptors are closed with the handle, and could be reused.
        os.write(self._wake_write, b"x")
        self._reader.join()
        self.handle.free()

    # Reading: one thread for every channel and the log, so that no socket pair ever fills.

    def _read(self) -> None:
        buffer = ctypes.create_string_buffer(libknet.MAX_PACKET)
        while True:
            burst: list[tuple[int, str]] = []
            for fd, _ in self._poll.poll():
                if fd == self._wake_read:
                    if os.read(fd, 1) == b"x":
                        return
                elif fd == self._log_fd:
                    self._read_log(os.read(fd, LOG_RECORD_SIZE * 16))
                else:
                    self._read_channel(fd, self._descriptors[fd], buffer, burst)
            if burst:
                self.output.event("messages", messages=burst)

    def _read_log(self, data: bytes) -> None:
        for offset in range(0, len(data), LOG_RECORD_SIZE):
            record = data[offset : offset + LOG_RECORD_SIZE]
            subsystem, level, message = self.handle.log_record(record)
            self.output.event("log", subsystem=subsystem, level=level, message=message)

    def _read_channel(
        self,
        fd: int,
        channel: int,
        buffer: ctypes.Array[ctypes.c_char],
        burst: list[tuple[int, str]],
    ) -> None:
        for _ in range(BURST_LIMIT):
            try:
                size = self.handle.recv_into(buffer, channel)
            except BlockingIOError:
                return
            if size == 0:
                self._poll.unregister(fd)
                self.output.event("channel_closed", channel=channel)
                return
            burst.append((channel, base64.b64encode(ctypes.string_at(buffer, size)).decode()))

    # Sending

    def send(self, data: bytes, channel: int, stop: threading.Event | None = None) -> bool:
        """Hand a message to libknet, waiting while its socket is full. False when told to stop."""
        while True:
            try:
                sent = self.handle.send(data, channel)
            except BlockingIOError:
                if stop is not None and stop.is_set():
                    return False
                fd = next(fd for fd, number in self._descriptors.items() if number == channel)
                waiter = select.poll()
                waiter.register(fd, select.POLLOUT)
                waiter.poll(50)
                continue
            if sent != len(data):
                raise OSError(errno.EIO, f"knet_send took {sent} of {len(data)} bytes")
            return True

    def do_send(self, data: str, channel: int = 0) -> None:
        self.send(base64.b64decode(data), channel)

    def do_send_many(self, datas: list[str], channel: int = 0) -> None:
        for data in datas:
            self.send(base64.b64decode(data), channel)

    def do_send_sync(self, data: str, channel: int = 0) -> None:
        self.handle.send_sync(base64.b64decode(data), channel)

    def do_send_numbered(
        self, count: int, size: int, interval_seconds: float, start: int = 0, channel: int = 0
    ) -> int:
        if size < 8 or size > libknet.MAX_PACKET:
            raise OSError(errno.EINVAL, "a numbered message has 8 to 65536 bytes")
        if self._stream is not None:
            self._stream.stop()
        self._streams += 1
        numbers = (count, size, interval_seconds, start, channel)
        self._stream = Stream(self, self._streams, *numbers)
        return self._streams

    def do_stop_stream(self) -> int:
        return 0 if self._stream is None else self._stream.stop()

    # The handle

    def do_add_channel(self, channel: int = -1) -> int:
        fd, number = self.handle.add_datafd(channel)
        os.set_blocking(fd, False)
        self._descriptors[fd] = number
        # A poll in progress does not see a new registration: wake it.
        self._poll.register(fd, select.POLLIN)
        os.write(self._wake_write, b".")
        return number

    def do_set_forwarding(self, enabled: bool) -> None:
        self.handle.call("knet_handle_setfwd", int(enabled))

    def do_set_filter(
        self,
        target: str | list[int] | None,
        rx: str | list[int] = "broadcast",
        tx_channel: int | None = None,
        rx_channel: int | None = None,
        only: str | None = None,
    ) -> None:
        if target is None:
            self.handle.set_filter(None)
            return
        answers = {libknet.NOTIFY_TX: target, libknet.NOTIFY_RX: rx}
        channels = {libknet.NOTIFY_TX: tx_channel, libknet.NOTIFY_RX: rx_channel}
        meant = None if only is None else base64.b64decode(only)

        def decide(
            data: bytes, tx_rx: int, _host: int, _source: int, channel: int
        ) -> tuple[list[int] | None, int] | None:
            if meant is not None and data != meant:
                return None, channel
            answer, moved = answers[tx_rx], channels[tx_rx]
            if answer == "error":
                return None
            hosts = answer if isinstance(answer, list) else None
            return hosts, channel if moved is None else moved

        self.handle.set_filter(decide)

    def do_set_access_lists(self, enabled: bool) -> None:
        self.handle.call("knet_handle_enable_access_lists", int(enabled))

    def do_set_pmtud_interval(self, seconds: int) -> None:
        self.handle.call("knet_handle_pmtud_setfreq", seconds)

    def do_set_mtu(self, interface_mtu: int) -> None:
        self.handle.call("knet_handle_pmtud_set", interface_mtu)

    def do_set_reconnect_interval(self, milliseconds: int) -> None:
        self.handle.call("knet_handle_set_transport_reconnect_interval", milliseconds)

    def do_set_crypto(self, model: str, cipher: str, hash: str, key: str, slot: int) -> None:
        config = self.handle.crypto_config(model, cipher, hash, base64.b64decode(key))
        self.handle.call("knet_handle_crypto_set_config", ctypes.byref(config), slot)

    def do_use_crypto(self, slot: int) -> None:
        self.handle.call("knet_handle_crypto_use_config", slot)

    def do_handle_crypto(self, model: str, cipher: str, hash: str, key: str) -> None:
        config = self.handle.crypto_config(model, cipher, hash, base64.b64decode(key))
        self.handle.call("knet_handle_crypto", ctypes.byref(config))

    def do_clear_traffic(self, allow: bool) -> None:
        allowed, refused = libknet.RX_ALLOW_CLEAR_TRAFFIC, libknet.RX_DISALLOW_CLEAR_TRAFFIC
        value = allowed if allow else refused
        self.handle.call("knet_handle_crypto_rx_clear_traffic", value)

    def do_set_compress(self, model: str, level: int, threshold: int) -> None:
        self.handle.compress(model, level, threshold)

    def do_set_log_level(self, subsystem: int, level: str) -> None:
        self.handle.call("knet_log_set_loglevel", subsystem, libknet.LOG_LEVELS[level])

    def do_statistics(self) -> dict[str, Any]:
        return self.handle.statistics()

    def do_clear_statistics(self, links: bool = False) -> None:
        everything = libknet.CLEARSTATS_HANDLE_AND_LINK
        option = everything if links else libknet.CLEARSTATS_HANDLE_ONLY
        self.handle.call("knet_handle_clear_stats", option)

    def do_data_mtu(self) -> int:
        return self.handle.data_mtu()

    # Hosts

    def do_add_host(self, host_id: int) -> None:
        self.handle.call("knet_host_add", host_id)

    def do_remove_host(self, host_id: int) -> None:
        self.handle.call("knet_host_remove", host_id)

    def do_set_name(self, host_id: int, name: str) -> None:
        self.handle.call("knet_host_set_name", host_id, name.encode())

    def do_host_name(self, host_id: int) -> str:
        return self.handle.host_name(host_id)

    def do_host_id_of(self, name: str) -> int:
        return self.handle.host_id_of(name)

    def do_host_list(self) -> list[int]:
        return self.handle.host_list()

    def do_set_policy(self, host_id: int, policy: str | int) -> None:
        number = policy if isinstance(policy, int) else libknet.POLICIES[policy]
        self.handle.call("knet_host_set_policy", host_id, number)

    def do_host_status(self, host_id: int) -> dict[str, Any]:
        return self.handle.host_status(host_id)

    # Links

    def do_set_link_config(
        self,
        host_id: int,
        link_id: int,
        src: list[Any],
        dst: list[Any] | None,
        transport: str = "udp",
        high_priority: bool = False,
    ) -> None:
        self.handle.link_set_config(
            host_id,
            link_id,
            (src[0], src[1]),
            None if dst is None else (dst[0], dst[1]),
            transport=libknet.TRANSPORTS[transport],
            flags=libknet.LINK_FLAG_TRAFFICHIPRIO if high_priority else 0,
        )

    def do_set_ping_timers(
        self, host_id: int, link_id: int, interval: int, timeout: int, precision: int
    ) -> None:
        arguments = (host_id, link_id, interval, timeout, precision)
        self.handle.call("knet_link_set_ping_timers", *arguments)

    def do_set_pong_count(self, host_id: int, link_id: int, pong_count: int) -> None:
        self.handle.call("knet_link_set_pong_count", host_id, link_id, pong_count)

    def do_set_priority(self, host_id: int, link_id: int, priority: int) -> None:
        self.handle.call("knet_link_set_priority", host_id, link_id, priority)

    def do_set_link_enable(self, host_id: int, link_id: int, enabled: bool) -> None:
        self.handle.call("knet_link_set_enable", host_id, link_id, int(enabled))

    def do_clear_link(self, host_id: int, link_id: int) -> None:
        self.handle.call("knet_link_clear_config", host_id, link_id)

    def do_link_status(self, host_id: int, link_id: int) -> dict[str, Any]:
        return self.handle.link_status(host_id, link_id)

    def do_add_acl(
        self,
        host_id: int,
        link_id: int,
        kind: str,
        first: str,
        second: str | None = None,
        accept: bool = True,
    ) -> None:
        number = libknet.ACL_TYPES[kind]
        self.handle.link_add_acl(host_id, link_id, number, first, second, accept=accept)

    def do_clear_acl(self, host_id: int, link_id: int) -> None:
        self.handle.call("knet_link_clear_acl", host_id, link_id)


def answer(node: Node, command: dict[str, Any]) -> dict[str, Any]:
    number = command.pop("id")
    method: Callable[..., Any] = getattr(node, f"do_{command.pop('do')}")
    try:
        return {"id": number, "result": method(**command)}
    except OSError as error:
        return {"id": number, "error": error_record(error)}


def main() -> None:
    output = Output()
    node = Node(output, **json.loads(sys.argv[1]))
    output.event("ready")
    try:
        for line in sys.stdin:
            output.put(answer(node, json.loads(line)))
    finally:
        node.close()
        output.close()


if __name__ == "__main__":
    main()
