"""One interface over all foreign clients, and the inbox where each keeps what it received.

Nothing here sleeps: a test waits for a condition, and the deadline only bounds a failure.
"""

import threading
import time
from collections import Counter
from dataclasses import dataclass

#: Seconds until a condition that does not come true fails its test. Long, because the machine may be busy; a passing test never waits for it.
DEADLINE_S = 30

#: Protocol level in CONNECT: what people call it.
VERSIONS = {3: "3.1", 4: "3.1.1", 5: "5.0"}

#: A retained message stands here while a broker runs: whoever gets it knows that its SUBSCRIBE has been carried out.
READY_TOPIC = "harness/ready"


class Failed(AssertionError):
    """A condition did not come true."""


@dataclass(frozen=True)
class Message:
    topic: str
    payload: bytes
    qos: int
    retain: bool = False

    def __str__(self):
        payload = self.payload if len(self.payload) <= 40 else f"{len(self.payload)} bytes"
        return f"{self.topic} {payload} qos={self.qos}{' retain' if self.retain else ''}"


@dataclass(frozen=True)
class Will:
    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


class Inbox:
    """Messages in the order in which they came, and waiting for them."""

    def __init__(self, owner):
        self._owner = owner
        self._messages = []
        self._changed = threading.Condition()
        self._broken = None

    def add(self, message):
        with self._changed:
            self._messages.append(message)
            self._changed.notify_all()

    def broken(self, why):
        """Nothing more will come, and that was not asked for."""
        with self._changed:
            self._broken = why
            self._changed.notify_all()

    def messages(self, of=lambda message: True):
        with self._changed:
            return [message for message in self._messages if of(message)]

    def clear(self):
        with self._changed:
            self._messages.clear()

    def wait(self, condition, what):
        """Waits until `condition(messages)` is true; gives the messages."""
        until = time.monotonic() + DEADLINE_S
        with self._changed:
            while not condition(self._messages):
                left = until - time.monotonic()
                if self._broken is not None or left <= 0:
                    got = ", ".join(str(message) for message in self._messages[-8:]) or "nothing"
                    why = self._broken or f"not within {DEADLINE_S} s"
                    raise Failed(f"{self._owner}: {what}: {why}; {len(self._messages)} messages, the last of them: {got}")
                self._changed.wait(left)
            return list(self._messages)

    def wait_for(self, *expected):
        """Waits until all of these have come, in any order; each as often as it is given."""
        missing = Counter(expected)

        def complete(messages):
            return not missing - Counter(messages)

        try:
            return self.wait(complete, f"waited for {len(expected)} messages")
        except Failed as error:
            left = missing - Counter(self.messages())
            raise Failed(f"{error}; missing {sum(left.values())}, such as {next(iter(left), None)}") from None

    def expect_exactly(self, expected):
        """Waits for these messages, and fails if any came twice or others came too."""
        got = Counter(self.wait_for(*expected))
        extra = got - Counter(expected)
        if extra:
            raise Failed(f"{self._owner}: {sum(extra.values())} messages too many, such as {next(iter(extra))}")


class Client:
    """A connection of one foreign client. The kinds differ in `_start`, `publish`, `disconnect` and `abandon`."""

    kind = "?"
    #: A command-line tool: has to name a filter at its start, and connects anew by itself.
    is_tool = False

    def __init__(self, port, version):
        self.port = port
        self.version = version
        self.name = f"{self.kind} {VERSIONS[version]}"
        self.inbox = Inbox(self.name)

    def __str__(self):
        return self.name

    def _session_present(self, flag):
        """3.1 has no such flag in CONNACK."""
        return None if self.version == 3 else flag

    def start(self, client_id, filters=(), qos=0, clean=True, session_expiry=0, will=None):
        """Connects, subscribes to `filters`, and returns once all of that is confirmed: True or False for session present, None if the
        client does not tell. `session_expiry` (seconds) counts for 5.0 only."""
        raise NotImplementedError

    def publish(self, topic, payloads, qos=0, retain=False):
        """Publishes in order, and returns when the last exchange is over (QoS 0: when it is sent)."""
        raise NotImplementedError

    def disconnect(self):
        """Leaves with DISCONNECT, and returns when the connection is closed."""
        raise NotImplementedError

    def abandon(self):
        """Closes the socket without DISCONNECT, as a crash does."""
        raise NotImplementedError

    def close(self):
        """Frees what the client holds, in whatever state it is."""
        self.abandon()
