"""Keeps streams open and sends requests until a file is there, and prints as JSON what came of them.

    load.py --streams N --words WORDS (--until FILE [--every SECONDS] | --once) URL MODEL

A stream that says so many words back, at the upstream's pace, and some of the upstream's own, follows the other, N at a time. A
request is sent every so often, if at all, in turns on a connection of its own and on one that was kept. Tokens are read from
RELAY_STREAMS_TOKEN and RELAY_REQUESTS_TOKEN. A stream has ended well with its finish reason, its usage, `[DONE]` and the
last chunk of its body. A request has failed that got no answer, or another than 200. One on a kept connection that was
closed before it is sent again, as every client does, and counted as `again`.
"""

import argparse
import asyncio
import collections
import json
import os
import urllib.parse

options = argparse.ArgumentParser()
options.add_argument("--streams", type=int, required=True)
options.add_argument("--words", type=int, required=True)
options.add_argument("--every", type=float)
options.add_argument("--once", action="store_true", help="each stream once, and no requests")
options.add_argument("--until")
options.add_argument("url")
options.add_argument("model")
chosen = options.parse_args()
address = urllib.parse.urlsplit(chosen.url)
PATIENCE = chosen.words + 60


class Tally:
    """What was counted of one key."""

    def __init__(self):
        self.sent, self.ended, self.input, self.output, self.again = 0, 0, 0, 0, 0
        self.failed = collections.Counter()

    def add(self, usage):
        self.ended += 1
        self.input += usage["prompt_tokens"]
        self.output += usage["completion_tokens"]

    def shown(self):
        return {**vars(self), "failed": dict(self.failed)}


streams, requests = Tally(), Tally()


def enough():
    return os.path.exists(chosen.until)


def message(token, body, kept):
    content = json.dumps({"model": chosen.model, **body}).encode()
    head = [
        "POST /v1/chat/completions HTTP/1.1",
        f"host: {address.netloc}",
        f"authorization: Bearer {token}",
        "content-type: application/json",
        f"content-length: {len(content)}",
        f"connection: {'keep-alive' if kept else 'close'}",
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + content


class Closed(Exception):
    """A kept connection was closed before the request."""


class Connection:
    """One connection, on which an answer follows the other."""

    @classmethod
    async def open(cls):
        self = cls()
        self.reader, self.writer = await asyncio.open_connection(address.hostname, address.port or 80)
        self.used = False
        return self

    async def head(self, sent):
        """Status and headers of the answer."""
        try:
            self.writer.write(sent)
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            if self.used and not getattr(error, "partial", b""):
                raise Closed from error
            raise
        self.used = True
        status, *fields = head.decode().split("\r\n")
        return int(status.split()[1]), dict(field.lower().split(": ", 1) for field in fields if field)

    def close(self):
        self.writer.close()


def joined(chunks):
    """What chunks hold, wherever they part it; nothing where the last one is missing."""
    body = b""
    while chunks:
        size, _, rest = chunks.partition(b"\r\n")
        length = int(size or b"0", 16)
        if not length:
            return body if rest == b"\r\n" else b""
        body, chunks = body + rest[:length], rest[length + 2 :]
    return b""


async def stream(number):
    words = " ".join(["word"] * chosen.words)
    body = {"stream": True, "stream_options": {"include_usage": True}, "messages": [{"role": "user", "content": words}]}
    # Not all at the same moment.
    await asyncio.sleep(number / chosen.streams * (0 if chosen.once else chosen.words / 4))
    while True:
        streams.sent += 1
        said = b""
        try:
            connection = await Connection.open()
            try:
                async with asyncio.timeout(PATIENCE):
                    status, headers = await connection.head(message(os.environ["RELAY_STREAMS_TOKEN"], body, kept=False))
                    while more := await connection.reader.read(65536):
                        said += more
            finally:
                connection.close()
            heard = joined(said) if headers.get("transfer-encoding") == "chunked" else said
            finished = b'"finish_reason":"stop"' in heard and heard.endswith(b"data: [DONE]\n\n")
            if status == 200 and finished:
                usage = next(line for line in heard.splitlines() if b'"usage":{' in line)
                streams.add(json.loads(usage.removeprefix(b"data: "))["usage"])
            else:
                streams.failed[f"{status}, ends with {said[-300:]}"] += 1
        except (OSError, EOFError, TimeoutError) as error:
            streams.failed[f"{error!r} after {len(said)} bytes"] += 1
        if chosen.once or enough():
            return


kept = collections.deque()


async def ask(on_kept):
    requests.sent += 1
    sent = message(
        os.environ["RELAY_REQUESTS_TOKEN"], {"messages": [{"role": "user", "content": "Hello"}]}, kept=on_kept
    )
    try:
        while True:
            connection = kept.popleft() if on_kept and kept else await Connection.open()
            try:
                async with asyncio.timeout(30):
                    status, headers = await connection.head(sent)
                    content = await connection.reader.readexactly(int(headers["content-length"]))
            except Closed:
                requests.again += 1
                connection.close()
                continue
            except BaseException:
                connection.close()
                raise
            break
        if on_kept and headers.get("connection") != "close":
            kept.append(connection)
        else:
            connection.close()
        if status == 200:
            requests.add(json.loads(content)["usage"])
        else:
            requests.failed[f"{status} {content.decode()}"] += 1
    except (OSError, EOFError, TimeoutError) as error:
        requests.failed[repr(error)] += 1


async def send():
    asked, on_kept = [], False
    # Some connections to take turns with, so that each is idle for a second.
    for _ in range(round(0.5 / chosen.every)):
        kept.append(await Connection.open())
    clock = asyncio.get_running_loop()
    due = clock.time()
    while not enough():
        asked.append(asyncio.create_task(ask(on_kept)))
        on_kept = not on_kept
        due += chosen.every
        await asyncio.sleep(due - clock.time())
    await asyncio.gather(*asked)


async def main():
    tasks = [stream(number) for number in range(chosen.streams)]
    await asyncio.gather(*tasks, *([send()] if chosen.every else []))
    print(json.dumps({"streams": streams.shown(), "requests": requests.shown()}))


asyncio.run(main())
