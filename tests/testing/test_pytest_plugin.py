"""The pytest plugin, in runs of pytest of its own: with pytest-trio, with anyio, and without."""

from __future__ import annotations

import re
from typing import Final

import pytest

# What every test file there begins with.
HEAD: Final = """
import random
import pytest
import trio
from knet_trio import open_handle

async def exchange(network):
    "How all packets arrived, which depends on the seed alone."
    arrivals = []
    network.trace = lambda record: arrivals.append((record.ended, record.fate))
    async with open_handle(1) as alpha, open_handle(2) as beta:
        await alpha.add_host(2).add_link(0, ("10.0.0.1", 5405), ("10.0.0.2", 5405))
        await beta.add_host(1).add_link(0, ("10.0.0.2", 5405), ("10.0.0.1", 5405))
        await alpha.get_host(2).wait_reachable()
        await trio.sleep(60 * random.random())
    print("arrivals", network.seed, hash(tuple(arrivals)))
"""
TRIO: Final = "-p", "no:anyio"
ANYIO: Final = "-p", "no:trio"
NEITHER: Final = *TRIO, *ANYIO

every_runner = pytest.mark.parametrize(
    ("mark", "options"),
    [("trio", TRIO), ("anyio", ANYIO)],
    ids=["pytest-trio", "anyio"],
)


def run(pytester: pytest.Pytester, source: str, *options: str) -> pytest.RunResult:
    """Run pytest on ``source``, where every warning is an error."""
    pytester.makepyfile(HEAD + source)
    plain = "-W", "error", "-p", "no:cacheprovider", "-p", "no:randomly", "--strict-markers"
    return pytester.runpytest_inprocess(*plain, *options)


def arrivals(result: pytest.RunResult) -> list[str]:
    return re.findall(r"^arrivals .*", result.stdout.str(), re.MULTILINE)


@every_runner
def test_the_network_is_open_in_simulated_time(
    pytester: pytest.Pytester, mark: str, options: tuple[str, ...]
) -> None:
    source = f"""
from knet_trio.testing import Conditions, Interface, SimulatedNetwork

pytestmark = [pytest.mark.{mark}, pytest.mark.knet(loss=0.5, latency=0.2)]

@pytest.mark.knet(loss=0.1, seed=7, interface=Interface(mtu=9000))
async def test_options(knet_network):
    assert isinstance(knet_network, SimulatedNetwork)
    assert knet_network.conditions == Conditions(loss=0.1, latency=0.2)
    assert knet_network.get_interface("10.0.0.1") == Interface(mtu=9000)
    assert knet_network.seed == 7
    await exchange(knet_network)

@pytest.fixture
async def reachable(knet_network):
    async with open_handle(1) as alpha, open_handle(2) as beta:
        await alpha.add_host(2).add_link(0, ("10.0.0.1", 5405), ("10.0.0.2", 5405))
        await beta.add_host(1).add_link(0, ("10.0.0.2", 5405), ("10.0.0.1", 5405))
        await alpha.get_host(2).wait_reachable()
        yield alpha

@pytest.mark.knet(conditions=Conditions())
async def test_a_fixture_on_it(reachable, knet_network):
    assert knet_network.conditions == Conditions(loss=0.5, latency=0.2)
    knet_network.cut("10.0.0.1", "10.0.0.2")
    await reachable.get_host(2).wait_unreachable()

class TestOthers:
    async def test_without_the_network(self):
        pass
"""
    others = 1 if mark == "trio" else 2  # On asyncio too.
    run(pytester, source, *options).assert_outcomes(passed=2 + others)


@every_runner
def test_each_seed_is_a_test_and_the_same_run_every_time(
    pytester: pytest.Pytester, mark: str, options: tuple[str, ...]
) -> None:
    source = f"""
@pytest.mark.{mark}
@pytest.mark.knet(loss=0.1, seeds=3)
async def test_it(knet_network):
    await exchange(knet_network)
    assert knet_network.seed != 2
"""
    first = run(pytester, source, "-rA", *options)
    first.assert_outcomes(passed=2, failed=1)
    seen = arrivals(first)
    assert len(set(seen)) == 3
    (again,) = re.findall(r"^    pytest '(\S+)' (--knet-seed=2)$", first.stdout.str(), re.MULTILINE)
    assert re.match(r"test_\w+\.py::test_it\[seed2", again[0])
    second = run(pytester, source, "-rA", *options, *again)
    second.assert_outcomes(failed=1)
    assert arrivals(second)[0] in seen


def test_both_runners_make_the_same_of_a_seed(pytester: pytest.Pytester) -> None:
    def result(mark: str, *options: str) -> list[str]:
        source = f"""
@pytest.mark.{mark}
@pytest.mark.knet(loss=0.1, seed=5)
async def test_it(knet_network):
    await exchange(knet_network)
"""
        return arrivals(run(pytester, source, "-rA", *options))

    assert result("trio", *TRIO) == result("anyio", *ANYIO) != []


def test_a_seed_that_was_drawn_is_in_the_report_and_can_be_given(
    pytester: pytest.Pytester,
) -> None:
    source = """
async def test_it(knet_network):
    await exchange(knet_network)
    assert False
"""
    pytester.makeini("[pytest]\ntrio_mode = true")
    first = run(pytester, source, *TRIO)
    first.assert_outcomes(failed=1)
    first.stdout.fnmatch_lines(["*- knet_network -*", "seed=*; to run it again:"])
    (again,) = re.findall(r"^    pytest (\S+) (\S+)$", first.stdout.str(), re.MULTILINE)
    second = run(pytester, source, *TRIO, *again)
    assert arrivals(second) == arrivals(first) != []


def test_a_clock_that_the_test_asks_for_is_its_clock(pytester: pytest.Pytester) -> None:
    source = """
@pytest.mark.trio
async def test_it(knet_network, mock_clock):
    mock_clock.jump(1000)
    assert mock_clock.autojump_threshold > 1
    assert 1000 <= trio.current_time() < 1100
"""
    run(pytester, source, *TRIO).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("lose=0.1", "there is no option 'lose'; use one of seed, seeds, *latency*loss*"),
        ("loss=2", "loss 2 is not valid: *EINVAL*"),
        ("seed=1, seeds=3", "give seed= or seeds=, not both"),
        ("seeds=0", "seeds 0 leaves no seed to run with: give 1 or more"),
        ("seeds=[]", "seeds [[]] leaves no seed to run with: give 1 or more"),
        ("seeds=True", "seeds True is neither how many there are, nor a list of them"),
        ("seed=1.5", "seeds are whole numbers, and [[]1.5[]] are not"),
        ("20", "give options by their names, not 20 alone"),
        ("interface=3", "interface 3 is not of type knet_trio.testing.Interface*"),
    ],
)
def test_wrong_options_are_errors_at_collection(
    pytester: pytest.Pytester, options: str, words: str
) -> None:
    source = f"""
@pytest.mark.trio
@pytest.mark.knet({options})
async def test_it(knet_network):
    raise RuntimeError("it ran")
"""
    result = run(pytester, source, "--collect-only", *TRIO)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"the mark knet of *::test_it: {words}"])


def test_a_mark_without_the_network_is_an_error_at_collection(pytester: pytest.Pytester) -> None:
    source = """
@pytest.mark.knet(loss=0.1)
def test_it():
    raise RuntimeError("it ran")
"""
    result = run(pytester, source, "--collect-only", *TRIO)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["the mark knet of *::test_it has no effect: the test does not use *"]
    )


def test_a_mark_of_many_is_for_those_that_use_the_network(pytester: pytest.Pytester) -> None:
    source = """
pytestmark = pytest.mark.knet(loss=0.1)

@pytest.fixture
def lossy(knet_network):
    return knet_network.conditions.loss

@pytest.mark.knet(latency=1)
class TestSome:
    @pytest.mark.trio
    @pytest.mark.knet(jitter=1)
    async def test_it(self, lossy):
        assert lossy == 0.1

    def test_another(self):
        pass
"""
    run(pytester, source, *TRIO).assert_outcomes(passed=2)


@pytest.mark.parametrize("function", ["async def", "def"])
def test_without_a_runner_an_error_says_what_is_needed(
    pytester: pytest.Pytester, function: str
) -> None:
    source = f"""
{function} test_it(knet_network):
    raise RuntimeError("it ran")
"""
    result = run(pytester, source, *NEITHER)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["knet_network is for async tests that run in Trio: install *"])
    result.stdout.no_fnmatch_line("*it ran*")


def test_on_asyncio_an_error_says_what_is_needed(pytester: pytest.Pytester) -> None:
    source = """
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_it(knet_network):
    assert knet_network
"""
    result = run(pytester, source, *ANYIO)
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["*knet_network is for async tests that run in Trio: install *"])


def test_nothing_is_imported_where_nothing_of_it_is_used(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
import sys

def test_it(pytestconfig):
    assert pytestconfig.pluginmanager.hasplugin("knet_trio")
    assert not {"trio", "attr", "attrs", "cryptography", "lz4"} & sys.modules.keys()
    assert {name for name in sys.modules if name.startswith("knet_trio")} == {
        "knet_trio", "knet_trio.testing", "knet_trio.testing.pytest_plugin"
    }
""")
    # Other plugins import Trio and attrs.
    others = "trio", "anyio", "hypothesispytest", "xdist", "xdist.looponfail"
    off = [word for name in others for word in ("-p", f"no:{name}")]
    pytester.runpytest_subprocess("-W", "error", *off).assert_outcomes(passed=1)
