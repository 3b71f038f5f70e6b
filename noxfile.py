"""What keeps the code sound: `nox` runs it, `nox -s lint` one part, `nox -l` names the parts.

What follows `--` goes to pytest: `nox -s tests-3.13 -- -k handle`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)
# What the package is written for too, and pyproject.toml does not promise: the tests run on it
# where it is there.
COMING = ["3.14"]

# Per cent of lines and branches. The protocol core does no I/O, so nothing in it is hard to reach.
CORE_COVERAGE = 98
PACKAGE_COVERAGE = 90

# What takes long, and is much the same on every interpreter.
LONG = [
    "tests/interop",
    "tests/cli/preflight",
    "tests/cli/run",
    "tests/cli/test_bench.py",
    "tests/cli/test_completion.py",
    "tests/cluster/test_running_corosync.py",
    "tests/metrics/test_prometheus.py",
]

# Attacks on the simulated network, which do not depend on what the machine can do at a time.
SIMULATED = [
    "tests/attack/test_aead_at_random.py",
    "tests/attack/test_aead_lapses.py",
    "tests/attack/test_aead_numbers.py",
    "tests/attack/test_aead_recordings.py",
    "tests/attack/test_aead_rekeying.py",
]

# What works hardest, and at little that other tests do not run: it runs once, on the newest
# interpreter, and without measuring, which would take twice as long.
HARD = [
    *SIMULATED,
    "tests/examples",
    "tests/pipeline/test_random_sends.py",
    "tests/rekeying/test_over_to_aead.py",
    "tests/rekeying/test_processes.py",
    "tests/shutdown/test_leaks.py",
    "tests/simulation",
    "tests/streams/core/test_tolerant_cubic.py",
    "tests/streams/simulation",
    "tests/streams/test_bounds.py",
    "tests/streams/test_early_answers.py",
    "tests/streams/test_faults.py",
    "tests/streams/test_isolation.py",
    "tests/streams/test_protocols.py",
    "tests/streams/test_sending_bounds.py",
    "tests/test_cancellation.py",
    "tests/test_examples.py",
    "tests/test_pictures.py",
    "tests/test_tutorial.py",
    "tests/testing/test_pytest_plugin.py",
    "tests/testing/test_running.py",
]

# What asks so much of the machine, or counts to the last packet what arrives in time, that little
# else should run beside it: few other tests, and no measuring of coverage.
ALONE = [
    "tests/attack",
    "tests/cli/test_bench_machines.py",
    "tests/network",
    "tests/soak",
]

# What runs in a virtual machine, which takes long: on request, in the session `machine`.
ELSEWHERE = ["tests/machine"]

# Many tests wait more than they work, so there are more at once than a small machine has cores. A
# file's tests stay together: some share what is dear to make.
AT_ONCE = ["-n", "4", "--dist", "loadfile"]

# Those that ask much of the machine: as many as it has cores.
FEW_AT_ONCE = ["-n", "2", "--dist", "loadfile"]

# The examples are the same in every run, so a few of them do; `--hypothesis-profile=search` looks
# for others.
BRIEF = "--hypothesis-profile=brief"


def runs(version: str) -> bool:
    """Whether there is such an interpreter: a version manager's shim exists without one."""
    executable = shutil.which(f"python{version}")
    if executable is None:
        return False
    return subprocess.run([executable, "-c", ""], capture_output=True, check=False).returncode == 0


FOUND = [version for version in PYTHONS if runs(version)]
# A machine may have no `python3.x` on its path but the interpreter that runs this.
NEWEST = FOUND[-1] if FOUND else "{}.{}".format(*sys.version_info)

# The coverage session is the run of the tests on the newest interpreter. What runs on that and on
# the oldest runs on those between; `nox -s tests` tries them too.
nox.options.sessions = [
    "lint",
    "types",
    *(f"tests-{version}" for version in FOUND[:1] if version != NEWEST),
    *(f"tests-{version}" for version in COMING if runs(version)),
    "coverage",
    "networks",
    "installed",
    "trio_typing",
]
nox.options.default_venv_backend = "virtualenv"
# nox makes it an error by itself where CI is set.
nox.options.error_on_missing_interpreters = False


def install(session: nox.Session, *groups: str) -> None:
    """Install the package, editable so that it is measured where it stands, and the groups."""
    session.install("-q", "-e", ".[cli]", *nox.project.dependency_groups(PROJECT, *groups))


def check_completeness(session: nox.Session) -> None:
    """Fail unless every type that programs can see is known, and the same to all type checkers.

    That of packages without types, such as lz4, is not ours to say.
    """
    session.run("pyright", "--verifytypes", "knet_trio", "--ignoreexternal")


@nox.session(python=NEWEST)
def lint(session: nox.Session) -> None:
    """Ruff's rules and its format."""
    session.install("-q", *nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(python=NEWEST)
def types(session: nox.Session) -> None:
    """The types of the package, the tests and the examples, strictly, by two checkers."""
    install(session, "test", "types")
    # Each of the two takes a minute of one processor.
    with subprocess.Popen([Path(session.bin, "mypy")], cwd=ROOT) as mypy:
        session.run("pyright", "--warnings")
        check_completeness(session)
    if mypy.returncode:
        session.error("mypy has found errors")


@nox.session(python=NEWEST)
def verifytypes(session: nox.Session) -> None:
    """Whether all that programs can import has types of its own; a part of the session `types`."""
    install(session, "test", "types")
    check_completeness(session)


@nox.session(python=[*PYTHONS, *COMING])
def tests(session: nox.Session) -> None:
    """The tests on one interpreter.

    Those that take the most time and depend on the interpreter the least, such as those against the
    C library, run on the newest one, in the sessions `coverage` and `networks`. `-- tests` runs all
    of them, with more examples of Hypothesis.
    """
    install(session, "test")
    most = ["tests", *(f"--ignore={path}" for path in LONG + HARD + ALONE + ELSEWHERE)]
    session.run("pytest", *(session.posargs or [BRIEF, *AT_ONCE, *most]))


@nox.session(python=NEWEST)
def coverage(session: nox.Session) -> None:
    """The tests on the newest interpreter, and how much of the code they run."""
    install(session, "test")
    session.run("coverage", "erase")
    most = [BRIEF, *AT_ONCE, "tests", *(f"--ignore={path}" for path in HARD + ALONE + ELSEWHERE)]
    session.run("coverage", "run", "-m", "pytest", *(session.posargs or most))
    # Each process leaves a file of its own.
    session.run("coverage", "combine", "--quiet")
    if session.posargs:
        session.warn("Part of the tests tells nothing of the whole: no coverage asked for.")
        return
    core = ["coverage", "report", "--include=knet_trio/_core/*", f"--fail-under={CORE_COVERAGE}"]
    package = ["coverage", "report", f"--fail-under={PACKAGE_COVERAGE}"]
    session.run(*core)
    session.run(*package)


@nox.session(python=NEWEST)
def networks(session: nox.Session) -> None:
    """The tests that work hardest; then those of real networks that fail, attacks, a short soak."""
    install(session, "test")
    if not session.posargs:
        session.run("pytest", BRIEF, *AT_ONCE, *HARD)
    alone = [*FEW_AT_ONCE, *ALONE, *(f"--ignore={path}" for path in SIMULATED)]
    session.run("pytest", *(session.posargs or alone))


@nox.session(python=NEWEST)
def installed(session: nox.Session) -> None:
    """The command from a built package, outside of the source tree: all that it needs is there.

    `bench` compiles its C program out of the package. Where there is neither a C compiler nor
    libknet, it says so and measures without.
    """
    session.install("-q", ".[cli]")
    if not Path(session.virtualenv.location, "share", "man", "man1", "knet-trio.1").exists():
        session.error("the manual pages were not installed")
    session.chdir(session.create_tmp())
    brief = ["--quick", "--pairs", "1", "--contender", "knet_trio", "--contender", "libknet"]
    cases = ["--case", "throughput/loopback/64/clear", "--case", "calls"]
    session.run("knet-trio", "bench", *brief, *cases)


@nox.session(python=NEWEST)
def trio_typing(session: nox.Session) -> None:
    """A program with trio-typing 0.10 installed imports, runs and is checked.

    trio-typing brings `trio-stubs`, which hide Trio's own types. They are of the time of Trio
    0.22: what came later (`trio.as_safe_channel`, `trio.NeedHandshakeError`, …) is unknown to a
    checker there, and where a signature names it the checker silently takes `Any`. An installed
    package's own errors are not shown, so only the program tells: it asserts the types that it
    gets from knet_trio, and holds mistakes that a checker has to find.
    """
    # As a user has it, a built package outside of the source tree: that also shows that the
    # marker `py.typed` is shipped.
    session.install("-q", ".[trio-typing]")
    place = Path(session.create_tmp())
    for name in ("program.py", "mypy.ini"):
        # In its old place mypy finds the package's source above it, and takes that.
        shutil.copy(ROOT / "tests" / "typing_compat" / name, place)
    session.chdir(place)
    session.run("python", "-c", "import knet_trio, trio_typing")
    session.run("python", "program.py")
    # mypy 1.10 is the last that trio-typing's plugin works with: it makes type variables with
    # a number for an id, which mypy 1.11 and later refuse by an internal error at the stubs'
    # first use of `takes_callable_and_args`. Without the plugin current mypy reads the same
    # stubs, but no longer compares `start_soon`'s function with its arguments.
    session.install("-q", "mypy==1.10.*")
    session.run("mypy", "program.py")


@nox.session(python=NEWEST)
def fuzz(session: nox.Session) -> None:
    """Look for bytes that break an invariant: `nox -s fuzz -- --seconds 60 packet`.

    Each target gets 20 seconds unless told otherwise, so the default run takes two minutes. It is
    no part of the default sessions: what it finds depends on chance. docs/fuzzing.md says more.
    """
    install(session, "test", "fuzz")
    session.run("python", "-m", "tests.fuzz", *session.posargs)


@nox.session(python=NEWEST)
def simulate(session: nox.Session) -> None:
    """Play random clusters and judge them: `nox -s simulate -- --seeds 1000 --hours 0.1`.

    A few seeds are played by the tests each time; this is for many. docs/simulation.md says more.
    """
    install(session, "test")
    session.run("python", "-m", "tests.simulation", *session.posargs)


@nox.session(python=NEWEST)
def manual(session: nox.Session) -> None:
    """Write the manual pages of the commands anew, after a help text or an option has changed."""
    session.install("-q", "-e", ".[cli,metrics]")
    session.run("python", "-m", "knet_trio.cli.manual", "docs/man")


@nox.session(python=NEWEST)
def docs(session: nox.Session) -> None:
    """The documentation as a site in `build/site`: `build/site/index.html` is where to begin.

    Every reference and every link within it has to lead somewhere. Nothing is read from the
    network, so links to other sites are looked at for their form alone. It is no part of the
    default
    sessions: tests/test_site.py holds that the reference is complete.
    """
    session.install("-q", "-e", ".[cli,metrics]")
    session.install("-q", *nox.project.dependency_groups(PROJECT, "docs"))
    session.run("mypy", "docs/_site/check_links.py", "docs/_site/public_names.py")
    # Pages that are no more are not looked at.
    shutil.rmtree("build/site", ignore_errors=True)
    strict = ["--fresh-env", "--fail-on-warning", "--keep-going", "--nitpicky", "--quiet"]
    session.run("sphinx-build", *strict, "--jobs", "auto", "docs", "build/site")
    session.run("python", "docs/_site/check_links.py", "build/site")


@nox.session(python=NEWEST)
def soak(session: nox.Session) -> None:
    """Three hosts on a network that loses packets: `nox -s soak -- --hours 1`.

    Twenty seconds of it are among the tests; this is for what takes longer to show. It needs root.
    docs/soak.md says more.
    """
    install(session, "test")
    session.run("python", "-m", "tests.soak", *session.posargs)


@nox.session(python=NEWEST)
def machine(session: nox.Session) -> None:
    """What needs a kernel with SCTP or netem, in a virtual machine that has one.

    `nox -s machine -- tests/machine -k sctp` runs part of it. It is no part of the default
    sessions: emulated, everything takes several times as long. The first time the kernel is
    downloaded. docs/machine.md says more.
    """
    install(session, "test")
    # In the machine each process would do it, slowly.
    session.run("python", "-m", "compileall", "-q", "knet_trio", "tests")
    command = ["python", "-m", "pytest", *(session.posargs or ELSEWHERE)]
    session.run("python", "-m", "tests.machine", "--limit", "3000", "--", *command)


@nox.session(python=NEWEST)
def changes(session: nox.Session) -> None:
    """Show the change notes as the next section of CHANGELOG.md; a note of no known kind fails."""
    session.install("-q", *nox.project.dependency_groups(PROJECT, "changes"))
    session.run("towncrier", "build", "--draft")


@nox.session(python=NEWEST)
def build(session: nox.Session) -> None:
    """Build the wheel and the sdist, check both, and try each in a clean environment.

    They are in `dist` afterwards, and their bill of materials (CycloneDX) in `sbom`. `-- --release`
    fails as long as there are placeholders for addresses. It takes some 40 seconds.
    """
    session.install("-q", *nox.project.dependency_groups(PROJECT, "release"))
    for old in (ROOT / "dist", ROOT / "sbom"):
        shutil.rmtree(old, ignore_errors=True)
    session.run("towncrier", "build", "--draft", silent=True)
    # The wheel is built from the sdist.
    session.run("python", "-m", "build", "--outdir", "dist", silent=True)
    (wheel,), (sdist,) = Path("dist").glob("*.whl"), Path("dist").glob("*.tar.gz")
    session.run("twine", "check", "--strict", str(wheel), str(sdist))
    session.run("python", "-m", "tests.packaging", "dist", *session.posargs)
    # What `knet-trio[all]` brings is what the bill of materials lists.
    environment = try_out(session, wheel, "all")
    try_out(session, sdist, "cli")
    list_materials(session, environment, sdist.name.removesuffix(".tar.gz"))


def try_out(session: nox.Session, package: Path, extra: str) -> Path:
    """Install a package into an environment that has nothing else, and use it there."""
    environment = Path(session.create_tmp(), package.suffix.removeprefix("."))
    session.run("python", "-m", "venv", "--clear", "--without-pip", str(environment))
    pip = ("python", "-m", "pip", "--python", str(environment), "install", "-q")
    session.run(*pip, f"{package}[{extra}]")
    programs = environment / "bin"
    trial = str(ROOT / "tests" / "packaging" / "trial.py")
    session.run(str(programs / "python"), "-I", trial, external=True)
    command = str(programs / "knet-trio")
    session.run(command, "--version", external=True)
    # Completion is a script that the command prints.
    asking = {"_KNET_TRIO_COMPLETE": "bash_source"}
    session.run(command, env=asking, external=True, silent=True)
    if not (environment / "share" / "man" / "man1" / "knet-trio.1").exists():
        session.error("the manual pages were not installed")
    return environment


def list_materials(session: nox.Session, environment: Path, name: str) -> None:
    """Write the bill of materials of what is in an environment."""
    # It has the version from pyproject.toml, where it does not stand.
    version = name.rpartition("-")[2]
    project = Path(session.create_tmp(), "pyproject.toml")
    text = (ROOT / "pyproject.toml").read_text()
    project.write_text(text.replace('dynamic = ["version"]', f'version = "{version}"'))
    options = ["--pyproject", str(project), "--mc-type", "library", "--output-reproducible"]
    Path("sbom").mkdir()
    file = f"sbom/{name}.cdx.json"
    session.run("cyclonedx-py", "environment", *options, "-o", file, str(environment))
