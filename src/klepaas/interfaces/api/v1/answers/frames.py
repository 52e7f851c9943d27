"""What streams send, to the byte, for the description of the API. Written out: made by the code that sends them, they
would cost every start something that only the description needs."""

EVENTS = """\
id: 2
event: deployment.claimed
data: {"seq":2,"at":"2026-01-05T09:00:00.012000Z","kind":"deployment.claimed","node":"node_1d32551a7db7","fence":1}

id: 3
event: stage.started
data: {"seq":3,"at":"2026-01-05T09:00:00.020000Z","kind":"stage.started","stage":"fetch","fence":1}

: keep-alive

"""

BUILD_LOG = """\
id: 000000001.000000000000053
event: line
data: {"position":"000000001.000000000000053","at":"2026-01-05T09:00:01.200000Z","text":"#5 [1/3] FROM python:3.12"}

: keep-alive

event: end
data: {}

"""

WHOLE_LOG = """\
#5 [1/3] FROM python:3.12
#6 [2/3] COPY . .
"""

RUNTIME_LOG = """\
event: line
data: {"text":"listening on :8080"}

: keep-alive

event: gap
data: {}

event: line
data: {"text":"GET / 200"}

event: end
data: {}

"""

PIPELINE = """\
event: change
data: {"text":"Made the SourceCommit repository octo-org-shop (632001)."}

: keep-alive

event: end
data: {"project_id":"prj_0f9d1c2b3a495867","build_project_id":"20701","deploy_project_id":"12501",\
"pipeline_id":"2101","image_repo":"acme.kr.ncr.ntruss.com/octo-org-shop",\
"changes":["Made the SourceCommit repository octo-org-shop (632001)."]}

"""
