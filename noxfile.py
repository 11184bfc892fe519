"""Sessions: ``nox -s demo``, ``tests``, ``slow``, ``lint``, ``tutorials``, ``benchmarks``."""

import nox

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["tests", "lint"]
nox.options.reuse_existing_virtualenvs = True


def install(session: nox.Session, *extras: str) -> None:
    """Install the package with extras; torch is pinned to the build in constraints.txt and goes first."""
    session.install("-q", "-r", "constraints.txt")
    wanted = f".[{','.join(extras)}]" if extras else "."
    session.install("-q", "-c", "constraints.txt", "-e", wanted)


@nox.session
def demo(session: nox.Session) -> None:
    """Train on real cells, predict, embed, and write figures."""
    install(session)
    session.run("python", "tutorials/demo.py", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the default tests."""
    install(session, "test")
    session.run("pytest", *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """Run the slow tests."""
    install(session, "test")
    session.run("pytest", "-m", "slow", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and types."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def tutorials(session: nox.Session) -> None:
    """Execute the notebooks in place."""
    install(session, "tutorials")
    session.run("python", "tutorials/run.py", *session.posargs)


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Run one benchmark, e.g. ``nox -s benchmarks -- speed``."""
    install(session, "bench")
    name, *arguments = session.posargs or ["accuracy"]
    session.run("python", f"benchmarks/{name}.py", *arguments)
