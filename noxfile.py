"""Sessions; ``nox -l`` lists them, ``nox -s NAME`` runs one."""

import shutil

import nox

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["tests", "lint"]
nox.options.reuse_existing_virtualenvs = True


def install(session: nox.Session, *extras: str) -> None:
    """Install the package with extras; torch comes first, in the version of constraints.txt."""
    session.install("-q", "-c", "constraints.txt", "torch")
    wanted = f".[{','.join(extras)}]" if extras else "."
    session.install("-q", "-c", "constraints.txt", "-e", wanted)


@nox.session
def demo(session: nox.Session) -> None:
    """Train on real cells, predict, embed, and write figures."""
    install(session)
    session.run("python", "tutorials/demo.py", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the default tests, in up to four processes; what follows ``--`` is passed to pytest instead."""
    install(session, "test")
    session.run("pytest", *(session.posargs or ("-n", "auto", "--maxprocesses", "4", "--dist", "worksteal")))


@nox.session
def slow(session: nox.Session) -> None:
    """Run the slow tests."""
    install(session, "test")
    session.run("pytest", "-m", "slow", *session.posargs)


@nox.session
def gpu(session: nox.Session) -> None:
    """Run the tests that need a GPU, and measure training and prediction on it."""
    install(session, "test", "bench")
    session.run("pytest", "-m", "gpu")
    session.run("python", "benchmarks/gpu.py", *session.posargs)
    session.run("python", "benchmarks/speed.py", "--users", "--device", "cuda")


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


@nox.session
def regression(session: nox.Session) -> None:
    """Compare speed relative to a dense BERT with the ratios in benchmarks/results/speed.md."""
    install(session, "bench")
    session.run("python", "benchmarks/regression.py", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site into build/html with warnings as errors, and check its links and, with Chromium, its look."""
    install(session, "doc")
    shutil.rmtree("docs/generated", ignore_errors=True)  # pages of functions that are gone
    session.run("sphinx-build", "-W", "--keep-going", "-q", "-c", "docs", ".", "build/html", *session.posargs)
    session.run("python", "docs/check_site.py", "build/html")
    session.run("python", "docs/check_browser.py", "build/html")


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the default tests, and fail if coverage is below the limit in pyproject.toml."""
    install(session, "test")
    session.run("pytest", "--cov", "--cov-report=term:skip-covered", *session.posargs)


MATRIX = {
    "py311-scvi1.4-anndata0.11-pandas2": (
        "3.11",
        "scvi-tools>=1.4.2,<1.5",
        "anndata>=0.11,<0.12",
        "pandas>=2,<2.3",
        "scipy<1.17",  # with newer ones, this anndata cannot read rows of sparse matrices in backed files
        "zarr<3",  # this anndata does not depend on zarr, and does not support newer ones
    ),
    "py311-scvi1.4-anndata0.12-pandas2": ("3.11", "scvi-tools>=1.4.2,<1.5", "anndata>=0.12,<0.13", "pandas>=2,<3"),
    "py312-scvi1.5-anndata0.12-pandas2": ("3.12", "scvi-tools>=1.5,<1.6", "anndata>=0.12,<0.13", "pandas>=2,<3"),
    "py312-scvi1.5-pandas3": ("3.12", "scvi-tools>=1.5,<1.6", "anndata>=0.12", "pandas>=3"),
    "py313-newest": ("3.13", "scvi-tools>=1.5,<1.6", "anndata>=0.12", "pandas>=3"),
}
"""Environments by name: version of Python, then versions of the libraries that the package is sensitive to."""

SMOKE = ("tests/tl", "tests/get", "tests/pl", "tests/model/test_saving.py", "tests/model/test_folder_golden.py")
"""Tests that read and write AnnData, train and save. Pass ``-- tests`` to run all."""


@nox.session
@nox.parametrize("name", list(MATRIX), ids=list(MATRIX))
def matrix(session: nox.Session, name: str) -> None:
    """Run some of the tests with other versions of Python and of libraries: ``nox -s "matrix(py313-newest)"``.

    The session is skipped, with the reason, if this machine lacks the Python, or if pip finds no such versions.
    """
    python, *wanted = MATRIX[name]
    interpreter = shutil.which(f"python{python}")
    found = interpreter and session.run(
        interpreter,
        "-c",
        "import sys; print('%d.%d' % sys.version_info[:2])",
        external=True,
        silent=True,
        success_codes=range(256),
    )
    if not found or str(found).strip() != python:
        session.skip(f"there is no Python {python} on this machine")
    folder = session.create_tmp() + f"/{name}"
    session.run(str(interpreter), "-m", "venv", "--clear", folder, external=True)
    inside = f"{folder}/bin/python"
    for requirements in (["torch"], [*wanted, "-e", ".[test]"]):
        pip = [inside, "-m", "pip", "install", "-q", "-c", "constraints.txt", *requirements]
        said = str(session.run(*pip, external=True, silent=True, success_codes=range(256)) or "")
        if errors := [line for line in said.splitlines() if line.startswith("ERROR")]:
            if any("No matching distribution" in line for line in errors):
                session.skip(f"pip finds no such versions: {errors[-1]}")
            session.error("\n".join(errors))
    session.run(inside, "-m", "pytest", *(session.posargs or SMOKE), external=True)
