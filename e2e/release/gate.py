#!/usr/bin/env python3
"""A registry that asks who is there: passes on to another what comes with one name and password, and says what that was.

    gate.py PORT-OF-THE-REGISTRY NAME:PASSWORD

Prints the port that it listens on, and then the method and path of each request that it passes on.
"""

import base64
import http.client
import http.server
import sys

REGISTRY, WHO = int(sys.argv[1]), sys.argv[2]
RIGHT = "Basic " + base64.b64encode(WHO.encode()).decode()


class Gate(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != RIGHT:
            return self.send(401, [("WWW-Authenticate", 'Basic realm="registry"')], b"")
        print(self.command, self.path, flush=True)
        upstream = http.client.HTTPConnection("127.0.0.1", REGISTRY)
        upstream.request(self.command, self.path, body, {**self.headers, "Connection": "close"})
        answer = upstream.getresponse()
        content = answer.read()
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() != "transfer-encoding"]
        self.send(answer.status, headers, content)

    def send(self, status, headers, content):
        self.send_response_only(status)
        if not any(name.lower() == "content-length" for name, _ in headers):
            headers.append(("Content-Length", str(len(content))))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gate)
print(server.server_port, flush=True)
server.serve_forever()
