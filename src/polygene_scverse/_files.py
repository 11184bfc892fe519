"""Files and folders that are written beside, synced, and then take the place of the old ones in one step.

Whatever ends a process, and however full a disk is: under a name there is the whole old content or the whole new one.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import shutil
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PART: Final = ".part"
STALE: Final = 3600.0
"""Seconds after which a part that nobody has written to is taken for one that a killed process left."""


@contextmanager
def replace_file(path: str | Path) -> Iterator[Path]:
    """Write a file beside its name, to take its place when it is whole.

    Parameters
    ----------
    path
        The file; a link is followed. What is no ordinary file, such as ``/dev/stdout``, is written to as it is.

    Yields
    ------
    Name to write to, in the same folder and with the same suffix. If the block raises, it is removed, and what was at
    `path` before is still there.

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
    """Write a folder beside its name, to take its place when it is whole.

    Parameters
    ----------
    path
        The folder; a link is followed.
    own
        Names of the files that make up the content. Others that are in the old folder are kept in the new one. By
        default the whole folder is the content, and nothing is kept.

    Yields
    ------
    An empty folder to write into, beside `path`. If the block raises, it is removed, and `path` is as it was.
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
        remove(part)  # by now the old content, if all went well


def write_text(path: str | Path, text: str) -> None:
    """Write a text file by way of `replace_file`."""
    with replace_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file of bytes by way of `replace_file`."""
    with replace_file(path) as part:
        part.write_bytes(content)


def sync(path: Path) -> None:
    """Have the system put a file, or the entries of a folder, on the disk."""
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
    """`sync` of all that is in a folder."""
    for folder, _, files in os.walk(path):
        for name in files:
            if not Path(folder, name).is_symlink():
                sync(Path(folder, name))
        sync(Path(folder))


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def remove_stale(path: Path) -> None:
    """Remove parts of `path` that processes left when they were killed."""
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
    """A new name in the same folder to write to; the suffix stays, because it tells writers the format."""
    return path.with_name(f".{path.stem}.{secrets.token_hex(4)}{PART}{path.suffix}")


def _keep_others(old: Path, new: Path, own: Collection[str]) -> None:
    """Link, or copy, what is in the old folder and is not content of it."""
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
    """Put a folder in the place of another, which is then where the new one was."""
    if not path.exists():
        os.replace(new, path)
        return
    if _exchange_at_once(new, path):
        return
    aside = beside(path)  # two steps: where the system has no other way, both are whole in between
    os.replace(path, aside)
    try:
        os.replace(new, path)
    except OSError:
        os.replace(aside, path)
        raise
    remove(aside)


def _exchange_at_once(a: Path, b: Path) -> bool:
    """Exchange two names in one step, if the system can: Linux by ``renameat2``, macOS by ``renamex_np``."""
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
