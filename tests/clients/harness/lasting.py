"""Paho clients with lasting sessions that come back by themselves, and know of each message what became of it."""

import collections
import threading
import time

TIMEOUT_S = 30
#: Never set: between two looks at a condition.
PAUSE = threading.Event()
#: What PUBCOMP says when an exchange had been over, and only the broker's answer was lost.
NOT_FOUND = 0x92


def wait_until(what, condition, timeout_s=TIMEOUT_S):
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        PAUSE.wait(0.005)


def paho_with_answers(on_pubrec):
    """A paho client that tells the reason code of PUBREC, which paho itself ignores: it sends PUBREL for a refused message as for any other.

    And one that keeps to the standard where paho does not: when it has to try twice to connect, it would forget in between that it got PUBREC for a message,
    and send that again after PUBREL, without DUP [MQTT-4.3.3-6] - and the broker would have to deliver it again.
    """
    import paho.mqtt.client as mqtt

    class Paho(mqtt.Client):
        def _handle_pubrec(self):
            packet = self._in_packet["packet"]
            on_pubrec(int.from_bytes(packet[:2], "big"), packet[2] if len(packet) > 2 else 0)
            return super()._handle_pubrec()

        def _messages_reconnect_reset_out(self):
            with self._out_message_mutex:
                released = [message for message in self._out_messages.values() if message.state == mqtt.mqtt_ms_resend_pubrel]
                super()._messages_reconnect_reset_out()
                for message in released:
                    message.state = mqtt.mqtt_ms_resend_pubrel

    return Paho


class Client:
    """A paho client with a lasting session that comes back whenever it can."""

    def __init__(self, name, version, port, window):
        import paho.mqtt.client as mqtt
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        self.name, self.faults = name, []
        protocol = {4: mqtt.MQTTv311, 5: mqtt.MQTTv5}[version]
        lasting = {} if version == 5 else {"clean_session": False}
        client = paho_with_answers(self._pubrec)
        self.paho = client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=protocol, **lasting)
        self.paho.reconnect_delay_set(0.05, 0.2)
        self.paho.on_connect = self._connected
        self.paho.max_inflight_messages_set(window)
        self.connects, self.online = 0, threading.Event()
        self.paho.on_disconnect = lambda *_: self.online.clear()
        options = {}
        if version == 5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 0xFFFFFFFF
            options = {"clean_start": False, "properties": properties}
        self._connect = lambda: self.paho.connect("127.0.0.1", port, keepalive=30, **options)

    def start(self):
        while True:
            try:
                self._connect()
                break
            except OSError:
                PAUSE.wait(0.02)
        self.paho.loop_start()

    def _connected(self, _client, _userdata, flags, reason, _properties):
        if reason.is_failure:
            self.faults.append(f"{self.name} was refused: {reason}")
        elif self.connects > 0 and not flags.session_present:
            self.faults.append(f"the session of {self.name} was lost")
        self.connects += 1
        self.online.set()

    def _pubrec(self, packet_id, code):
        """Nothing to do for one that does not publish."""

    def stop(self):
        self.paho.disconnect()
        self.paho.loop_stop()


class Publisher(Client):
    """Publishes numbers, as fast as its window allows, at one QoS; remembers how each was answered."""

    def __init__(self, name, version, port, qos, window, payload_bytes):
        super().__init__(name, version, port, window)
        self.qos, self.window, self.sent = qos, window, 0
        self._padding = "." * payload_bytes
        #: Numbers by what they were told: PUBACK or PUBREC with success, or with the code of a refusal. Neither: no answer has come.
        self.acknowledged, self.refused = set(), {}
        #: Answers as they come, looked at by the publishing thread alone: packet identifier, code, and whether the exchange is over.
        self._answers, self._ending = collections.deque(), threading.Event()
        #: Packet identifier: number.
        self._numbers = {}
        self.paho.on_publish = self._published
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        super().start()
        self._thread.start()

    def _pubrec(self, packet_id, code):
        self._answers.append((packet_id, code, False))

    def _published(self, _client, _userdata, packet_id, reason, _properties):
        self._answers.append((packet_id, reason.value if hasattr(reason, "value") else 0, True))

    def _run(self):
        while not self._ending.is_set() or self._numbers:
            self._take_answers()
            if self._ending.is_set() or not self.online.is_set() or len(self._numbers) >= self.window:
                PAUSE.wait(0.001)
                continue
            retain = self.sent % 5 == 0
            topic = f"crash/{'kept' if retain else 'live'}/{self.name}"
            info = self.paho.publish(topic, f"{self.name}:{self.sent}:{self._padding}".encode(), self.qos, retain)
            self._numbers[info.mid] = self.sent
            self.sent += 1

    def _take_answers(self):
        while self._answers:
            packet_id, code, over = self._answers.popleft()
            number = self._numbers.pop(packet_id, None) if over else self._numbers.get(packet_id)
            if number is None:
                # A PUBREC that was sent again may come after everything else.
                if over:
                    self.faults.append(f"{self.name}: an acknowledgement of nothing: {packet_id}")
            elif self.qos == 2 and over:
                # PUBREC has decided; PUBCOMP only ends the exchange, and finds none where it had ended already.
                if number not in self.acknowledged and number not in self.refused:
                    self.faults.append(f"{self.name}: PUBCOMP for {number}, and no PUBREC before it")
                if code not in (0, NOT_FOUND):
                    self.faults.append(f"{self.name}: PUBCOMP for {number} with {code:#04x}")
            elif code < 0x80:
                self.acknowledged.add(number)
                self.refused.pop(number, None)
            elif number in self.acknowledged:
                self.faults.append(f"{self.name}: {number} was acknowledged, and then refused with {code:#04x}")
            else:
                self.refused[number] = code

    def answers(self):
        """How often it was told what, in words."""
        codes = collections.Counter(self.refused.values())
        refused = "".join(f", {count} refused with {code:#04x}" for code, count in sorted(codes.items()))
        return f"{self.name}: {self.sent} sent, {len(self.acknowledged)} acknowledged{refused}"

    def finish(self, timeout_s):
        """Publishes nothing more, and waits until everything is answered."""
        self._ending.set()
        wait_until(f"all that {self.name} published is answered", lambda: not self._thread.is_alive(), timeout_s)
        self.stop()


class Subscriber(Client):
    """Counts what it gets, slowly if it is to be slow."""

    def __init__(self, name, version, port, qos, window=20, slow_s=0.0):
        super().__init__(name, version, port, window)
        self.qos, self.received = qos, collections.Counter()
        self._slow_s = slow_s
        self._subscribed = threading.Event()
        self.paho.on_subscribe = lambda *_: self._subscribed.set()
        self.paho.on_message = self._message

    def subscribe(self):
        self.start()
        wait_until(f"{self.name} is let in", self.online.is_set)
        self.paho.subscribe("crash/#", self.qos)
        wait_until(f"{self.name} is subscribed", self._subscribed.is_set)

    def _message(self, _client, _userdata, message):
        publisher, number, _ = message.payload.decode().split(":")
        self.received[publisher, int(number), message.qos] += 1
        if self._slow_s:
            PAUSE.wait(self._slow_s)

    def leave(self):
        self.stop()
        self.online.clear()

    def come_back(self):
        self.start()
