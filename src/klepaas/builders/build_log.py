"""Reads what a build prints: what to pass on, where it stands, and in the end why it failed.

Understands `--progress plain` of BuildKit (`#5 [2/3] RUN …`, `#5 0.21 text`, `#5 ERROR: …`) and the old builder's
`Step 2/3 : RUN …`. What a step prints cannot pass for the builder's own words: BuildKit puts number and time before
it. Source: the outputs of docker 20.10, docker 28 and buildx 0.13."""

import re
from collections import deque
from dataclasses import dataclass

KEPT_LINES = 200
"""Of the whole log, as evidence of a failure."""

_STEP_LINES = 60
"""Of the failing step, to look for the line that says why: npm prints 20 after it, pip 10."""

_SHOWN_CHARACTERS = 240

# CSI and OSC sequences, other escapes, then every control character but the tab.
_CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]?|[\x00-\x08\x0a-\x1f\x7f-\x9f]"
)
_NUMBERED = re.compile(r"^#(\d+) (.*)$")
_NOISE = re.compile(
    r"^#\d+ sha256:[0-9a-f]{64}$|^DEPRECATED: The legacy builder|^ {12}(?:BuildKit is|environment-var|Install the)"
)
_OUTPUT = re.compile(r"^\d+\.\d+ ?(.*)$")
_STATUS = re.compile(
    r"^(?:DONE \d|CACHED$|CANCELED$|\.\.\.$|transferring |sha256:|extracting |exporting |writing |naming )"
)
_LEGACY_STEP = re.compile(r"^Step (\d+/\d+) : (.*)$")
_LEGACY_WORDS = re.compile(r"^ ---> |^Removing intermediate container ")
_BUILDKIT_STEP = re.compile(r"^\[((?:\S+ )?\d+/\d+)\] (.*)$")
_LOADING = re.compile(r"^\[internal\] load metadata for (\S+)$|^\[(?:\S+ )?\d+/\d+\] FROM (\S+)")
_FRONTEND = re.compile(r"^resolve image config for (?:docker-image://)?(\S+)$")
_EXIT_CODE = re.compile(r"(?:exit code: |non-zero code: )(\d+)\s*$")
_CLIPPED = re.compile(r"\[output clipped, log limit ")
_COMPLAINT = re.compile(
    r"\b(?:error|err!|fatal|failed|failure|cannot|can't|could not|not found|no such|denied|exception"
    r"|undefined|missing)",
    re.IGNORECASE,
)
_NO_COMPLAINT = re.compile(r"complete log of this run|0 errors|^\s*at ", re.IGNORECASE)
_WRAPPING = re.compile(
    r"^(?:ERROR: |error: |Error response from daemon: |failed to solve(?: with frontend [\w.]+)?: "
    r"|failed to create LLB definition: |failed to compute cache key: |rpc error: code = Unknown desc = )"
)
_BASE_IMAGE_GONE = re.compile(
    r"pull access denied|manifest (?:for|unknown)|not found|no such host|dial tcp|TLS|timeout|denied|unauthorized"
    r"|failed to do request|^Get \"|toomanyrequests|no match for platform|does not match the specified platform",
    re.IGNORECASE,
)
_ENGINE_GONE = re.compile(
    r"cannot connect to the docker daemon|transport is closing|error reading from server|connection reset by peer"
    r"|error during connect|code = Unavailable|unexpected EOF$|^EOF$|broken pipe|connection refused|context canceled$"
    r"|server did not provide an image ID",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a build failed. `step` is `4/7` or `stage 4/7`, empty when no step of the Dockerfile failed.

    `error` is the builder's own sentence; `complaint` the line of the step's output that seems to say why."""

    step: str
    instruction: str
    exit_code: int | None
    error: str
    complaint: str
    base_image: str

    @property
    def sentence(self) -> str:
        if self.base_image:
            return f"The base image `{self.base_image}` could not be loaded: {_ended(self.error)}"
        if self.step and self.exit_code is not None:
            because = f" {_ended(self.complaint)}" if self.complaint else ""
            return (
                f"The build failed at step {self.step} `{self.instruction}` with exit code {self.exit_code}.{because}"
            )
        if self.step:
            return f"The build failed at step {self.step} `{self.instruction}`: {_ended(self.error)}"
        return f"The build failed: {_ended(self.error)}"


class BuildLog:
    """The output of one run of a build program, read line by line."""

    def __init__(self) -> None:
        self.last: deque[str] = deque(maxlen=KEPT_LINES)
        self.clipped = False
        self._names: dict[str, str] = {}
        self._outputs: dict[str, deque[str]] = {}
        self._failed: tuple[str, str] | None = None
        self._legacy_step = ""
        self._final = ""

    def read(self, raw: str) -> str | None:
        """Take one line in and return it as people should see it, or None when it says nothing to them."""
        line = plain(raw)
        if _NOISE.match(line):
            return None
        self.last.append(line)
        self._follow(line)
        return line

    @property
    def frontend_failed(self) -> bool:
        """Whether the program of a `# syntax=` line could not be loaded."""
        return self._failed is not None and bool(_FRONTEND.match(self._names.get(self._failed[0], "")))

    @property
    def engine_gone(self) -> bool:
        """Whether the output ends as it does when the engine goes away, not as when a step fails."""
        words = self._failed[1] if self._failed else self._final
        return bool(_ENGINE_GONE.search(words)) and _EXIT_CODE.search(words) is None

    @property
    def disk_full(self) -> bool:
        """Whether the builder itself (not only a step's program) ran out of space."""
        return "no space left on device" in f"{self._failed} {self._final}".lower()

    def mentions(self, words: str) -> bool:
        return any(words in line.lower() for line in self.last)

    def failure(self) -> Failure:
        """Why the build failed, as far as its output tells."""
        if self._failed is None:
            return self._legacy_failure() if self._legacy_step else self._without_step()
        number, error = self._failed
        name = self._names.get(number, "")
        loading, step = _LOADING.match(name), _BUILDKIT_STEP.match(name)
        exit_code = _EXIT_CODE.search(error)
        return Failure(
            step=step[1] if step else "",
            instruction=_short(step[2]) if step else _short(name),
            exit_code=int(exit_code[1]) if exit_code else None,
            error=_short(_unwrapped(error)),
            complaint=_complaint(self._outputs.get(number, ())),
            base_image=_familiar(loading[1] or loading[2]) if loading else "",
        )

    def _follow(self, line: str) -> None:
        if numbered := _NUMBERED.match(line):
            self._follow_buildkit(numbered[1], numbered[2])
        elif step := _LEGACY_STEP.match(line):
            self._legacy_step = line
            self._outputs[line] = deque(maxlen=_STEP_LINES)
            self._names[line] = f"[{step[1]}] {step[2]}"
        elif line.strip():
            if self._legacy_step:
                self._outputs[self._legacy_step].append(line)
            self._final = line
            self.clipped = self.clipped or bool(_CLIPPED.search(line))

    def _follow_buildkit(self, number: str, words: str) -> None:
        if output := _OUTPUT.match(words):
            self._outputs.setdefault(number, deque(maxlen=_STEP_LINES)).append(output[1])
        elif words.startswith("ERROR: "):
            self._failed = self._failed or (number, words.removeprefix("ERROR: "))
        elif _CLIPPED.search(words):
            self.clipped = True
        elif not _STATUS.match(words):
            self._names.setdefault(number, words)

    def _legacy_failure(self) -> Failure:
        step = _BUILDKIT_STEP.match(self._names[self._legacy_step])
        assert step is not None
        error = _unwrapped(self._final)
        exit_code = _EXIT_CODE.search(error)
        outputs = [
            line for line in self._outputs[self._legacy_step] if line != self._final and not _LEGACY_WORDS.match(line)
        ]
        base = step[2].split() if step[2].upper().startswith("FROM ") else []
        lost = bool(base) and _BASE_IMAGE_GONE.search(error) is not None
        return Failure(
            step=step[1],
            instruction=_short(step[2]),
            exit_code=int(exit_code[1]) if exit_code else None,
            error=_short(error),
            complaint=_complaint(outputs),
            base_image=next((word for word in base[1:] if not word.startswith("--")), "") if lost else "",
        )

    def _without_step(self) -> Failure:
        error = _short(_unwrapped(self._final)) or "the builder gave no reason"
        return Failure(step="", instruction="", exit_code=None, error=error, complaint="", base_image="")


def plain(line: str) -> str:
    """The line without control sequences."""
    return line if line.isascii() and line.isprintable() else _CONTROL.sub("", line)


def _complaint(output: deque[str] | list[str] | tuple[()]) -> str:
    said = [line for line in output if line.strip()]
    complaints = (line for line in reversed(said) if _COMPLAINT.search(line) and not _NO_COMPLAINT.search(line))
    return _short(next(complaints, said[-1] if said else ""))


def _unwrapped(error: str) -> str:
    while match := _WRAPPING.match(error):
        error = error[match.end() :]
    return error


def _familiar(image: str) -> str:
    return image.removeprefix("docker.io/").removeprefix("library/")


def _short(words: str) -> str:
    words = words.strip()
    return words if len(words) <= _SHOWN_CHARACTERS else f"{words[: _SHOWN_CHARACTERS - 1]}…"


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "!", "?", "…")) else f"{sentence}."
