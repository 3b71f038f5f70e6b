"""Arguments that one library or both refuse: what each says, and the words of the row about it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final, NamedTuple

from knet_trio import Broadcast, CompressConfig, CryptoConfig, Unicast, get_compress_list
from knet_trio._compress import MODELS
from tests.interop.both_sides import NO_FD, TAKEN, CSide, OurSide
from tests.interop.libknet import CompressCfg

Here = Callable[[OurSide], object]
There = Callable[[CSide], object]


class Case(NamedTuple):
    """One way to call something.

    Attributes:
        call: The call, whose row in the table is meant.
        what: What is given.
        c: How it is given to the C library.
        ours: How it is given to ours.
        in_c: What the C library says of it.
        here: What ours says.
        says: The words of the row about the difference, None where there is none.
    """

    call: str
    what: str
    c: There
    ours: Here
    in_c: str
    here: str
    says: str | None = None


def same(call: str, what: str, answer: str, c: There, ours: Here) -> Case:
    """Both say the same."""
    return Case(f"knet_{call}", what, c, ours, answer, answer)


def case(
    call: str, what: str, in_c: str, here: str, says: str | None, c: There, ours: Here
) -> Case:
    """They differ, as the row says, or for None do not."""
    return Case(f"knet_{call}", what, c, ours, in_c, here, says)


def call(name: str, *arguments: object) -> There:
    return lambda c: c.call(f"knet_{name}", *arguments)


def put(attribute: str, value: object) -> Here:
    return lambda o: setattr(o.handle, attribute, value)


@contextmanager
def descriptor(kind: str) -> Generator[int]:
    """A descriptor of the program: a regular file, or an end of a pipe."""
    if kind == "file":
        fd, other = os.open(__file__, os.O_RDONLY), -1
    else:
        fd, other = os.pipe()
    try:
        yield fd
    finally:
        for each in {fd, other} - {-1}:
            os.close(each)


def c_datafd(side: CSide, kind: str) -> None:
    with descriptor(kind) as fd:
        side.add_datafd(fd, 9)
        side.call("knet_handle_remove_datafd", fd)


def our_datafd(side: OurSide, kind: str) -> None:
    with descriptor(kind) as fd:
        side.handle.add_datafd(fd, 9)
        side.handle.remove_datafd(fd)


def c_all_channels(side: CSide) -> None:
    for _ in range(33):
        side.add_datafd(0, -1)


def our_channels(side: OurSide) -> None:
    with ExitStack() as at_end:
        for _ in range(33):
            at_end.callback(side.handle.remove_datafd, side.handle.add_datafd().fd)


def settings() -> Iterator[Case]:
    """Settings of a handle, and its log."""
    for value, answer in ((0, "EINVAL"), (1, TAKEN), (86400, TAKEN), (86401, "EINVAL")):
        name = "handle_pmtud_setfreq"
        yield same(name, f"{value}", answer, call(name, value), put("pmtud_interval", value))
    narrow = "C takes 1 and more"
    for value, in_c, here, says in (
        (0, TAKEN, TAKEN, None),
        (1, TAKEN, "EINVAL", narrow),
        (575, TAKEN, "EINVAL", narrow),
        (576, TAKEN, TAKEN, None),
        (65535, TAKEN, TAKEN, None),
        (65536, "EINVAL", "EINVAL", None),
    ):
        name = "handle_pmtud_set"
        yield case(name, f"{value}", in_c, here, says, call(name, value), put("mtu", value))
    for value, in_c, here, says in (
        (0, "EINVAL", "EINVAL", None),
        (1, TAKEN, TAKEN, None),
        (86_400_000, TAKEN, TAKEN, None),
        (2**32 - 1, TAKEN, "EINVAL", "in C without an upper limit"),
    ):
        name = "handle_set_transport_reconnect_interval"
        ours = put("reconnect_interval", value / 1000)
        yield case(name, f"{value} ms", in_c, here, says, call(name, value), ours)
    for name, attribute in (
        ("handle_enable_access_lists", "access_lists"),
        ("handle_crypto_rx_clear_traffic", "allow_clear_traffic"),
    ):
        yield same(name, "2", "EINVAL", call(name, 2), put(attribute, 2))
        yield case(name, "1", TAKEN, "EINVAL", "and a 1 too", call(name, 1), put(attribute, 1))
    yield same(
        "handle_setfwd",
        "2",
        "EINVAL",
        call("handle_setfwd", 2),
        lambda o: o.handle.set_forwarding(2),
    )
    for subsystem, level in ((0, 4), (9, 1), (255, 1)):
        yield same(
            "log_set_loglevel",
            f"{subsystem} {level}",
            "EINVAL",
            call("log_set_loglevel", subsystem, level),
            set_level(subsystem, level),
        )
    yield same(
        "log_get_loglevel",
        "9",
        "EINVAL",
        lambda c: c.got("knet_log_get_loglevel", 9),
        lambda o: o.handle.get_log_level(9),
    )


def set_level(subsystem: int, level: int) -> Here:
    return lambda o: o.handle.set_log_level(subsystem, level)


CRYPTO: Final = (
    # Model, cipher, hash, what C says, what is said here, and the words of the row.
    ("openssl", "aes256", "sha256", TAKEN, TAKEN, None),
    ("openssl", "none", "sha256", TAKEN, TAKEN, None),
    ("openssl", "aes-256-ctr", "sha1", TAKEN, TAKEN, None),
    ("openssl", "AES128", "MD5", TAKEN, TAKEN, None),
    ("nss", "aes192", "sha512", TAKEN, TAKEN, None),
    ("openssl", "nope", "sha256", "-2 ENXIO", "EINVAL", "Unknown names"),
    ("openssl", "aes256", "nope", "-2 ENXIO", "EINVAL", "Unknown names"),
    ("nope", "aes256", "sha256", "-2 no errno", "EINVAL", "Unknown names"),
    ("openssl", "aes256", "none", "-2 EINVAL", "EINVAL", "a cipher without a hash"),
    ("openssl", "none", "none", TAKEN, "EINVAL", "neither cipher nor hash"),
    ("none", "aes256", "sha256", TAKEN, "EINVAL", "the model `none`"),
    ("nss", "aes256", "sha224", "-2 ENXIO", "EINVAL", "sha224 is not for nss"),
    ("gcrypt", "aes256", "sha256", "-2 no errno", TAKEN, "1.25 has no gcrypt"),
    ("OPENSSL", "aes256", "sha256", "-2 no errno", TAKEN, "Names may be in capitals"),
    ("nss", "aes-256-cbc", "sha256", "-2 ENXIO", TAKEN, "knows `aes256` and the like"),
    ("openssl", "aes256-ctr", "sha256", "-2 ENXIO", TAKEN, "knows `aes256` and the like"),
    ("openssl", "aes-256-gcm", "sha256", TAKEN, "EINVAL", "with openssl all that OpenSSL knows"),
)


def set_crypto(slot: int | None, **names: str) -> Here:
    """Set it; without a slot by the call that has none."""
    config = CryptoConfig(bytes(256), **names)
    if slot is None:
        return lambda o: o.handle.replace_crypto(config)
    return lambda o: o.handle.set_crypto(config, slot)


def c_crypto(slot: int | None, model: str, cipher: str, digest: str) -> There:
    return lambda c: c.crypto(model, cipher, digest, slot=slot)


def c_key(size: int) -> There:
    return lambda c: c.crypto(size=size)


def key(size: int) -> Here:
    return lambda o: o.handle.set_crypto(CryptoConfig(bytes(size)), 2)


def use(slot: int) -> Here:
    return lambda o: o.handle.use_crypto(slot)


def crypto() -> Iterator[Case]:
    """Configurations of crypto."""
    for model, cipher, digest, in_c, here, says in CRYPTO:
        yield case(
            "handle_crypto_set_config",
            f"{model} {cipher} {digest}",
            in_c,
            here,
            says,
            c_crypto(2, model, cipher, digest),
            set_crypto(2, model=model, cipher=cipher, hash=digest),
        )
    for size, answer in ((127, "EINVAL"), (128, TAKEN), (4096, TAKEN), (4097, "EINVAL")):
        yield same("handle_crypto_set_config", f"key of {size}", answer, c_key(size), key(size))
    good = ("openssl", "aes256", "sha256")
    for slot in (0, 3):
        yield same(
            "handle_crypto_set_config",
            f"slot {slot}",
            "EINVAL",
            c_crypto(slot, *good),
            set_crypto(slot),
        )
    # In their order: the first finds nothing in the slot.
    name = "handle_crypto_use_config"
    for slot, answer in ((1, "EINVAL"), (3, "EINVAL"), (0, TAKEN)):
        yield same(name, f"{slot}", answer, call(name, slot), use(slot))
    yield same(name, "set 1", TAKEN, c_crypto(1, *good), set_crypto(1))
    yield same(name, "1 when set", TAKEN, call(name, 1), use(1))
    yield same(name, "set the one in use", "EBUSY", c_crypto(1, *good), set_crypto(1))
    name = "handle_crypto"
    yield same(name, "a good one", TAKEN, c_crypto(None, *good), set_crypto(None))
    yield same(name, "over one in use", TAKEN, c_crypto(None, *good), set_crypto(None))
    yield case(
        name,
        "an unknown cipher",
        "-2 ENXIO",
        "EINVAL",
        "in C -2, with ENXIO, EINVAL or nothing",
        c_crypto(None, "openssl", "nope", "sha256"),
        set_crypto(None, cipher="nope"),
    )


COMPRESS: Final = (
    # Model, level, threshold, what C says and what is said here.
    ("nope", 1, 100, "EINVAL", "EINVAL"),
    ("ZLIB", 1, 100, "EINVAL", TAKEN),
    ("zlib", 1, 0, TAKEN, TAKEN),
    ("zlib", 1, 65536, TAKEN, TAKEN),
    ("zlib", 1, 65537, "EINVAL", "EINVAL"),
    ("zlib", -2, 100, "EINVAL", "EINVAL"),
    ("zlib", -1, 100, TAKEN, TAKEN),
    ("zlib", 9, 100, TAKEN, TAKEN),
    ("zlib", 10, 100, "EINVAL", "EINVAL"),
    ("lzma", -1, 100, "EINVAL", "EINVAL"),
    ("lzma", 0, 100, TAKEN, TAKEN),
    ("lzma", 9, 100, TAKEN, TAKEN),
    ("lzma", 10, 100, "EINVAL", "EINVAL"),
    ("lzma", -(2**31), 100, TAKEN, TAKEN),
    ("lzma", -(2**31) + 9, 100, TAKEN, TAKEN),
    ("lzma", -(2**31) + 10, 100, "EINVAL", "EINVAL"),
    ("bzip2", 0, 100, "EINVAL", "EINVAL"),
    ("bzip2", 1, 100, TAKEN, TAKEN),
    ("bzip2", 9, 100, TAKEN, TAKEN),
    ("bzip2", 10, 100, "EINVAL", "EINVAL"),
    ("lz4", -1, 100, TAKEN, TAKEN),
    ("lz4", 2**31 - 1, 100, TAKEN, TAKEN),
    ("lz4hc", -1, 100, TAKEN, TAKEN),
    ("lz4hc", 99, 100, TAKEN, TAKEN),
    ("zstd", -131073, 100, TAKEN, TAKEN),
    ("zstd", 23, 100, TAKEN, TAKEN),
    ("lzo2", -7, 100, TAKEN, TAKEN),
    ("lzo2", 999, 100, TAKEN, TAKEN),
)


def compress() -> Iterator[Case]:
    """Configurations of compression."""
    installed = get_compress_list()
    for model, level, threshold, in_c, here in COMPRESS:
        if model in MODELS and model not in installed:
            continue

        def in_c_library(
            c: CSide, arguments: tuple[bytes, int, int] = (model.encode(), threshold, level)
        ) -> None:
            c.call("knet_handle_compress", ctypes.byref(CompressCfg(*arguments)))

        def ours(o: OurSide, arguments: tuple[str, int, int] = (model, level, threshold)) -> None:
            o.handle.set_compress(CompressConfig(*arguments))

        says = None if in_c == here else "a model in capitals is one here only"
        what = f"{model} {level} {threshold}"
        yield case("handle_compress", what, in_c, here, says, in_c_library, ours)


def datafd(fd: int | None = None, channel: int | None = None) -> Here:
    return lambda o: o.handle.add_datafd(fd, channel)


def c_fd(fd: int, channel: int) -> There:
    return lambda c: c.add_datafd(fd, channel)


def datafds() -> Iterator[Case]:
    """Descriptors and channels."""
    name = "handle_add_datafd"
    yield same(name, "channel 32", "EINVAL", c_fd(0, 32), datafd(None, 32))
    yield same(name, "channel in use", "EBUSY", c_fd(0, 0), datafd(None, 0))
    yield same(name, "closed fd", "EBADF", c_fd(NO_FD, 9), datafd(NO_FD, 9))
    yield same(
        name,
        "fd in use",
        "EEXIST",
        lambda c: c.add_datafd(c.fd, 9),
        lambda o: o.handle.add_datafd(o.fd, 9),
    )
    for kind, answer in (("file", "EPERM"), ("pipe", TAKEN)):
        yield same(
            name,
            kind,
            answer,
            lambda c, kind=kind: c_datafd(c, kind),  # type: ignore[misc]
            lambda o, kind=kind: our_datafd(o, kind),  # type: ignore[misc]
        )
    yield case(
        name,
        "a negative fd",
        TAKEN,
        "EINVAL",
        "1.25 makes a socket pair for them",
        c_fd(-1, 9),
        datafd(-1, 9),
    )
    yield case(
        name,
        "fd 0",
        TAKEN,
        "EINVAL",
        "(C: 0, which is EINVAL here)",
        c_fd(0, 10),
        datafd(0, 10),
    )
    yield case(
        name,
        "all channels in use",
        "EBUSY",
        "ENOSPC",
        "`LimitError`, ENOSPC, in C EBUSY",
        c_all_channels,
        our_channels,
    )
    name = "handle_remove_datafd"
    yield same(
        name, "unknown", "EINVAL", call(name, NO_FD), lambda o: o.handle.remove_datafd(NO_FD)
    )
    name = "handle_get_datafd"
    for channel in (31, 32):
        yield same(
            name,
            f"{channel}",
            "EINVAL",
            lambda c, n=channel: c.got("knet_handle_get_datafd", n),  # type: ignore[misc]
            lambda o, n=channel: o.handle.get_datafd(n),  # type: ignore[misc]
        )
    yield same(
        "handle_get_channel",
        "unknown",
        "EINVAL",
        lambda c: c.got("knet_handle_get_channel", NO_FD),
        lambda o: o.handle.get_channel(NO_FD),
    )


def messages() -> Iterator[Case]:
    """Messages, and where a filter sends them."""
    for size, answer in ((0, "EINVAL"), (1, TAKEN), (65536, TAKEN), (65537, "EINVAL")):
        yield same(
            "send",
            f"{size} bytes",
            answer,
            lambda c, n=size: c.send(n),  # type: ignore[misc]
            lambda o, n=size: o.channel.send(bytes(n)),  # type: ignore[misc]
        )
    unknown = "in C it is EHOSTDOWN alone, and E2BIG among others"
    for hosts, in_c, here, says in (
        ([2], "EHOSTDOWN", "EHOSTDOWN", None),
        ([], "EINVAL", "EINVAL", None),
        ([2, 3], "E2BIG", "E2BIG", None),
        ([99], "EHOSTDOWN", "EINVAL", unknown),
        ([99, 2], "E2BIG", "EINVAL", unknown),
        ([2, 2], "E2BIG", "EHOSTDOWN", "One host that is named twice is one, in C E2BIG"),
    ):
        yield case(
            "send_sync",
            f"{hosts}",
            in_c,
            here,
            says,
            lambda c, to=hosts: c.send_sync(to),  # type: ignore[misc]
            lambda o, to=hosts: o.send_sync(lambda: Unicast(to)),  # type: ignore[misc]
        )
    yield same(
        "send_sync",
        "everybody",
        "E2BIG",
        lambda c: c.send_sync([], everybody=True),
        lambda o: o.send_sync(Broadcast),
    )
    yield same(
        "send_sync",
        "an error of the filter",
        "EFAULT",
        lambda c: c.send_sync(None),
        lambda o: o.send_sync(lambda: 1 / 0),
    )
    yield same(
        "send_sync",
        "no filter",
        "ENETDOWN",
        lambda c: c.handle.send_sync(b"x", 0),
        lambda o: o.channel.send_sync(b"x"),
    )


def cases() -> Iterator[Case]:
    """All of them, those of each call in the order in which they are to be tried."""
    yield from settings()
    yield from crypto()
    yield from compress()
    yield from datafds()
    yield from messages()
