"""The pytest plugin: tests on a simulated network, with pytest-trio or with anyio's plugin.

pytest finds it by itself where knet_trio is installed. Nothing of Trio and of the package is
imported before a test has the mark ``knet`` or asks for the fixture ``knet_network``.
"""

from __future__ import annotations

import secrets
import shlex
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast

import pytest

if TYPE_CHECKING:
    import trio

    from knet_trio.testing.conditions import Conditions, Interface
    from knet_trio.testing.network import SimulatedNetwork

T = TypeVar("T")

_FIXTURE: Final = "knet_network"
_BACKEND: Final = "anyio_backend"
# What Trio is run with in simulated time.
_TIME: Final = {"clock", "instruments"}
_OTHERS: Final = ("seed", "seeds", "conditions", "interface")

_NO_TRIO: Final = (
    f"{_FIXTURE} is for async tests that run in Trio: install pytest-trio and mark the test"
    " @pytest.mark.trio (or set trio_mode = true), or install anyio and mark it @pytest.mark.anyio,"
    ' with "trio" for its anyio_backend'
)


class NetworkOptions(NamedTuple):
    """The options of a test's marks ``knet``, checked.

    Attributes:
        seeds: The seeds that the test runs with; None for one that is drawn.
        several: True if each of them is a test of its own.
        conditions: The conditions of every wire.
        interface: The properties of every interface.
    """

    seeds: Sequence[int] | None
    several: bool
    conditions: Conditions
    interface: Interface


_options: Final = pytest.StashKey[NetworkOptions]()
_seed: Final = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that runs one seed again."""
    parser.getgroup("knet_trio").addoption(
        "--knet-seed",
        type=int,
        metavar="SEED",
        help=f"run the tests that use {_FIXTURE} with this seed, and with no other",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line(
        "markers",
        "knet(seeds=20, seed=None, loss=0.0, latency=0.001, ..., conditions=None, interface=None):"
        f" the network of {_FIXTURE}: the fields of knet_trio.testing.Conditions, a whole one, an"
        " Interface, and how many seeds (or which) to run the test with.",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Check the test's marks, and make it as many tests as there are seeds."""
    marks = list(metafunc.definition.iter_markers("knet"))
    used = _FIXTURE in metafunc.fixturenames
    if not marks and not used:
        return
    options = _check(metafunc.definition.nodeid, marks)
    if not used:
        # A mark of a class or a module is for those of its tests that use the network.
        if any(mark.name == "knet" for mark in metafunc.definition.own_markers):
            pytest.fail(
                f"the mark knet of {metafunc.definition.nodeid} has no effect: the test does not"
                f" use the fixture {_FIXTURE}, so give it an argument of that name",
                pytrace=False,
            )
        return
    if _BACKEND in metafunc.fixturenames and not _is_parametrized(metafunc, _BACKEND):
        # Filled when the test begins, with a clock of its own. There is no network on asyncio.
        backend: tuple[str, dict[str, Any]] = ("trio", {})
        only = pytest.mark.parametrize(_BACKEND, [backend], ids=["trio"], scope="module")
        # As a mark, it comes before the parameters that anyio's fixture has itself.
        metafunc.definition.add_marker(only)
    if options.several:
        chosen = metafunc.config.getoption("knet_seed")
        seeds = options.seeds if chosen is None else [chosen]
        assert seeds is not None
        ids = [f"seed{seed}" for seed in seeds]
        metafunc.parametrize(_FIXTURE, seeds, ids=ids, indirect=True)


def _check(test: str, marks: Sequence[pytest.Mark]) -> NetworkOptions:
    try:
        return _read(marks)
    except (TypeError, ValueError) as error:
        wrong = str(error)
    # Not while it is handled, since pytest would show both.
    pytest.fail(f"the mark knet of {test}: {wrong}", pytrace=False)


def _is_parametrized(metafunc: pytest.Metafunc, name: str) -> bool:
    for mark in metafunc.definition.iter_markers("parametrize"):
        names = mark.args[0] if mark.args else mark.kwargs.get("argnames", ())
        if name in (
            [each.strip() for each in names.split(",")] if isinstance(names, str) else names
        ):
            return True
    return False


def _read(marks: Sequence[pytest.Mark]) -> NetworkOptions:
    """Return what the marks of a test say; the closest to it, which come first, win.

    Raises:
        TypeError: There is no such option, or it has the wrong type.
        ValueError: A value is out of range.
    """
    import attrs

    from knet_trio.testing.conditions import Conditions, Interface, check_type

    fields = [field.name for field in attrs.fields(Conditions)]
    merged: dict[str, Any] = {}
    for mark in reversed(marks):
        if mark.args:
            raise TypeError(f"give options by their names, not {mark.args[0]!r} alone")
        for name in mark.kwargs:
            if name not in fields and name not in _OTHERS:
                known = ", ".join([*_OTHERS, *fields])
                raise TypeError(f"there is no option {name!r}; use one of {known}")
        if "seed" in mark.kwargs and "seeds" in mark.kwargs:
            raise TypeError("give seed= or seeds=, not both")
        if "seed" in mark.kwargs or "seeds" in mark.kwargs:
            merged.pop("seed", None)
            merged.pop("seeds", None)
        merged.update(mark.kwargs)
    several = merged.get("seeds") is not None
    seeds = _read_seeds(merged.pop("seed", None), merged.pop("seeds", None))
    interface = merged.pop("interface", None) or Interface()
    conditions = merged.pop("conditions", None) or Conditions()
    check_type("interface", interface, Interface)
    check_type("conditions", conditions, Conditions)
    return NetworkOptions(seeds, several, attrs.evolve(conditions, **merged), interface)


def _read_seeds(seed: object, seeds: object) -> list[int] | None:
    if seed is None and seeds is None:
        return None
    found: list[object]
    if seed is not None:
        found = [seed]
    elif isinstance(seeds, int) and not isinstance(seeds, bool):
        found = list(range(seeds))
    elif isinstance(seeds, Iterable) and not isinstance(seeds, str | bytes):
        found = list(cast("Iterable[object]", seeds))
    else:
        raise TypeError(f"seeds {seeds!r} is neither how many there are, nor a list of them")
    numbers = [each for each in found if isinstance(each, int) and not isinstance(each, bool)]
    if len(numbers) < len(found):
        raise TypeError(f"seeds are whole numbers, and {found!r} are not")
    if not numbers:
        raise ValueError(f"seeds {seeds!r} leaves no seed to run with: give 1 or more")
    return numbers


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Choose the seed of a test that uses the network, and the time that it runs in."""
    if not isinstance(item, pytest.Function) or _FIXTURE not in item.fixturenames:
        return
    options = item.stash[_options] = _read(list(item.iter_markers("knet")))
    params: dict[str, Any] = item.callspec.params if hasattr(item, "callspec") else {}
    chosen = item.config.getoption("knet_seed")
    if _FIXTURE in params:
        seed = params[_FIXTURE]
    elif chosen is not None:
        seed = chosen
    else:
        seed = options.seeds[0] if options.seeds else secrets.randbelow(2**32)
    if _runs_in_pytest_trio(item):
        _use_simulated_run(item)
    elif _BACKEND in item.fixturenames and iscoroutinefunction(item.obj):
        _use_simulated_clock(params.get(_BACKEND))
    else:
        pytest.fail(_NO_TRIO, pytrace=False)
    item.stash[_seed] = seed


def _runs_in_pytest_trio(item: pytest.Function) -> bool:
    plugins = item.config.pluginmanager
    there = plugins.hasplugin("trio") or plugins.hasplugin("pytest_trio.plugin")
    return there and item.get_closest_marker("trio") is not None


def _use_simulated_run(item: pytest.Function) -> None:
    """Have pytest-trio call ``_run`` in place of ``trio.run``, unless the test has another."""
    import trio

    runs = [mark.kwargs.get("run") for mark in item.iter_markers("trio")]
    if all(run is None or run is trio.run for run in runs):
        item.add_marker(pytest.mark.trio(run=partial(_run, item)), append=False)


def _run(
    item: pytest.Function,
    main: Callable[[], Awaitable[T]],
    *,
    clock: trio.abc.Clock | None = None,
    instruments: Sequence[trio.abc.Instrument] = (),
) -> T:
    from knet_trio.testing.running import run_decided

    return run_decided(main, item.stash[_seed], clock=clock, instruments=instruments)


def _use_simulated_clock(backend: tuple[str, dict[str, Any]] | None) -> None:
    """Give the Trio that anyio's plugin runs a new clock, if the backend is that made above."""
    from knet_trio.testing.running import simulated_time

    if isinstance(backend, tuple) and not backend[1].keys() - _TIME:
        clock, waiting = simulated_time()
        backend[1].update(clock=clock, instruments=[waiting])


@pytest.fixture
async def knet_network(request: pytest.FixtureRequest) -> AsyncGenerator[SimulatedNetwork, None]:
    """A simulated network, open for the test, in simulated time; see docs/testing.md."""
    from knet_trio.testing.network import open_network
    from knet_trio.testing.running import decided_by

    item = request.node
    options, seed = item.stash[_options], item.stash[_seed]
    with ExitStack() as stack:
        if _BACKEND in request.fixturenames:
            _check_in_trio()
            # Nobody calls ``_run`` here.
            stack.enter_context(decided_by(seed))
        async with open_network(
            seed, conditions=options.conditions, interface=options.interface
        ) as network:
            yield network


def _check_in_trio() -> None:
    import trio

    if not trio.lowlevel.in_trio_run():
        pytest.fail(_NO_TRIO, pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Have the report of a failure say which seed it had, and how to run that again."""
    report = yield
    if report.failed and _seed in item.stash:
        seed = item.stash[_seed]
        again = f"pytest {shlex.quote(item.nodeid)} --knet-seed={seed}"
        report.sections.append((_FIXTURE, f"seed={seed}; to run it again:\n\n    {again}"))
    return report
