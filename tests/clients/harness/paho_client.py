"""paho-mqtt, in this process: each connection has paho's own network thread."""

import socket
import threading

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from .client import DEADLINE_S, Client, Failed, Message


class PahoClient(Client):
    kind = "paho"

    def __init__(self, port, version):
        super().__init__(port, version)
        self._client = None
        self._changed = threading.Condition()
        self._connack = None
        self._suback = None
        #: Packet identifiers of publishes whose exchange is over.
        self._finished = frozenset()
        self._down = False
        self._leaving = False

    def _wait(self, condition, what):
        with self._changed:
            if not self._changed.wait_for(condition, DEADLINE_S):
                raise Failed(f"{self}: {what}: not within {DEADLINE_S} s")

    def _tell(self, name, value):
        with self._changed:
            setattr(self, name, value)
            self._changed.notify_all()

    def start(self, client_id, filters=(), qos=0, clean=True, session_expiry=0, will=None):
        v5 = self.version == 5
        client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=None if v5 else clean,
            protocol=paho.MQTTProtocolVersion(self.version),
            reconnect_on_failure=False,
        )
        client.on_connect = lambda c, u, flags, code, properties: self._tell("_connack", (flags, code))
        client.on_subscribe = lambda c, u, mid, codes, properties: self._tell("_suback", codes)
        client.on_publish = lambda c, u, mid, code, properties: self._tell("_finished", self._finished | {mid})
        client.on_message = lambda c, u, m: self.inbox.add(Message(m.topic, m.payload, m.qos, m.retain))
        client.on_disconnect = self._on_disconnect
        client.max_inflight_messages_set(100)
        client.max_queued_messages_set(0)
        if will:
            client.will_set(will.topic, will.payload, will.qos, will.retain)
        properties = None
        if v5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = session_expiry
        self._client = client
        client.connect("127.0.0.1", self.port, clean_start=clean if v5 else paho.MQTT_CLEAN_START_FIRST_ONLY, properties=properties)
        client.loop_start()
        self._wait(lambda: self._connack, "CONNACK")
        flags, code = self._connack
        if code.is_failure:
            raise Failed(f"{self}: refused: {code}")
        for topic_filter in filters:
            self._suback = None
            client.subscribe(topic_filter, qos)
            self._wait(lambda: self._suback, "SUBACK")
            if [code.value for code in self._suback] != [qos]:
                raise Failed(f"{self}: asked for QoS {qos} on {topic_filter}, was granted {self._suback}")
        return self._session_present(flags.session_present)

    def _on_disconnect(self, client, userdata, flags, code, properties):
        if not self._leaving:
            self.inbox.broken(f"disconnected: {code}")
        self._tell("_down", True)

    def may_break(self):
        """From now on a lost connection is part of the test."""
        self._leaving = True

    def resume(self):
        """Connects anew once the connection is lost; paho has kept its side of the session."""
        self._wait(lambda: self._down, "the end of the broken connection")
        self._client.loop_stop()
        self._down, self._connack = False, None
        self._client.reconnect()
        self._client.loop_start()
        self._wait(lambda: self._connack, "CONNACK")
        flags, code = self._connack
        if code.is_failure or not flags.session_present:
            raise Failed(f"{self}: the session is gone: {code}, {flags}")

    def begin_publish(self, topic, payload, qos):
        """Publishes without waiting; `finish_publish` waits. paho keeps the message even where the connection is lost at once."""
        return self._client.publish(topic, payload, qos).mid

    def finish_publish(self, mid):
        self._wait(lambda: mid in self._finished, "the end of an exchange that a lost connection had interrupted")

    def publish(self, topic, payloads, qos=0, retain=False):
        infos = [self._client.publish(topic, payload, qos, retain) for payload in payloads]
        for info in infos:
            info.wait_for_publish(DEADLINE_S)
            if not info.is_published():
                raise Failed(f"{self}: a publish to {topic} at QoS {qos} was not acknowledged")

    def disconnect(self):
        self._leaving = True
        self._client.disconnect()
        self._wait(lambda: self._down, "the end of the connection")
        self._client.loop_stop()

    def abandon(self):
        self._leaving = True
        if self._client is None or self._down:
            return
        self._client.socket().shutdown(socket.SHUT_RDWR)
        self._wait(lambda: self._down, "the end of the connection")
        self._client.loop_stop()
