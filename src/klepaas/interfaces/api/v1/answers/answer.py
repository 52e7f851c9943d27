"""What every answer is, and what examples speak of."""

from pydantic import BaseModel, ConfigDict

EXAMPLE_SHA = "9fceb02d0ae598e95dc970b74767f19372d61af8"
EXAMPLE_DIGEST = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True)
