"""The real binary, started as a user starts it, on a port that the system chooses."""

import re
import signal
import subprocess
import threading

from .client import DEADLINE_S, Failed

#: As the first line of a broker calls its backends.
BACKENDS = {"uring": "io_uring", "epoll": "epoll"}


class NoBackend(Exception):
    """This system does not let us use io_uring."""


class Broker:
    def __init__(self, binary, backend, shards, data_dir=None):
        self._binary, self._backend, self._shards, self._data_dir = binary, backend, shards, data_dir
        self.log = []
        self._start(0)

    def _start(self, port):
        command = [self._binary, "--listen", f"127.0.0.1:{port}", "--io", self._backend, "--shards", str(self._shards)]
        command += ["--log", "debug", "--set", "sys.interval_s=1"]
        if self._data_dir:
            command += ["--data-dir", self._data_dir]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        self.first_line = self._process.stdout.readline()
        listening = re.search(r"listens on 127\.0\.0\.1:(\d+) with (\d+) shards? over (\w+)", self.first_line)
        if not listening:
            self._process.wait(DEADLINE_S)
            self._reader.join(DEADLINE_S)
            said = "\n".join(self.log)
            if "io_uring is not available" in said:
                raise NoBackend(said.strip())
            raise Failed(f"the broker did not start: {self.first_line}{said}")
        self.port = int(listening[1])
        if (int(listening[2]), listening[3]) != (self._shards, BACKENDS[self._backend]):
            raise Failed(f"asked for {self._shards} shards over {self._backend}, got: {self.first_line}")

    def _read_log(self):
        for line in self._process.stderr:
            self.log.append(line.rstrip("\n"))

    def restart(self):
        """SIGKILL, and the same again on the same port."""
        self._process.kill()
        self._process.wait()
        self._reader.join(DEADLINE_S)
        self._start(self.port)

    def stop(self):
        """SIGTERM must end it in order, and soon."""
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise Failed(f"the broker did not end within {DEADLINE_S} s of SIGTERM") from None
        self._reader.join(DEADLINE_S)
        if code != 0:
            raise Failed(f"the broker ended with exit code {code}: {self.log[-5:]}")
