"""What a doctor says of one thing it looked at."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`next_step` is what to do about it; empty when nothing is to be done."""

    name: str
    level: Literal["ok", "warn", "fail"]
    detail: str
    next_step: str = ""
