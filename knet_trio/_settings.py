"""The settings of a handle that can be changed while it runs."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import iscoroutinefunction
from typing import Final, cast

from knet_trio._compress import make_compressor, wire_id_of
from knet_trio._core.onwire import VERSION
from knet_trio._core.sizes import MAX_ONWIRE, MIN_IPV4_MTU, EnvelopeSizes
from knet_trio._facade import Facade, forgets_arguments
from knet_trio._logs import settings
from knet_trio._logs.names import LogSubsystem
from knet_trio._runtime import Runtime
from knet_trio._state.context import Compression
from knet_trio.config import (
    DEFAULT_COMPRESS_THRESHOLD,
    MAX_SECONDS,
    MIN_SECONDS,
    CompressConfig,
    CryptoConfig,
    DefragBuffers,
    check_boolean,
    check_integer,
    check_seconds,
)
from knet_trio.errors import InvalidArgumentError, shown
from knet_trio.message import Filter
from knet_trio.status import OnwireVersions

MIN_PMTUD_INTERVAL: Final = 1.0
MAX_PMTUD_INTERVAL: Final = 86400.0
MAX_DSCP: Final = 63
# libknet's default. It can be read back, and has no effect.
DEFAULT_TIMER_RESOLUTION: Final = 0.2


class HandleSettings(Facade):
    """The settings of a ``Handle``."""

    __slots__ = ("_context", "_runtime", "_timer_resolution")

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._context = runtime.context
        self._timer_resolution = DEFAULT_TIMER_RESOLUTION

    # Crypto.

    @forgets_arguments
    def set_crypto(self, config: CryptoConfig | None, slot: int = 1) -> None:
        """Put a crypto configuration into a slot, or clear the slot.

        From then on, packets of both slots are accepted. Clear packets are accepted until a slot is
        used, see ``allow_clear_traffic``. On an error, nothing has changed.

        Args:
            config: The configuration. None clears the slot.
            slot: The slot, 1 or 2, but not the one in use.

        Raises:
            BusyError: The slot is in use.
            InvalidArgumentError: A name in ``config`` is unknown, or the slot is not 1 or 2.

        See knet_handle_crypto_set_config(3).
        """
        self._runtime.check_running()
        self._context.crypto.set(check_crypto(config), slot)
        self._runtime.handle.forget_cleared_slots()
        settings.log_slot(self._context.log, slot, config)

    @forgets_arguments
    def use_crypto(self, slot: int) -> None:
        """Encrypt with a slot from now on.

        If the size of the envelope changes, the path MTUs are discovered again.

        Args:
            slot: The slot, 1 or 2; 0 sends packets in the clear.

        Raises:
            InvalidArgumentError: The slot is empty, or not 0, 1 or 2.

        See knet_handle_crypto_use_config(3).
        """
        self._runtime.check_running()
        before = self._context.envelope
        self._context.crypto.use(slot)
        settings.log_sealing(self._context.log, slot)
        self._envelope_changed(before)

    @property
    def crypto_in_use(self) -> int:
        """The slot that encrypts packets, 1 or 2; 0 if they are sent in the clear."""
        return self._context.crypto.in_use

    @property
    def aead_slots(self) -> tuple[int, ...]:
        """The crypto slots of model ``aead``, for which ``Host.confirmed`` says something."""
        crypto = self._context.crypto
        return tuple(sorted(crypto.number(one) for one in crypto.aead))

    @forgets_arguments
    def replace_crypto(self, config: CryptoConfig | None) -> None:
        """Put a crypto configuration into slot 1 and encrypt with it, even if slot 1 is in use.

        The old key is forgotten at once, so packets that peers still encrypt with it are lost;
        ``set_crypto`` and ``use_crypto`` change keys without loss. Slot 2 does not change.

        Args:
            config: The configuration. None clears slot 1, and sends packets in the clear.

        Raises:
            InvalidArgumentError: A name in ``config`` is unknown; nothing has changed.

        See knet_handle_crypto(3).
        """
        self._runtime.check_running()
        before = self._context.envelope
        self._context.crypto.replace(check_crypto(config))
        self._runtime.handle.forget_cleared_slots()
        settings.log_slot(self._context.log, 1, config)
        settings.log_sealing(self._context.log, self._context.crypto.in_use)
        self._envelope_changed(before)

    def renew(self) -> None:
        """Begin a new life, as after a restart, for machines that are restored from a snapshot.

        Model ``aead`` never encrypts two packets with one nonce, unless the machine is restored
        from a snapshot while the handle is open. Call this after that, before anything is sent. The
        other hosts drop packets of the new life until it has answered their pings; it pings them at
        once, so that they ask. With other models, this has no effect.
        """
        self._runtime.check_running()
        self._runtime.handle.renew_life()
        self._context.log.info(LogSubsystem.CRYPTO, "another life has begun")

    def _envelope_changed(self, before: EnvelopeSizes) -> None:
        if self._context.envelope != before:
            self._runtime.handle.restart_discovery()

    @property
    def allow_clear_traffic(self) -> bool:
        """True if packets that are not encrypted are accepted now.

        Can be set to True or False, or to None to accept them only while no key is in use. To begin
        to encrypt without loss, set True on every host meanwhile.

        See knet_handle_crypto_rx_clear_traffic(3).
        """
        return self._context.crypto.allow_clear_traffic

    @allow_clear_traffic.setter
    def allow_clear_traffic(self, allow: bool | None) -> None:
        self._runtime.check_running()
        self._context.crypto.set_clear_traffic(check_clear_traffic(allow))
        settings.log_clear_traffic(self._context.log, self._context.crypto.allow_clear_traffic)

    def set_compress(self, config: CompressConfig | None) -> None:
        """Set how messages are compressed before they are sent.

        Received messages are decompressed independently of this, as ``accept_compression`` of
        ``open_handle`` allows.

        Args:
            config: The algorithm and its level. None: do not compress.

        Raises:
            InvalidArgumentError: The model or the level does not exist; nothing has changed.

        See knet_handle_compress(3).
        """
        self._runtime.check_running()
        self._context.compression = make_compression(config)
        settings.log_compression(self._context.log, config)

    # Path MTU and other settings.

    @property
    def data_mtu(self) -> int:
        """The data MTU: the largest message that fits in one packet on every link in use, in bytes.

        See knet_handle_pmtud_get(3).
        """
        return self._runtime.handle.data_mtu

    @property
    def mtu(self) -> int | None:
        """The MTU of all paths, in bytes; None if it is discovered for each path. Can be set.

        See knet_handle_pmtud_set(3).
        """
        return self._context.fixed_mtu

    @mtu.setter
    def mtu(self, mtu: int | None) -> None:
        self._runtime.check_running()
        self._context.fixed_mtu = check_mtu(mtu)
        self._runtime.handle.restart_discovery()

    @property
    def pmtud_interval(self) -> float:
        """Seconds between discoveries of the path MTU, 1 to 86400. Can be set.

        See knet_handle_pmtud_setfreq(3).
        """
        return self._context.pmtud_interval

    @pmtud_interval.setter
    def pmtud_interval(self, interval: float) -> None:
        self._runtime.check_running()
        self._runtime.handle.set_pmtud_interval(check_pmtud_interval(interval))

    @property
    def access_lists(self) -> bool:
        """True if packets are accepted only from addresses in the access list of their link.

        Can be set.

        See knet_handle_enable_access_lists(3).
        """
        return self._context.access_lists

    @access_lists.setter
    def access_lists(self, enabled: bool) -> None:
        self._runtime.check_running()
        self._context.access_lists = check_boolean("access_lists", enabled)
        settings.log_access_lists(self._context.log, enabled)

    @property
    def hedge(self) -> bool:
        """True if messages are sent over a second link too while the first one is in doubt.

        Can be set. A link is in doubt from a failed send or an overdue pong until a pong comes or
        the link is down. This concerns the passive and round-robin policies; every receiver drops
        the copies.
        """
        return self._context.hedge

    @hedge.setter
    def hedge(self, enabled: bool) -> None:
        self._runtime.check_running()
        self._context.hedge = check_boolean("hedge", enabled)

    @property
    def dscp(self) -> int:
        """The DSCP of packets on high-priority links, 0 to 63. Can be set, also for existing links.

        With 0 they have the low-delay type of service.

        See knet_handle_setprio_dscp(3).
        """
        return self._runtime.dscp

    @dscp.setter
    def dscp(self, dscp: int) -> None:
        self._runtime.check_running()
        self._runtime.set_dscp(check_dscp(dscp))

    @property
    def reconnect_interval(self) -> float:
        """Seconds between two attempts to connect a link over SCTP. Can be set.

        A connection that is lost after a longer time is made again at once. Within an attempt, the
        INIT is repeated in the same interval, of 0.2 to 60 seconds. A new interval also holds for
        attempts that wait. UDP has no connections.

        See knet_handle_set_transport_reconnect_interval(3).
        """
        return self._context.reconnect_interval

    @reconnect_interval.setter
    def reconnect_interval(self, interval: float) -> None:
        self._runtime.check_running()
        self._runtime.set_reconnect_interval(check_reconnect_interval(interval))

    @property
    def defrag_buffers(self) -> DefragBuffers:
        """The number of messages of each host that may be incomplete at once. Can be set.

        When it is lowered, the oldest incomplete messages above it are dropped and counted.

        See knet_handle_set_host_defrag_bufs(3).
        """
        return self._context.defrag_buffers

    @defrag_buffers.setter
    def defrag_buffers(self, buffers: DefragBuffers) -> None:
        self._runtime.check_running()
        self._runtime.handle.set_defrag_buffers(check_defrag_buffers(buffers))

    @property
    def timer_resolution(self) -> float:
        """The timer resolution in seconds, 0.001 or more. It has no effect: timers are exact.

        Can be set; 0 sets the default of 0.2.

        See knet_handle_set_threads_timer_res(3).
        """
        return self._timer_resolution

    @timer_resolution.setter
    def timer_resolution(self, resolution: float) -> None:
        self._runtime.check_running()
        self._timer_resolution = check_timer_resolution(resolution)

    @property
    def onwire_versions(self) -> OnwireVersions:
        """The versions of the wire protocol; only one exists.

        See knet_handle_get_onwire_ver(3).
        """
        return OnwireVersions(minimum=VERSION, maximum=VERSION, in_use=VERSION)


def make_compression(config: CompressConfig | None) -> Compression | None:
    """Return the compressor and threshold of ``config``; raise InvalidArgumentError if unknown."""
    if config is None:
        return None
    _check_compress(config)
    threshold = config.threshold or DEFAULT_COMPRESS_THRESHOLD
    return Compression(make_compressor(config), threshold)


def check_crypto(config: CryptoConfig | None) -> CryptoConfig | None:
    """Return ``config`` if it is a CryptoConfig or None; raise an error that does not show it."""
    _check_crypto(config)
    return config


def _check_crypto(config: object) -> None:
    if config is not None and not isinstance(config, CryptoConfig):
        raise InvalidArgumentError(
            f"crypto is a CryptoConfig or None, not {type(config).__name__}: write"
            " CryptoConfig(key=...)"
        )


def _check_compress(config: object) -> None:
    if not isinstance(config, CompressConfig):
        raise InvalidArgumentError(
            f"compress {shown(config)} is neither a CompressConfig nor None: write"
            " CompressConfig('lz4')"
        )


def check_accept_compression(models: object) -> frozenset[int] | None:
    """Return the wire ids of compression ``models``, None for None.

    Raises:
        InvalidArgumentError: ``models`` is not a list of names, or one of them does not exist.
    """
    if models is None:
        return None
    if isinstance(models, str | bytes) or not isinstance(models, Iterable):
        raise InvalidArgumentError(
            f"accept_compression={shown(models)} is not a list of models, such as ['zlib']"
        )
    return frozenset(wire_id_of(model) for model in cast("Iterable[object]", models))


def check_filter(filter: Filter | None) -> Filter | None:
    """Return ``filter`` if it can be called, else raise InvalidArgumentError."""
    if iscoroutinefunction(filter):
        raise InvalidArgumentError(
            f"the filter {shown(filter)} is an async function and cannot wait: use a plain function"
        )
    if filter is None or callable(filter):
        return filter
    raise InvalidArgumentError(
        f"the filter {shown(filter)} is not callable: give a function that takes a FilterPacket and"
        " returns Broadcast(), Unicast(hosts) or Drop(), or None for no filter"
    )


def check_clear_traffic(allow: object) -> bool | None:
    """Return ``allow`` if it is True, False or None, else raise an error."""
    return None if allow is None else check_boolean("allow_clear_traffic", allow)


def check_mtu(mtu: int | None) -> int | None:
    """Return ``mtu`` if it is 576 to 65535 bytes, None for 0 and None, which mean discovery."""
    if mtu is None or (type(mtu) is int and mtu == 0):
        return None
    return check_integer("mtu", mtu, MIN_IPV4_MTU, MAX_ONWIRE)


def check_defrag_buffers(buffers: object) -> DefragBuffers:
    """Return ``buffers`` if it is a DefragBuffers, else raise InvalidArgumentError."""
    if isinstance(buffers, DefragBuffers):
        return buffers
    raise InvalidArgumentError(f"{shown(buffers)} is not a DefragBuffers(minimum, maximum)")


def check_dscp(dscp: int) -> int:
    """Return ``dscp`` if it is 0 to 63, else raise InvalidArgumentError."""
    return check_integer("dscp", dscp, 0, MAX_DSCP)


def check_timer_resolution(resolution: float) -> float:
    """Return ``resolution`` if it is 0.001 to 86400 seconds, and the default for 0."""
    if resolution == 0 and not isinstance(resolution, bool):
        return DEFAULT_TIMER_RESOLUTION
    return check_seconds("timer_resolution", resolution, MIN_SECONDS, MAX_SECONDS)


def check_reconnect_interval(interval: float) -> float:
    """Return ``interval`` if it is 0.001 to 86400 seconds, else raise InvalidArgumentError."""
    return check_seconds("reconnect_interval", interval, MIN_SECONDS, MAX_SECONDS)


def check_pmtud_interval(interval: float) -> float:
    """Return ``interval`` if it is 1 to 86400 seconds, else raise InvalidArgumentError."""
    return check_seconds("pmtud_interval", interval, MIN_PMTUD_INTERVAL, MAX_PMTUD_INTERVAL)
