"""What people, editors, disks and other programs make of files: for tests of what is said about it."""

from __future__ import annotations

import copy
import datetime
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

# files that are no text of any kind
NO_TEXT: dict[str, bytes] = {
    "a picture": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
    "UTF-16, little end first": "name: x\n".encode("utf-16"),
    "UTF-16, big end first": b"\xfe\xff" + "name: x\n".encode("utf-16-be"),
    "Latin-1": "name: caf\u00e9\n".encode("latin-1"),
    "half a character in UTF-8": b"name: \xed\xa0\x80\n",
    "NUL bytes": b"name: x\x00y\n",
    "a torn page": b"\x00" * 4096,
}
# texts that are no YAML, or more than anybody means
NO_YAML: dict[str, bytes] = {
    "empty": b"",
    "a comment": b"# nothing\n",
    "one word": b"sst2\n",
    "a number": b"3\n",
    "a list": b"- a\n- b\n",
    "two documents": b"name: a\n---\nname: b\n",
    "tabs": b"axes:\n\t- a\n",
    "an open bracket": b"axes: {seed: [1, 2\n",
    "an open quote": b'name: "x\n',
    "a colon too many": b"name: a: b: c\n",
    "an unknown anchor": b"name: *nobody\n",
    "an unknown directive": b"%NONE 1\n---\nname: x\n",
    "a key twice": b"name: a\nname: b\n",
    "a key twice, deeper": b"axes: {seed: {a: 1, a: 2}}\n",
    "a list as a key": b"? [a, b]\n: 1\n",
    "a Python object": b"name: !!python/object/apply:os.system ['touch marker']\n",
    "a Python name": b"name: !!python/name:os.system\n",
    "a tag of nobody": b"name: !mine x\n",
    "half a character by escape": b'name: "\\ud800"\n',
    "a number in base 60": b"axes: {seed: 1:30}\n",
    "a number in base 8": b"axes: {seed: 0100}\n",
    "a number of 5,000 digits": b"axes: {seed: " + b"9" * 5000 + b"}\n",
    "a number of 5,000 hexadecimal digits": b"axes: {seed: 0x" + b"f" * 5000 + b"}\n",
    "a date that is none": b"name: 2020-13-45\n",
    "a bomb of aliases": b"a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    + b"".join(b"a%d: &a%d [%s]\n" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 12)),
    "a bomb of merges": b"a0: &a0 {x: 1}\n"
    + b"".join(
        b"a%d: &a%d {<<: [%s], k%d: 1}\n" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 9), i) for i in range(1, 12)
    ),
    "an alias of itself": b"axes: &a [*a]\n",
    "100,000 brackets": b"axes: " + b"[" * 100_000,
    "100,000 braces": b"{a: " * 100_000,
    "100,000 levels": b"".join(b" " * i + b"a:\n" for i in range(1000)),
    "100,000 dashes": b"- " * 100_000 + b"x\n",
    "2 MiB of text": b"name: " + b"x" * 2**21 + b"\n",
    "200,000 values": b"axes: [" + b"1," * 200_000 + b"1]\n",
}
NO_JSON: dict[str, bytes] = {
    "empty": b"",
    "half of it": b'{"zero_optimization": {"stage"',
    "YAML": b"zero_optimization:\n  stage: 2\n",
    "a comma too many": b'{"a": 1,}',
    "a comment": b'{"a": 1} // mine',
    "two of them": b"{}{}",
    "a key twice": b'{"bf16": {}, "bf16": {}}',
    "a key twice, deeper": b'{"zero_optimization": {"stage": 1, "stage": 2}}',
    "NaN": b'{"gradient_clipping": NaN}',
    "infinity": b'{"gradient_clipping": -Infinity}',
    "a number beyond all": b'{"gradient_clipping": 1e999}',
    "a number of 5,000 digits": b'{"gradient_clipping": ' + b"9" * 5000 + b"}",
    "half a character by escape": b'{"dump_folder": "\\ud800"}',
    "100,000 brackets": b"[" * 100_000,
    "100,000 braces": b'{"a":' * 100_000,
    "single quotes": b"{'zero_optimization': {}}",
    "2 MiB of text": b'{"a": "' + b"x" * 2**21 + b'"}',
}


def _loop(path: Path) -> None:
    path.symlink_to(path.with_name(f"{path.name}.other"))
    path.with_name(f"{path.name}.other").symlink_to(path)


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**30)


# what may stand where a file is expected
NO_FILE: dict[str, Callable[[Path], None]] = {
    "nothing": lambda path: None,
    "a folder": lambda path: path.mkdir(),
    "a pipe that nobody writes to": lambda path: os.mkfifo(path),
    "a device without an end": lambda path: path.symlink_to("/dev/zero"),
    "a link to nothing": lambda path: path.symlink_to(path.with_name("nowhere")),
    "a link to itself": _loop,
    "1 GiB": _sparse,
}

# values that stand where something else is meant
STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 2, 10**18, 2**63, 0.5, 1e308, 1e-320, float("inf"), float("nan")),
    *("", " ", "x", "none", "full", "epoch", "1e-3", "a\nb", "\x1b[31m", "$HOME", "${NOBODY}", "~", "/", "/dev/zero"),
    *("../../x", "%s{}{0}", "{mask}", "-", "'", "\u00e9" * 300, "x" * 5000, "<script>alert(1)</script>", "a;touch x"),
    *([], [1], [True], [None], ["x", "x"], [[]], [[1], [2]], {}, {"a": 1}, {"kind": 3}, {"kind": "full"}, {"kind": []}),
    *({"path": "/dev/zero"}, {"path": 3}, {"name": ["x"]}, {1: 2}, {"total": True}, {"per_class": 10**12}),
    *(datetime.date(2020, 1, 1), b"bytes"),
)
PLAIN = tuple(one for one in STRANGE if not isinstance(one, datetime.date | bytes) and one != {1: 2})


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each part of plain data."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield (*above, key)
        yield from places(part, (*above, key))


@st.composite
def spoiled(draw: st.DrawFn, of: Any, values: tuple[Any, ...] = STRANGE) -> Any:
    """`of` with one or two of its parts gone, or in their place one of `values` or something made up."""
    made = copy.deepcopy(of)
    strange = st.sampled_from(values) | st.text(max_size=20) | st.integers(-(10**20), 10**20) | st.floats(width=64)
    for _ in range(draw(st.integers(1, 2))):
        *above, key = draw(st.sampled_from(list(places(made))))
        inside = made
        for step in above:
            inside = inside[step]
        if isinstance(inside, dict) and draw(st.integers(0, 9)) == 0:
            del inside[key]
        else:
            inside[key] = draw(strange)
        if not list(places(made)):
            break
    return made
