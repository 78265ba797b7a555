"""Where things lie: shipped ds_configs, matrices, published numbers; the user's cache; whole files written at once."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Generator
from pathlib import Path

PACKAGE = Path(__file__).parent
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


@contextlib.contextmanager
def _temporary(path: Path, content: str | bytes, mode: int) -> Generator[Path, None, None]:
    """A file beside `path` that holds `content`, on disk; gone afterwards unless it was moved away."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
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
    with _temporary(path, content, mode) as temporary:
        os.replace(temporary, path)


def write_once(path: Path, content: str) -> bool:
    """Write `path` as a whole unless it is there already; whether it was written."""
    with _temporary(path, content, 0o644) as temporary:
        return link(temporary, path)  # unlike os.replace, leaves a file that exists


def link(source: Path, name: Path) -> bool:
    """Give the file `source` a further name unless something has that; whether the file has it now."""
    try:
        os.link(source, name)
    except FileExistsError:
        return same(source, name)  # NFS may lose the answer to a link that was made, and ask again
    return True


def same(one: Path, other: Path) -> bool:
    """Whether two names are of one file. They are opened, at which NFS looks anew."""
    try:
        with one.open("rb") as first, other.open("rb") as second:
            return os.path.sameopenfile(first.fileno(), second.fileno())
    except FileNotFoundError:
        return False
