"""mosquitto_pub and mosquitto_sub, and ringmq's own pub and sub, which take the same letters: a process per publish and per subscription."""

import subprocess
import threading

from .client import DEADLINE_S, READY_TOPIC, Client, Failed, Message

#: As the tools call the versions.
LETTERS = {3: "mqttv31", 4: "mqttv311", 5: "mqttv5"}


class ToolClient(Client):
    is_tool = True

    def __init__(self, kind, pub, sub, port, version):
        """`pub` and `sub` are the commands with their first arguments."""
        self.kind = kind
        super().__init__(port, version)
        self._pub, self._sub = pub, sub
        self._client_id = None
        self._process = None
        self._ready = threading.Event()
        self._leaving = False

    def _common(self):
        return ["-h", "127.0.0.1", "-p", str(self.port), "-V", LETTERS[self.version]]

    def start(self, client_id, filters=(), qos=0, clean=True, session_expiry=0, will=None):
        self._client_id = client_id
        if not filters and not will:
            # Such a connection would do nothing: to publish, the tool makes one of its own.
            return None
        command = [*self._sub, *self._common(), "-i", client_id, "-q", str(qos), "-F", "%q %r %t %x"]
        for topic_filter in (*filters, READY_TOPIC):
            command += ["-t", topic_filter]
        if not clean:
            command += ["-c"]
        if self.version == 5 and session_expiry:
            command += ["-x", str(session_expiry)]
        if will:
            command += ["--will-topic", will.topic, "--will-payload", will.payload.decode(), "--will-qos", str(will.qos)]
            command += ["--will-retain"] if will.retain else []
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        threading.Thread(target=self._read, daemon=True).start()
        if not self._ready.wait(DEADLINE_S) or self._process.poll() is not None:
            raise Failed(f"{self}: {' '.join(command)}: no subscription within {DEADLINE_S} s, or it has ended")
        return None

    def _read(self):
        for line in self._process.stdout:
            qos, retain, topic, payload = line.rstrip(b"\n").decode().split(" ", 3)
            if topic == READY_TOPIC:
                self._ready.set()
            else:
                self.inbox.add(Message(topic, bytes.fromhex(payload), int(qos), retain == "1"))
        # Whoever waits for it need not wait for the deadline.
        self._ready.set()
        if not self._leaving:
            self.inbox.broken(f"{self._sub[0]} has ended with exit code {self._process.wait()}")

    def publish(self, topic, payloads, qos=0, retain=False):
        command = [*self._pub, *self._common(), "-t", topic, "-q", str(qos)]
        command += ["-r"] if retain else []
        if len(payloads) > 1:
            command, data = [*command, "-l"], b"".join(payload + b"\n" for payload in payloads)
        elif payloads[0]:
            command, data = [*command, "-s"], payloads[0]
        else:
            command, data = [*command, "-n"], b""
        done = subprocess.run(command, input=data, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=DEADLINE_S, check=False)
        if done.returncode != 0:
            raise Failed(f"{self}: {' '.join(command)}: exit code {done.returncode}: {done.stdout.decode(errors='replace')}")

    def _end(self, how):
        if self._process is not None and self._process.poll() is None:
            self._leaving = True
            how()
            self._process.wait(DEADLINE_S)

    def disconnect(self):
        # The tools answer SIGTERM with DISCONNECT.
        self._end(lambda: self._process.terminate())

    def abandon(self):
        self._end(lambda: self._process.kill())
