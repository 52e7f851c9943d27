"""Ask /health of a klepaas every few milliseconds until stdin ends, and print the answers as JSON: [[status, ms], …].

A program of its own: what else a test does must not be counted as waiting for klepaas."""

import http.client
import json
import select
import sys
import time


def main(host: str, port: str) -> None:
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    answers = []
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        began = time.perf_counter()
        connection.request("GET", "/health")
        answer = connection.getresponse()
        answer.read()
        answers.append([answer.status, (time.perf_counter() - began) * 1000])
    print(json.dumps(answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
