"""A local stand-in for the Hugging Face Hub: repositories in memory, behind as much of its protocol as is used."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REVISION = "0123456789abcdef0123456789abcdef01234567"


class Answers(BaseHTTPRequestHandler):
    """Creates repositories, takes commits, lists and serves files."""

    repositories: dict[str, dict[str, bytes]]
    asked: list[str]

    def do_POST(self):
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append(f"POST {self.path}")
        if self.path == "/api/repos/create":
            told = json.loads(sent)
            name = f"{told.get('type') or 'model'}s/{told.get('organization') or 'me'}/{told['name']}"
            self.repositories.setdefault(name, {})
            return self.say({"url": f"{self.server.address}/{name}"})
        name, rest = self.named()
        if name not in self.repositories:
            return self.say({"error": "Repository not found"}, 404)
        if rest.startswith("/preupload"):
            files = json.loads(sent)["files"]
            told = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in files]
            return self.say({"files": told})
        for line in sent.decode().splitlines():
            one = json.loads(line)
            if one["key"] == "file":
                value = one["value"]
                self.repositories[name][value["path"]] = base64.b64decode(value["content"])
        self.say(
            {"success": True, "commitOid": REVISION, "commitUrl": f"{self.server.address}/{name}/commit/1"}
        )

    def do_GET(self):
        self.asked.append(f"{self.command} {self.path}")
        if self.path.startswith("/api/"):
            name, rest = self.named()
            files = self.repositories.get(name)
            if files is None or "gone" in rest:
                return self.say({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            if rest.startswith("/tree"):
                told = [{"type": "file", "path": p, "size": len(c), "oid": hashlib.sha1(c).hexdigest()}
                        for p, c in files.items()]  # fmt: skip
                return self.say(told)
            siblings = [{"rfilename": path} for path in files]
            return self.say({"id": name.partition("/")[2], "sha": REVISION, "private": False, "siblings": siblings,
                             "tags": [], "downloads": 0, "likes": 0})  # fmt: skip
        found = re.fullmatch(
            r"/(datasets/)?([\w.-]+/[\w.-]+)/resolve/[^/]+/(.+)", self.path.partition("?")[0]
        )
        content = None
        if found is not None:
            content = self.repositories.get(f"{found[1] or 'models/'}{found[2]}", {}).get(found[3])
        if content is None:
            return self.say({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        mark = hashlib.sha1(content).hexdigest()
        self.send(content, 200, {"ETag": f'"{mark}"', "X-Repo-Commit": REVISION})

    do_HEAD = do_GET

    def named(self):
        found = re.match(r"/api/(models|datasets)/([\w.-]+/[\w.-]+)", self.path)
        assert found is not None, self.path
        return f"{found[1]}/{found[2]}", self.path[found.end() :]

    def say(self, told, status=200, headers=None):
        self.send(json.dumps(told).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def send(self, content, status, headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextmanager
def stand_in():
    """Yield (environment variables with which a process talks to it, its repositories, what was asked)."""
    handler = type("Own", (Answers,), {"repositories": {}, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    variables = {"HF_ENDPOINT": server.address, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_standin",
                 "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}  # fmt: skip
    try:
        yield variables, handler.repositories, handler.asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
