"""Writes tiny stand-ins for a server's programs, for tests of the supervisor."""

from __future__ import annotations

from pathlib import Path

API = """
import http.server, json, os, signal, sys
signal.signal(signal.SIGTERM, lambda *a: (print("api stops", flush=True), os._exit(0)))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"ready": True, "components": []}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer.allow_reuse_address = True
address = (os.environ["TRIMTAB_HOST"], int(os.environ["TRIMTAB_PORT"]))
http.server.ThreadingHTTPServer(address, Handler).serve_forever()
"""
SLEEPER = """
import pathlib, os, signal, subprocess, sys, time
home = pathlib.Path(os.environ["TRIMTAB_HOME"])
signal.signal(signal.SIGTERM, lambda *a: (open(home / "stopped.log", "a").write("{name}\\n"), os._exit(0)))
# A grandchild in a session of its own, as Ray's are.
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
with open(home / "pids.log", "a") as log:
    log.write("{name} %d %d\\n" % (os.getpid(), child.pid))
time.sleep(300)
"""
REFUSER = """
print("TRIMTAB_X is wrong", flush=True)
raise SystemExit(2)
"""
CRASHER = """
print("cannot find the flux capacitor", flush=True)
raise SystemExit(3)
"""


def write(folder: Path) -> None:
    """Packages ``fake_service`` and ``fake_workers`` below ``folder``."""
    for package in ("fake_service", "fake_workers"):
        (folder / package).mkdir()
        (folder / package / "__init__.py").touch()
    (folder / "fake_service" / "api.py").write_text(API)
    (folder / "fake_service" / "scheduler.py").write_text(SLEEPER.replace("{name}", "scheduler"))
    (folder / "fake_service" / "crasher.py").write_text(CRASHER)
    (folder / "fake_service" / "refuser.py").write_text(REFUSER)
    (folder / "fake_workers" / "dispatcher.py").write_text(SLEEPER.replace("{name}", "dispatcher"))


RUN = """
import signal, sys, time
from pathlib import Path
from trimtab.errors import TrimtabError
from trimtab.local import ServerPlan, Supervisor
def interrupt(*a): raise KeyboardInterrupt
signal.signal(signal.SIGTERM, interrupt)
plan = ServerPlan(Path(sys.argv[1]), port=int(sys.argv[2]))
supervisor = Supervisor(plan, lambda m: print(m, flush=True), sys.argv[3:])
try:
    supervisor.start(migration=None)
    supervisor.wait_ready(20)
    print("ready", flush=True)
    while True:
        supervisor.tend()
        time.sleep(0.05)
except KeyboardInterrupt:
    pass
except TrimtabError as error:
    print("error:", error, "|", error.hint, flush=True)
finally:
    supervisor.stop()
print("bye", flush=True)
"""
"""A supervisor in a process of its own: ``python -c RUN HOME PORT MODULE...``."""
