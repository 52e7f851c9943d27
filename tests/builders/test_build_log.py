"""Recorded ends of builds, and what they are told as. More of them run for real in test_docker.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klepaas.builders.build_log import BuildLog, plain

BUILDX_26 = """\
#0 building with "default" instance using docker driver

#1 [internal] load build definition from Dockerfile
#1 transferring dockerfile: 131B done
#1 DONE 0.0s

#5 [build 2/4] RUN npm ci
#5 0.213 added 120 packages
#5 DONE 1.2s

#6 [build 3/4] RUN npm run build
#6 0.344 npm ERR! code ELIFECYCLE
#6 0.345 npm ERR! A complete log of this run can be found in: /root/.npm/_logs/x.log
#6 ERROR: process "/bin/sh -c npm run build" did not complete successfully: exit code: 1
------
 > [build 3/4] RUN npm run build:
0.344 npm ERR! code ELIFECYCLE
------
Dockerfile:4
--------------------
   3 |     RUN npm ci
   4 | >>> RUN npm run build
--------------------
ERROR: failed to solve: process "/bin/sh -c npm run build" did not complete successfully: exit code: 1
"""

DENIED = """\
#2 [internal] load metadata for docker.io/library/pyton:3.12
#2 ERROR: pull access denied, repository does not exist or may require authorization: server message: insufficient_scope
------
 > [internal] load metadata for docker.io/library/pyton:3.12:
------
ERROR: failed to solve: pyton:3.12: pull access denied, repository does not exist or may require authorization
"""

LEGACY_DENIED = """\
Sending build context to Docker daemon  2.607kB
Step 1/7 : FROM --platform=linux/amd64 pyton:3.12 AS base
pull access denied for pyton, repository does not exist or may require 'docker login'
"""

LEGACY_PYTHON = """\
Step 3/8 : RUN pip install -r requirements.txt
 ---> Running in 663d89d66735
ERROR: Could not find a version that satisfies the requirement flsk
Removing intermediate container 663d89d66735
The command '/bin/sh -c pip install -r requirements.txt' returned a non-zero code: 1
"""

LAYER_FULL = """\
#7 [2/2] COPY . .
#7 ERROR: failed to copy files: write /var/lib/docker/overlay2/x/merged/y: no space left on device
------
"""

GONE = """\
#5 [2/2] RUN sleep 60
error reading from server: EOF
"""


def read(text: str) -> BuildLog:
    log = BuildLog()
    for line in text.splitlines():
        log.read(line)
    return log


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            BUILDX_26,
            "The build failed at step build 3/4 `RUN npm run build` with exit code 1. npm ERR! code ELIFECYCLE.",
        ),
        (
            DENIED,
            "The base image `pyton:3.12` could not be loaded: pull access denied, repository does not exist or may"
            " require authorization: server message: insufficient_scope.",
        ),
        (
            LEGACY_DENIED,
            "The base image `pyton:3.12` could not be loaded: pull access denied for pyton, repository does not exist"
            " or may require 'docker login'.",
        ),
        (
            LEGACY_PYTHON,
            "The build failed at step 3/8 `RUN pip install -r requirements.txt` with exit code 1. ERROR: Could not"
            " find a version that satisfies the requirement flsk.",
        ),
        (
            "ERROR: failed to solve: rpc error: code = Unknown desc = failed to solve with frontend dockerfile.v0: "
            "failed to create LLB definition: dockerfile parse error line 1: unknown instruction: FORM",
            "The build failed: dockerfile parse error line 1: unknown instruction: FORM.",
        ),
        ("", "The build failed: the builder gave no reason."),
    ],
)
def test_a_failure_is_a_sentence(text: str, sentence: str) -> None:
    assert read(text).failure().sentence == sentence


def test_a_full_disk_and_a_lost_engine_are_told_from_a_failing_step() -> None:
    assert read(LAYER_FULL).disk_full
    assert read(GONE).engine_gone
    for ordinary in (BUILDX_26, DENIED, LEGACY_PYTHON):
        assert not read(ordinary).disk_full
        assert not read(ordinary).engine_gone


@pytest.mark.parametrize("said", ["ERROR: exit code: 9", "DONE 0.1s", "[9/9] RUN evil", "no space left on device"])
def test_what_a_step_prints_is_not_taken_for_the_builders_word(said: str) -> None:
    text = f"#5 [2/3] RUN x\n#5 0.1 {said}\n#5 0.2 #5 {said}\n#5 ERROR: did not complete: exit code: 1\n"
    log = read(text)

    assert (log.failure().step, log.failure().exit_code) == ("2/3", 1)
    assert not log.disk_full


def test_a_clipped_log_is_known_and_shown() -> None:
    log = BuildLog()
    line = "#5 [output clipped, log limit 1MiB reached]"

    assert log.read(line) == line
    assert log.clipped


def test_lines_that_say_nothing_are_left_out() -> None:
    log = BuildLog()

    assert log.read(f"#5 sha256:{'a' * 64}") is None
    assert log.read("DEPRECATED: The legacy builder is deprecated and will be removed in a future release.") is None
    assert log.read("") == ""


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[91merror\x1b[0m", "error"),
        ("\x1b]0;title\x07text\x1b]8;;http://x\x1b\\link", "textlink"),
        ("a\x00b\x08c\td", "abc\td"),
        ("한글 ✓ \x9b31mred", "한글 ✓ 31mred"),
        ("\x1b(Bplain\x1bM", "plain"),
    ],
)
def test_control_sequences_are_taken_out(raw: str, shown: str) -> None:
    assert plain(raw) == shown


@given(st.text())
def test_no_text_leaves_a_control_character_or_fails(raw: str) -> None:
    log = BuildLog()
    shown = log.read(raw)

    assert shown is None or not any((ord(c) < 32 and c != "\t") or ord(c) == 127 for c in shown)
    assert log.failure().sentence
