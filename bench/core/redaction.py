"""Secrets of the environment: their values are kept out of what is written about a run."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

# names of variables that hold one: HF_TOKEN, AWS_SECRET_ACCESS_KEY, WANDB_API_KEY, PGPASSWORD, ...
SECRET = re.compile(
    r"TOKEN(?!IZ)|SECRET|PASSW|PASSPHRASE|CREDENTIAL|(API|ACCESS|PRIVATE)_?KEY|KEY$|AUTH(?!OR)|COOKIE", re.IGNORECASE
)
SHORTEST = 6  # characters: a shorter value is part of too many words
IN_ADDRESS = re.compile(r"(?<=://)[^\s/@]+(?=@)")  # user and password of a URL


def redacted(value: Any, variables: Mapping[str, str] | None = None) -> Any:
    """Plain data in which `***NAME***` stands for the value of each secret variable, and for passwords in URLs."""
    return _redacted(value, _secrets(os.environ if variables is None else variables))


def _secrets(variables: Mapping[str, str]) -> list[tuple[str, str]]:
    """Value and name, longest first: one may be part of another."""
    found = {value: name for name, value in sorted(variables.items()) if SECRET.search(name) and len(value) >= SHORTEST}
    return sorted(found.items(), key=lambda item: (-len(item[0]), item))


def _redacted(value: Any, secrets: list[tuple[str, str]]) -> Any:
    if isinstance(value, dict):
        return {key: _redacted(one, secrets) for key, one in value.items()}
    if isinstance(value, list):
        return [_redacted(one, secrets) for one in value]
    if not isinstance(value, str):
        return value
    for secret, name in secrets:
        if secret in value:
            value = value.replace(secret, f"***{name}***")
    return IN_ADDRESS.sub("***", value) if "://" in value else value
