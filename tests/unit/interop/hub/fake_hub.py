"""A hub on this machine: what huggingface_hub asks of a server, as far as pushing and pulling go."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REPO = r"([\w.-]+/[\w.-]+)"


class FakeHub:
    """repos: name -> file -> bytes. private: names. tokens: name -> whether it may write."""

    def __init__(self):
        self.repos, self.private, self.tokens, self.requests = {}, set(), {"hf_writer": True, "hf_reader": False}, []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_POST(self):
                hub.post(self, self.rfile.read(int(self.headers["Content-Length"] or 0)))

            def do_GET(self):
                hub.get(self)

            do_HEAD = do_GET

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def revision(self, repo):
        content = sorted((name, hashlib.sha1(data).hexdigest()) for name, data in self.repos[repo].items())
        return hashlib.sha1(json.dumps(content).encode()).hexdigest()

    def answer(self, request, status, content=b"", **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        request.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            request.send_header(key.replace("_", "-"), value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)

    def post(self, request, body):
        token = (request.headers.get("Authorization") or "").removeprefix("Bearer ")
        self.requests.append(request.path)
        if not self.tokens.get(token):
            return self.answer(request, 403, {"error": "this token may not write"})
        if request.path == "/api/repos/create":
            asked = json.loads(body)
            name = asked["name"] if "organization" not in asked else f"{asked['organization']}/{asked['name']}"
            exists = name in self.repos
            self.repos.setdefault(name, {})
            if asked.get("private") or asked.get("visibility") == "private":
                self.private.add(name)
            return self.answer(request, 409 if exists else 200, {"url": f"{self.url}/{name}"})
        if found := re.fullmatch(rf"/api/models/{REPO}/preupload/main", request.path):
            files = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                for each in json.loads(body)["files"]
            ]
            return self.answer(request, 200, {"files": files})
        if found := re.fullmatch(rf"/api/models/{REPO}/commit/main", request.path):
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.repos[found[1]][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            oid = self.revision(found[1])
            return self.answer(request, 200, {"commitUrl": f"{self.url}/{found[1]}/commit/{oid}", "commitOid": oid})
        return self.answer(request, 200, {}) if request.path == "/api/validate-yaml" else self.answer(request, 404)

    def get(self, request):
        self.requests.append(request.path)
        found = re.fullmatch(rf"/(?:api/models/{REPO}(?:/revision/(\w+))?|{REPO}/resolve/(\w+)/(.+))", request.path)
        repo = found and (found[1] or found[3])
        if repo not in self.repos:
            return self.answer(request, 404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        sha, name = self.revision(repo), found[5]
        if (found[2] or found[4] or sha) not in ("main", sha):
            return self.answer(request, 404, {"error": "no such revision"}, X_Error_Code="RevisionNotFound")
        if name is None:
            files = [{"rfilename": each} for each in sorted(self.repos[repo])]
            return self.answer(
                request, 200, {"id": repo, "sha": sha, "siblings": files, "private": repo in self.private}
            )
        content = self.repos[repo].get(name)
        if content is None:
            return self.answer(request, 404, {"error": "no such file"}, X_Error_Code="EntryNotFound")
        return self.answer(request, 200, content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit=sha)
