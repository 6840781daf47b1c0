"""PickMeUp: ride sharing over MQTT, from the first connection to the payment. Drivers, passengers and the backend are paho clients.

Presence is a retained message on `pickmeup/drivers/<id>` or `pickmeup/passengers/<id>`, with a retained empty will that takes it away;
below it are picture, location, chat and inbox. Requests stand on `pickmeup/requests/<passenger>`.
"""

import base64
import hashlib
import json
from contextlib import closing

from harness.client import Message, Will
from harness.cutter import Cutter

EXPIRY_S = 600


class Person:
    """A driver or passenger: connected, present, with a picture, listening to the own inbox."""

    def __init__(self, world, role, name, version, port=None):
        self.topic = f"pickmeup/{role}/{name}"
        self.inbox_topic = f"{self.topic}/inbox"
        self.client = world.client("paho", version, port)
        will = Will(self.topic, b"", qos=1, retain=True)
        self.client.start(f"{role}-{name}", [self.inbox_topic], 2, clean=False, session_expiry=EXPIRY_S, will=will)
        self.presence = json.dumps({"name": name}).encode()
        self.client.publish(self.topic, [self.presence], 1, retain=True)
        # Some 400 KB of base64, as a photograph has.
        self.picture = base64.b64encode(b"".join(hashlib.sha256(f"{name}{part}".encode()).digest() for part in range(9_000)))
        self.client.publish(f"{self.topic}/picture", [self.picture], 1, retain=True)

    def __str__(self):
        return self.topic

    def tell(self, other, qos=2, **what):
        """To the inbox of another."""
        self.client.publish(other.inbox_topic, [json.dumps(what).encode()], qos)

    def expect(self, qos=2, **what):
        self.client.inbox.wait_for(Message(self.inbox_topic, json.dumps(what).encode(), qos))

    def told(self):
        """What came to the own inbox, in order."""
        return [json.loads(message.payload) for message in self.client.inbox.messages(lambda message: message.topic == self.inbox_topic)]


def _watcher(world, client_id, version, *filters, qos=1):
    watcher = world.client("paho", version)
    watcher.start(client_id, filters, qos)
    return watcher


def connection(world):
    """Presence appears, greets the late, and disappears with a client that is killed; not with one that leaves."""
    early = _watcher(world, "early", 4, "pickmeup/drivers/+")
    anna = Person(world, "drivers", "anna", 5)
    bob = Person(world, "drivers", "bob", 4)
    for driver in (anna, bob):
        early.inbox.wait_for(Message(driver.topic, driver.presence, 1))
    late = _watcher(world, "late", 5, "pickmeup/drivers/+", "pickmeup/drivers/+/picture")
    late.inbox.expect_exactly(
        [Message(driver.topic, driver.presence, 1, True) for driver in (anna, bob)]
        + [Message(f"{driver.topic}/picture", driver.picture, 1, True) for driver in (anna, bob)]
    )

    bob.client.disconnect()
    anna.client.abandon()
    for watcher in (early, late):
        watcher.inbox.wait_for(Message(anna.topic, b"", 1))
        assert not watcher.inbox.messages(lambda message: message.topic == bob.topic and not message.payload), "a will after DISCONNECT"
    latest = _watcher(world, "latest", 4, "pickmeup/drivers/+", "pickmeup/drivers/bob/picture")
    latest.inbox.wait_for(Message(bob.topic, bob.presence, 1, True), Message(f"{bob.topic}/picture", bob.picture, 1, True))
    assert not latest.inbox.messages(lambda message: message.topic == anna.topic), "the presence of a killed client is still there"


def pairing(world):
    """A request stands until a driver accepts it; who joins late sees the open ones only."""
    drivers = [Person(world, "drivers", "anna", 4), Person(world, "drivers", "bob", 5)]
    zoe, yuri = Person(world, "passengers", "zoe", 5), Person(world, "passengers", "yuri", 4)
    watchers = [_watcher(world, f"requests-{index}", 4 + index, "pickmeup/requests/+") for index in range(2)]
    requests = {person: json.dumps({"from": str(person)}).encode() for person in (zoe, yuri)}
    for person, name in ((zoe, "zoe"), (yuri, "yuri")):
        person.client.publish(f"pickmeup/requests/{name}", [requests[person]], 1, retain=True)
    for watcher in watchers:
        watcher.inbox.wait_for(Message("pickmeup/requests/zoe", requests[zoe], 1), Message("pickmeup/requests/yuri", requests[yuri], 1))

    anna = drivers[0]
    anna.tell(zoe, qos=1, type="accept", driver=str(anna))
    zoe.expect(qos=1, type="accept", driver=str(anna))
    anna.client.publish("pickmeup/requests/zoe", [b""], 1, retain=True)
    for watcher in watchers:
        watcher.inbox.wait_for(Message("pickmeup/requests/zoe", b"", 1))
    late = _watcher(world, "late-driver", 5, "pickmeup/requests/+")
    late.inbox.wait_for(Message("pickmeup/requests/yuri", requests[yuri], 1, True))
    assert late.inbox.messages(lambda message: message.topic.endswith("zoe")) == [], "a request that was cleared is still there"


def approaching(world):
    """The position at QoS 0, the last one retained; chat both ways, in text and in sound."""
    anna, zoe = Person(world, "drivers", "anna", 5), Person(world, "passengers", "zoe", 4)
    seen_by_zoe = _watcher(world, "zoe-watches", 4, f"{anna.topic}/location", f"{zoe.topic}/chat", qos=0)
    seen_by_anna = _watcher(world, "anna-watches", 5, f"{anna.topic}/chat", qos=0)
    positions = [json.dumps({"lat": 48.0 + step / 1_000, "lon": 11.5}).encode() for step in range(60)]
    anna.client.publish(f"{anna.topic}/location", positions, 0, retain=True)
    seen_by_zoe.inbox.wait_for(Message(f"{anna.topic}/location", positions[-1], 0))
    got = [message.payload for message in seen_by_zoe.inbox.messages()]
    assert got == [position for position in positions if position in got], "positions out of order"
    joining = _watcher(world, "joining", 5, f"{anna.topic}/location", qos=0)
    joining.inbox.wait_for(Message(f"{anna.topic}/location", positions[-1], 0, True))

    sound = base64.b64encode(bytes(range(256)) * 200)
    zoe.client.publish(f"{anna.topic}/chat", [b"I wear a red hat", sound], 0)
    anna.client.publish(f"{zoe.topic}/chat", [b"two minutes"], 0)
    seen_by_anna.inbox.expect_exactly([Message(f"{anna.topic}/chat", b"I wear a red hat", 0), Message(f"{anna.topic}/chat", sound, 0)])
    seen_by_zoe.inbox.wait_for(Message(f"{zoe.topic}/chat", b"two minutes", 0))


#: Where a connection breaks in the handshake of QoS 2, seen from the sender of the message: the packet, its direction, whether it is lost.
BREAKS = [("PUBREC", False, True), ("PUBREL", True, True), ("PUBREL", True, False), ("PUBCOMP", False, True)]


def driving(world):
    """tripStart and tripEnd reach the passenger exactly once, whichever side loses its connection in mid-handshake."""
    for index, (packet, forward, lost) in enumerate(BREAKS):
        version = 4 + index % 2
        with closing(Cutter(world.port)) as drivers_wire, closing(Cutter(world.port)) as passengers_wire:
            anna = Person(world, "drivers", f"anna{index}", version, drivers_wire.port)
            zoe = Person(world, "passengers", f"zoe{index}", 9 - version, passengers_wire.port)
            trip = {"type": "tripEnd", "distance": 7.25, "time": 1260, "cost": 18.4}

            zoe.client.may_break()
            passengers_wire.arm(packet, to_broker=not forward, lost=lost)
            anna.tell(zoe, type="tripStart")
            passengers_wire.wait_for_cut()
            zoe.client.resume()

            anna.client.may_break()
            drivers_wire.arm(packet, to_broker=forward, lost=lost)
            unfinished = anna.client.begin_publish(zoe.inbox_topic, json.dumps(trip).encode(), 2)
            drivers_wire.wait_for_cut()
            anna.client.resume()
            anna.client.finish_publish(unfinished)

            anna.tell(zoe, type="goodbye")
            zoe.expect(type="goodbye")
            assert zoe.told() == [{"type": "tripStart"}, trip, {"type": "goodbye"}], f"{packet}: {zoe.told()}"


def payment(world):
    """Rating and payment go to a backend, tripProcessed comes back to both, each exactly once, though every connection breaks once."""
    with closing(Cutter(world.port)) as drivers_wire, closing(Cutter(world.port)) as backends_wire:
        anna = Person(world, "drivers", "anna", 5, drivers_wire.port)
        zoe = Person(world, "passengers", "zoe", 4)
        backend = world.client("paho", 5, backends_wire.port)
        backend.start("backend", ["pickmeup/backend/#"], 2, clean=False, session_expiry=EXPIRY_S)

        # The backend loses its connection while it takes the first payment over.
        backend.may_break()
        backends_wire.arm("PUBREL", to_broker=False, lost=True)
        zoe.client.publish("pickmeup/backend/payments", [b'{"amount": 18.4}'], 2)
        backends_wire.wait_for_cut()
        zoe.client.publish("pickmeup/backend/ratings", [b'{"stars": 5}'], 2)
        backend.resume()
        backend.inbox.expect_exactly(
            [Message("pickmeup/backend/payments", b'{"amount": 18.4}', 2), Message("pickmeup/backend/ratings", b'{"stars": 5}', 2)]
        )

        # The driver loses it while the answer arrives; the backend once more while it sends the other one.
        anna.client.may_break()
        drivers_wire.arm("PUBCOMP", to_broker=True, lost=True)
        processed = json.dumps({"type": "tripProcessed"}).encode()
        backend.publish(anna.inbox_topic, [processed], 2)
        drivers_wire.wait_for_cut()
        anna.client.resume()
        backends_wire.arm("PUBREC", to_broker=False, lost=True)
        unfinished = backend.begin_publish(zoe.inbox_topic, processed, 2)
        backends_wire.wait_for_cut()
        backend.resume()
        backend.finish_publish(unfinished)

        for person in (anna, zoe):
            backend.publish(person.inbox_topic, [b'{"type": "end"}'], 2)
            person.client.inbox.wait_for(Message(person.inbox_topic, b'{"type": "end"}', 2))
            assert person.told() == [{"type": "tripProcessed"}, {"type": "end"}], f"{person}: {person.told()}"


def payment_over_a_restart(world):
    """The same while the broker dies in the middle of it, twice: what was under way to it, and from it, is processed exactly once."""
    anna = Person(world, "drivers", "anna", 5)
    zoe = Person(world, "passengers", "zoe", 4)
    backend = world.client("paho", 5)
    backend.start("backend", ["pickmeup/backend/#"], 2, clean=False, session_expiry=EXPIRY_S)
    everybody = (anna.client, zoe.client, backend)
    payment, rating = Message("pickmeup/backend/payments", b'{"amount": 18.4}', 2), Message("pickmeup/backend/ratings", b'{"stars": 5}', 2)
    processed = json.dumps({"type": "tripProcessed"}).encode()

    def over_a_restart(*publishes):
        for client in everybody:
            client.may_break()
        begun = [(client, client.begin_publish(topic, payload, 2)) for client, topic, payload in publishes]
        world.broker.restart()
        for client in everybody:
            client.resume()
        for client, unfinished in begun:
            client.finish_publish(unfinished)

    over_a_restart((zoe.client, payment.topic, payment.payload), (anna.client, rating.topic, rating.payload))
    backend.inbox.expect_exactly([payment, rating])
    over_a_restart((backend, anna.inbox_topic, processed), (backend, zoe.inbox_topic, processed))
    for person in (anna, zoe):
        backend.publish(person.inbox_topic, [b'{"type": "end"}'], 2)
        person.client.inbox.wait_for(Message(person.inbox_topic, b'{"type": "end"}', 2))
        assert person.told() == [{"type": "tripProcessed"}, {"type": "end"}], f"{person}: {person.told()}"
    late = _watcher(world, "late", 5, "pickmeup/+/+")
    late.inbox.wait_for(*(Message(person.topic, person.presence, 1, True) for person in (anna, zoe)))


payment_over_a_restart.durable = True
