"""The name of an image, taken apart: `host:port/path:tag@sha256:…`."""

import re
from dataclasses import dataclass

from klepaas.errors import Invalid

# Source: the grammar of references in the "distribution" project; `+` and blanks never occur in one.
_REFERENCE = re.compile(
    r"(?P<repository>[A-Za-z0-9][A-Za-z0-9._/-]*(?::[0-9]{1,5}/[A-Za-z0-9][A-Za-z0-9._/-]*)?)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


@dataclass(frozen=True)
class ImageReference:
    """`repository` is everything before the tag, its host included."""

    repository: str
    tag: str | None
    digest: str | None

    @property
    def last(self) -> str:
        """The last part of the repository, which is the image's name at Naver Cloud."""
        return self.repository.rpartition("/")[2]


def parse_reference(text: str) -> ImageReference:
    """Errors: Invalid."""
    found = _REFERENCE.fullmatch(text) if len(text) <= 500 else None
    if found is None:
        raise Invalid(f"{text[:200]!r} is not the name of an image.")
    return ImageReference(found["repository"], found["tag"], found["digest"])


def read_reference(text: str) -> ImageReference | None:
    """Of a manifest that somebody else wrote: None for a placeholder that is no name."""
    try:
        return parse_reference(text)
    except Invalid:
        return None
