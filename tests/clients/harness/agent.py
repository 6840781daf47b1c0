"""Clients that live in a process of their own and are led by JSON lines: MQTT.js and rumqttc.

To the process: {"op": "connect", "conn": N, "connect": {port, client_id, version, clean, session_expiry, will}}, then for that connection
{"op": "subscribe", topic, qos}, {"op": "publish", topic, qos, retain, payloads}, {"op": "disconnect"}, {"op": "abandon"}.
From it, each with "conn": connected {session_present}, subscribed {codes}, published, message {topic, payload, qos, retain, dup}, abandoned,
closed {why}, failed {why}. Payloads are base64. One process serves all connections of its kind.
"""

import base64
import itertools
import json
import queue
import subprocess
import threading

from .client import DEADLINE_S, Client, Failed, Message


class Agent:
    """One such process."""

    def __init__(self, command, env=None):
        self._command = command[0]
        self._process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._numbers = itertools.count()
        self._clients = {}
        self._writing = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def add(self, client):
        number = next(self._numbers)
        self._clients[number] = client
        return number

    def send(self, command):
        line = json.dumps(command).encode() + b"\n"
        with self._writing:
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def _read(self):
        for line in self._process.stdout:
            event = json.loads(line)
            client = self._clients.get(event["conn"])
            if client is not None:
                client.on_event(event)
        for client in self._clients.values():
            client.on_event({"event": "closed", "why": f"{self._command} has ended"})

    def stop(self):
        self._process.stdin.close()
        self._process.wait(DEADLINE_S)


class AgentClient(Client):
    """One connection of an agent."""

    def __init__(self, agent, kind, port, version):
        self.kind = kind
        super().__init__(port, version)
        self._agent = agent
        self._conn = agent.add(self)
        self._replies = queue.Queue()
        self._connected = False
        self._leaving = False

    def on_event(self, event):
        if event["event"] == "message":
            payload = base64.b64decode(event["payload"])
            self.inbox.add(Message(event["topic"], payload, event["qos"], event["retain"]))
            return
        if event["event"] == "closed":
            self._connected = False
        if event["event"] in ("closed", "failed") and not self._leaving:
            self.inbox.broken(f"{event['event']}: {event['why']}")
        self._replies.put(event)

    def _ask(self, wanted, op, **fields):
        self._agent.send({"op": op, "conn": self._conn, **fields})
        while True:
            try:
                reply = self._replies.get(timeout=DEADLINE_S)
            except queue.Empty:
                raise Failed(f"{self}: {op}: no answer within {DEADLINE_S} s") from None
            if reply["event"] == wanted:
                return reply
            if reply["event"] in ("closed", "failed"):
                raise Failed(f"{self}: {op}: {reply['event']}: {reply['why']}")

    def start(self, client_id, filters=(), qos=0, clean=True, session_expiry=0, will=None):
        connect = {
            "port": self.port,
            "client_id": client_id,
            "version": self.version,
            "clean": clean,
            "session_expiry": session_expiry,
            "will": will and {**vars(will), "payload": base64.b64encode(will.payload).decode()},
        }
        reply = self._ask("connected", "connect", connect=connect)
        self._connected = True
        for topic_filter in filters:
            codes = self._ask("subscribed", "subscribe", topic=topic_filter, qos=qos)["codes"]
            if codes != [qos]:
                raise Failed(f"{self}: asked for QoS {qos} on {topic_filter}, was granted {codes}")
        return self._session_present(reply["session_present"])

    def publish(self, topic, payloads, qos=0, retain=False):
        encoded = [base64.b64encode(payload).decode() for payload in payloads]
        self._ask("published", "publish", topic=topic, qos=qos, retain=retain, payloads=encoded)

    def disconnect(self):
        self._leaving, self._connected = True, False
        self._ask("closed", "disconnect")

    def abandon(self):
        if self._connected:
            self._leaving, self._connected = True, False
            self._ask("abandoned", "abandon")
