"""Where things lie: shipped ds_configs, matrices, published numbers; the user's cache; whole files read and written."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Generator
from pathlib import Path

# errors of a disk that may be written again later: it is full, mounted read-only, or away for a while
TRANSIENT_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE)
PACKAGE = Path(__file__).parents[1]
CHECKOUT = PACKAGE.parent
# what is shipped beside the package -> where a checkout has it
SHIPPED = {
    **{"ds_configs": "ds_configs", "matrices": "launch/matrices", "published": "results/published"},
    "claims.yaml": "results/claims.yaml",
}


def shipped(kind: str) -> Path:
    """The folder or file that is one of SHIPPED: inside an installed package, or in the checkout."""
    installed = PACKAGE / "shipped" / kind
    if installed.exists():
        return installed
    return CHECKOUT / SHIPPED[kind]


def shipped_names(kind: str, suffix: str) -> list[str]:
    return sorted(path.stem for path in shipped(kind).glob(f"*{suffix}"))


def cache() -> Path:
    """`BENCH_CACHE`, else promptzero/ in the user's cache folder."""
    if chosen := os.environ.get("BENCH_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "promptzero"


def expand_path(text: str) -> Path:
    """What a matrix names: with `~` and variables filled in. ValueError where no record could hold the name."""
    filled = os.path.expanduser(os.path.expandvars(text))
    if "\0" in filled or filled.encode("utf-8", "replace").decode() != filled:
        raise ValueError(f"found {filled!r}, expected a name in UTF-8")
    return Path(filled)


def read(path: Path, limit: int) -> bytes:
    """All of a file. OSError where it cannot be opened, ValueError where it is none, or has more than `limit` bytes."""
    with open(path, "rb", opener=_without_waiting) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):  # a pipe or a device may never end
            raise ValueError("found no regular file, expected one")
        content = file.read(limit + 1) if found.st_size <= limit else b""
        if (size := max(found.st_size, len(content))) > limit:
            raise ValueError(f"found {size:,} bytes, expected {limit:,} at most")
    return content


def read_text(path: Path, limit: int) -> str:
    """The same as text. ValueError where it is none in UTF-8; a byte order mark is left out."""
    content = read(path, limit)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        known = " (it looks like UTF-16)" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        found = f"line {line}: found the byte {content[error.start]:#04x}{known}"
        raise ValueError(f"{found}, expected a text in UTF-8") from error


def _without_waiting(path: str, flags: int) -> int:
    """Opens also a pipe that nobody writes to."""
    return os.open(path, flags | os.O_NONBLOCK)


@contextlib.contextmanager
def _temporary(path: Path, content: str | bytes, mode: int, folder: Path) -> Generator[Path, None, None]:
    """A file in `folder` that holds `content`, on disk; gone afterwards unless it was moved away."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=f".{path.name[:40]}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def write(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Replace `path` as a whole, or leave it as it was."""
    with _temporary(path, content, mode, path.parent) as temporary:
        os.replace(temporary, path)


def write_once(path: Path, content: str, scratch: Path | None = None) -> bool:
    """Write `path` as a whole unless it is there already; whether it was written.

    `scratch`: where it is written first, if that is there: what a killed process leaves is in nobody's way in it.
    """
    folder = scratch if scratch is not None and scratch.is_dir() else path.parent
    try:
        with _temporary(path, content, 0o644, folder) as temporary:
            return link(temporary, path)  # unlike os.replace, leaves a file that exists
    except OSError as error:
        if error.errno != errno.EXDEV or scratch is None:  # it may be on another disk
            raise
        return write_once(path, content)


def link(source: Path, name: Path) -> bool:
    """Give the file `source` a further name unless something has that; whether the file has it now."""
    try:
        os.link(source, name)
    except FileExistsError:
        return same_file(source, name)  # NFS may lose the answer to a link that was made, and ask again
    return True


def exists_uncached(path: Path) -> bool:
    """Whether it is a file. Its folder is opened, at which NFS looks anew: else what was looked for in vain before may
    stay unseen for a minute."""
    with contextlib.suppress(FileNotFoundError):
        os.close(os.open(path.parent, os.O_RDONLY))
    return path.is_file()


def same_file(one: Path, other: Path) -> bool:
    """Whether two names are of one file. They are opened, at which NFS looks anew."""
    try:
        with one.open("rb") as first, other.open("rb") as second:
            return os.path.sameopenfile(first.fileno(), second.fileno())
    except FileNotFoundError:
        return False
