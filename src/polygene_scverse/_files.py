"""Write files and folders to a temporary name, sync them, and replace the old ones in one step.

If the process is killed or the disk is full, either the old or the new content exists, and it is complete.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PART: Final = ".part"
STALE: Final = 3600.0
"""Seconds without a write after which a temporary file is assumed to be left by a killed process."""


@contextmanager
def replace_file(path: str | Path) -> Iterator[Path]:
    """Write a file to a temporary name, and replace the old file when it is complete.

    Parameters
    ----------
    path
        The file; links are followed. Special files, such as ``/dev/stdout``, are written to directly.

    Yields
    ------
    Name to write to, in the same folder and with the same suffix. If the block raises, it is removed, and the previous
    content of `path` is kept.

    Examples
    --------
    >>> with replace_file("scores.csv") as part:
    ...     table.to_csv(part)
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        yield path
        return
    path = Path(os.path.realpath(path))
    remove_stale(path)
    part = beside(path)
    try:
        yield part
        if path.exists():
            shutil.copymode(path, part)
        sync(part)
        os.replace(part, path)
        sync(path.parent)
    finally:
        remove(part)


@contextmanager
def replace_folder(path: str | Path, own: Collection[str] | None = None) -> Iterator[Path]:
    """Write a folder to a temporary name, and replace the old folder when it is complete.

    Parameters
    ----------
    path
        The folder; links are followed.
    own
        Names of the files that belong to the content. Other files of the old folder are kept in the new one. By default
        the whole folder is replaced.

    Yields
    ------
    An empty folder to write into, in the same parent folder. If the block raises, it is removed, and `path` is not
    changed.
    """
    path = Path(os.path.realpath(path))
    remove_stale(path)
    part = beside(path)
    part.mkdir(parents=True)
    try:
        yield part
        if own is not None and path.is_dir():
            _keep_others(path, part, own)
        if path.exists():
            shutil.copymode(path, part)
        sync_all(part)
        _exchange(part, path)
        sync(path.parent)
    finally:
        remove(part)  # after success, this is the old content


def check_destination(folder: str | Path, argument: str) -> None:
    """Check, before a long computation, that a folder can be written to, or created if it does not exist.

    Parameters
    ----------
    folder
        The folder; it is not created, and nothing is left in it.
    argument
        Name of the argument, for the error.

    Raises
    ------
    ValueError
        If it is empty or a file, or cannot be written to.
    TypeError
        If it is not a path.
    """
    if not isinstance(folder, (str, os.PathLike)):
        raise TypeError(f"`{argument}`: found {type(folder).__name__}. Pass the name of a folder.")
    if not str(folder):
        raise ValueError(f"`{argument}`: found '', but a folder is needed. Pass its name, '.' for the current one.")
    path = Path(os.path.realpath(folder))
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    if not there.is_dir():
        raise ValueError(f"`{argument}`: {there} is a file. Pass the name of a folder.")
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".", suffix=PART, dir=there))
    except OSError as error:
        raise ValueError(
            f"`{argument}`: {there} cannot be written to ({error.strerror}). Pass another folder."
        ) from error


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a binary file with `replace_file`."""
    with replace_file(path) as part:
        part.write_bytes(content)


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk."""
    if path.is_dir() and os.name != "posix":  # elsewhere folders cannot be opened
        return
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(handle)
    except OSError as error:  # some file systems cannot sync a folder
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(handle)


def sync_all(path: Path) -> None:
    """Apply `sync` to all files and folders in a folder."""
    for folder, _, files in os.walk(path):
        for name in files:
            if not Path(folder, name).is_symlink():
                sync(Path(folder, name))
        sync(Path(folder))


def remove(path: Path) -> None:
    """Remove a file or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def remove_stale(path: Path) -> None:
    """Remove temporary files of `path` that were left by killed processes."""
    if not path.parent.is_dir():
        return
    head, tail = f".{path.stem}.", f"{PART}{path.suffix}"
    for name in os.listdir(path.parent):
        token = name.removeprefix(head).removesuffix(tail)
        if name != f"{head}{token}{tail}" or len(token) != 8 or set(token) - set("0123456789abcdef"):
            continue
        with contextlib.suppress(OSError):
            if time.time() - (path.parent / name).stat().st_mtime > STALE:
                remove(path.parent / name)


def beside(path: Path) -> Path:
    """New temporary name in the same folder; the suffix is kept, because writers derive the format from it."""
    return path.with_name(f".{path.stem}.{secrets.token_hex(4)}{PART}{path.suffix}")


def _keep_others(old: Path, new: Path, own: Collection[str]) -> None:
    """Link or copy the entries of the old folder that do not belong to the content."""
    for entry in old.iterdir():
        target = new / entry.name
        if entry.name in own or target.exists():
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, target, symlinks=True, copy_function=_link)
        elif entry.is_symlink():
            target.symlink_to(os.readlink(entry))
        else:
            _link(entry, target)


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _exchange(new: Path, path: Path) -> None:
    """Exchange a new folder with an old one, or move it if there is no old one."""
    if not path.exists():
        os.replace(new, path)
        return
    if _exchange_at_once(new, path):
        return
    aside = beside(path)  # two steps if the system cannot exchange them; both folders are complete in between
    os.replace(path, aside)
    try:
        os.replace(new, path)
    except OSError:
        os.replace(aside, path)
        raise
    remove(aside)


def _exchange_at_once(a: Path, b: Path) -> bool:
    """Exchange two names in one system call, if available: ``renameat2`` on Linux, ``renamex_np`` on macOS."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform.startswith("linux"):
            done = library.renameat2(-100, os.fsencode(a), -100, os.fsencode(b), 2)  # AT_FDCWD, RENAME_EXCHANGE
        elif sys.platform == "darwin":
            done = library.renamex_np(os.fsencode(a), os.fsencode(b), 2)  # RENAME_SWAP
        else:
            return False
    except (AttributeError, OSError, TypeError):
        return False
    return done == 0
