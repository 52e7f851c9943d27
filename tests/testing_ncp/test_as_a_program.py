"""The stand-in in a process of its own, steered by `/_control`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from tests.testing_ncp.conftest import FILES, Signed


def test_it_says_where_it_is_and_does_what_it_is_told(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "klepaas.testing.ncp", "--build-time-ms", "100000"]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as program,
        httpx.Client(verify=False, trust_env=False) as http,
    ):
        assert program.stdout is not None
        assert program.stdin is not None
        said = json.loads(program.stdout.readline())
        there = said["environment"]

        def do(call: str, repository: str = "", **arguments: Any) -> Any:
            body = {"call": call, "repository": repository, "arguments": arguments}
            answer = http.post(said["control"], json=body)
            assert 200 == answer.status_code, answer.text
            return answer.json()["result"]

        do("create_repository", name="team-shop", files=FILES)
        sha = do("commit", "team-shop", files={"a": "1"})
        faults = {"requests": [{"kind": "error", "times": 1}], "runs": [{"of": "build", "ending": "fail"}]}
        http.post(said["control"], json={"faults": faults, "set": {"deploy_time_ms": 5}})
        auth = Signed(there["KLEPAAS_NCP_ACCESS_KEY"], there["KLEPAAS_NCP_SECRET_KEY"])
        url = f"{there['KLEPAAS_NCP_SOURCECOMMIT_ENDPOINT']}/api/v1/repository"
        codes = [http.get(url, auth=auth).status_code for _ in range(2)]
        do("advance", seconds=100)
        do("wait_for_runs")
        state = http.get(said["control"]).json()
        refused = http.post(said["control"], json={"call": "stop"})
        left = list(tmp_path.iterdir())
        program.stdin.close()
        ended = program.wait(20)

    assert [503, 200] == codes
    assert {"refs/heads/main": sha} == state["repositories"]["team-shop"]["refs"]
    assert [503, 200] == [request["status"] for request in state["requests"]]
    assert there["KLEPAAS_NCP_SECRET_KEY"] not in json.dumps(state)
    assert "server: https://127.0.0.1" in said["kubeconfig"]
    assert 400 == refused.status_code
    assert (1, 0, []) == (len(left), ended, list(tmp_path.iterdir()))
