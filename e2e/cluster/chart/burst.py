"""Sends requests to a Relay, each on a connection of its own, and prints how many were answered how, as
`200=30 429=60 degraded=0 slowest_ms=41`. What was no answer counts as `failed`. What each other status said is written to stderr,
once.

    burst.py [--count N | --for SECONDS | --until FILE] [--parallel N] [--keep N] [--every SECONDS] URL TOKEN MODEL
"""

import argparse
import collections
import concurrent.futures
import http.client
import itertools
import json
import os
import sys
import threading
import time
import urllib.parse

options = argparse.ArgumentParser()
options.add_argument("--count", type=int)
options.add_argument("--for", type=float, dest="seconds")
options.add_argument("--until", help="a file: sends until it is there")
options.add_argument("--parallel", type=int, default=16)
options.add_argument("--keep", type=int, default=1, help="requests on one connection: ports that are used up come back after a minute")
options.add_argument("--every", type=float, default=0, help="pause of each sender between two requests, in seconds")
options.add_argument("url")
options.add_argument("token")
options.add_argument("model")
chosen = options.parse_args()
address = urllib.parse.urlsplit(chosen.url).netloc
body = json.dumps({"model": chosen.model, "max_tokens": 16, "messages": [{"role": "user", "content": "Hello"}]})
headers = {"authorization": f"Bearer {chosen.token}", "content-type": "application/json"}
tally, lock, slowest = collections.Counter(), threading.Lock(), 0.0
numbers, begin = itertools.count(), time.monotonic()


def wanted():
    """Whether another request is to be sent."""
    if chosen.count is not None:
        return next(numbers) < chosen.count
    if chosen.until is not None:
        return not os.path.exists(chosen.until)
    return time.monotonic() - begin < chosen.seconds


def ask(connection):
    """The status of one answer, and whether it was decided without shared counters."""
    try:
        connection.request("POST", "/v1/chat/completions", body, headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status not in (200, 429, 503) and str(answer.status) not in tally:
            print(answer.status, dict(answer.getheaders()), content.decode(), file=sys.stderr)
        return str(answer.status), answer.getheader("x-relay-limits") == "degraded"
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return f"failed({error!r})", False


def send():
    global slowest
    connection = http.client.HTTPConnection(address, timeout=30)
    for number in itertools.count(1):
        if not wanted():
            break
        sent = time.monotonic()
        status, degraded = ask(connection)
        if number % chosen.keep == 0:
            connection.close()
        with lock:
            tally[status] += 1
            tally["degraded"] += degraded
            slowest = max(slowest, time.monotonic() - sent)
        time.sleep(chosen.every)
    connection.close()


with concurrent.futures.ThreadPoolExecutor(chosen.parallel) as senders:
    for sender in [senders.submit(send) for _ in range(chosen.parallel)]:
        sender.result()
print(*(f"{name}={number}" for name, number in sorted(tally.items())), f"slowest_ms={slowest * 1000:.0f}")
