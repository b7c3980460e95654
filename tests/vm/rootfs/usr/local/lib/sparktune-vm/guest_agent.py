"""Runs inside the guest: does what the host asks over virtio-serial, one JSON object a line both ways.

Started before anything else and independent of the network. Standard library only; each request has a
thread, so that a long one does not hold up the next.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

PORT_NAME = "sparktune-vm"
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}


def find_port() -> Path:
    """The character device of our port; by sysfs, as udev may not have come to name it yet."""
    while True:
        for name in Path("/sys/class/virtio-ports").glob("*/name"):
            if name.read_text().strip() == PORT_NAME:
                return Path("/dev", name.parent.name)
        time.sleep(0.1)


class Agent:
    """The port, and the processes that requests have started."""

    def __init__(self, port: Path) -> None:
        """Open the port."""
        self.descriptor = os.open(port, os.O_RDWR | os.O_CLOEXEC)
        self.sending = threading.Lock()
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def send(self, message: dict[str, Any]) -> None:
        """Send one line, whole."""
        data = memoryview(json.dumps(message).encode() + b"\n")
        with self.sending:
            while data:
                data = data[os.write(self.descriptor, data) :]

    def serve(self) -> None:
        """Greet, then answer for ever."""
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        os.write(self.descriptor, b"\n")  # ends whatever the boot before this one left half said
        self.send({"hello": boot_id, "monotonic_s": time.monotonic()})
        rest = b""
        while True:
            data = os.read(self.descriptor, 65536)
            if not data:  # the host is not connected
                time.sleep(0.1)
                continue
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if line:
                    threading.Thread(target=self.answer, args=(line,), daemon=True).start()

    def answer(self, line: bytes) -> None:
        """Do what one line asks; an exception is an answer as well."""
        try:
            request = json.loads(line)
        except ValueError:  # the tail of a line whose head was read by the boot before this one
            return
        try:
            result = getattr(self, f"do_{request['do']}")(request)
        except Exception as error:  # noqa: BLE001 - whatever it is, the host must not wait for ever
            result = {"error": f"{type(error).__name__}: {error}"}
        self.send({"id": request["id"], **result})

    def do_run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run a command to its end or its time limit, in a process group of its own."""
        began_s = time.monotonic()
        process = subprocess.Popen(
            request["argv"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=request.get("cwd") or "/",
            env={**ENVIRONMENT, **request.get("env", {})},
            start_new_session=True,
        )
        self.processes[request["id"]] = process
        in_time = True
        try:
            out, err = process.communicate(request.get("stdin", "").encode(), timeout=request["timeout_s"])
        except subprocess.TimeoutExpired:
            in_time = False
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
        finally:
            del self.processes[request["id"]]
        return {
            "code": process.returncode,
            "in_time": in_time,
            "took_s": time.monotonic() - began_s,
            "out": base64.b64encode(out).decode(),
            "err": base64.b64encode(err).decode(),
        }

    def do_signal(self, request: dict[str, Any]) -> dict[str, Any]:
        """Signal the process group of a running request."""
        process = self.processes.get(request["of"])
        if process is None:
            return {"signalled": False}
        os.killpg(process.pid, request["number"])
        return {"signalled": True}

    def do_put(self, request: dict[str, Any]) -> dict[str, Any]:
        """Write a part of a file; the first one empties it."""
        path = Path(request["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab" if request["append"] else "wb") as file:
            file.write(base64.b64decode(request["data"]))
        path.chmod(request["mode"])
        return {}

    def do_get(self, request: dict[str, Any]) -> dict[str, Any]:
        """Read a file."""
        return {"data": base64.b64encode(Path(request["path"]).read_bytes()).decode()}

    def do_ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """GET from the API at localhost: for what is asked again and again, without a process each time."""
        from http.client import HTTPConnection, HTTPException  # here, for a boot is not to wait for it

        connection = HTTPConnection("localhost", request["port"], timeout=request["timeout_s"])
        try:
            connection.request("GET", request["path"])
            answer = connection.getresponse()
            return {"status": answer.status, "body": answer.read().decode()}
        except (OSError, HTTPException) as error:
            return {"status": 0, "body": f"{type(error).__name__}: {error}"}
        finally:
            connection.close()


def main() -> None:
    """Answer until the machine goes down."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    port = find_port()
    print(f"answering on {port}", file=sys.stderr)  # noqa: T201 - to the journal
    Agent(port).serve()


if __name__ == "__main__":
    main()
