"""Sends requests to a Relay, each on a connection of its own, and prints how many were answered how, as
`200=30 429=60 degraded=0 slowest_ms=41`. What was no answer counts as `failed`.

    burst.py [--count N | --for SECONDS | --until FILE] [--parallel N] [--every SECONDS] URL TOKEN MODEL
"""

import argparse
import collections
import concurrent.futures
import http.client
import itertools
import json
import os
import threading
import time
import urllib.parse

options = argparse.ArgumentParser()
options.add_argument("--count", type=int)
options.add_argument("--for", type=float, dest="seconds")
options.add_argument("--until", help="a file: sends until it is there")
options.add_argument("--parallel", type=int, default=16)
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


def ask():
    """The status of one answer, and whether it was decided without shared counters."""
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request("POST", "/v1/chat/completions", body, headers)
        answer = connection.getresponse()
        answer.read()
        return str(answer.status), answer.getheader("x-relay-limits") == "degraded"
    except (OSError, http.client.HTTPException) as error:
        return f"failed({error!r})", False
    finally:
        connection.close()


def send():
    global slowest
    while wanted():
        sent = time.monotonic()
        status, degraded = ask()
        with lock:
            tally[status] += 1
            tally["degraded"] += degraded
            slowest = max(slowest, time.monotonic() - sent)
        time.sleep(chosen.every)


with concurrent.futures.ThreadPoolExecutor(chosen.parallel) as senders:
    for sender in [senders.submit(send) for _ in range(chosen.parallel)]:
        sender.result()
print(*(f"{name}={number}" for name, number in sorted(tally.items())), f"slowest_ms={slowest * 1000:.0f}")
