"""QoS 1 and 2 when the connection breaks between any two packets of the handshake. paho keeps its side of the session in memory."""

from contextlib import closing

from harness.client import Message
from harness.cutter import Cutter

EXPIRY_S = 600

#: The packets of a handshake, from the side that publishes: name, and whether it travels towards the receiver of the message.
QOS_1 = [("PUBLISH", True), ("PUBACK", False)]
QOS_2 = [("PUBLISH", True), ("PUBREC", False), ("PUBREL", True), ("PUBCOMP", False)]


def _broken_everywhere(world, qos, packets, check):
    """Breaks the connection of a publisher, then of a subscriber, at every packet, which is lost or not; `check` sees each outcome."""
    for version in (4, 5):
        for packet, forward in packets:
            for lost in (True, False):
                name = f"{version}-{packet}-{'lost' if lost else 'last'}"
                with closing(Cutter(world.port)) as wire:
                    wire.arm(packet, to_broker=forward, lost=lost)
                    _publisher_breaks(world, wire, version, f"p/{name}", qos, check)
                with closing(Cutter(world.port)) as wire:
                    wire.arm(packet, to_broker=not forward, lost=lost)
                    _subscriber_breaks(world, wire, version, f"s/{name}", qos, check)


def _publisher_breaks(world, wire, version, topic, qos, check):
    subscriber = world.client("paho", 5)
    subscriber.start(f"sub-{topic}", [topic], qos)
    publisher = world.client("paho", version, wire.port)
    publisher.start(f"pub-{topic}", clean=False, session_expiry=EXPIRY_S)
    publisher.may_break()
    unfinished = publisher.begin_publish(topic, b"payment", qos)
    wire.wait_for_cut()
    publisher.resume()
    publisher.finish_publish(unfinished)
    publisher.publish(topic, [b"end"], qos)
    check(subscriber, topic, qos)
    publisher.disconnect()
    subscriber.disconnect()


def _subscriber_breaks(world, wire, version, topic, qos, check):
    subscriber = world.client("paho", version, wire.port)
    subscriber.start(f"sub-{topic}", [topic], qos, clean=False, session_expiry=EXPIRY_S)
    subscriber.may_break()
    publisher = world.client("paho", 5)
    publisher.start(f"pub-{topic}")
    publisher.publish(topic, [b"payment"], qos)
    wire.wait_for_cut()
    subscriber.resume()
    publisher.publish(topic, [b"end"], qos)
    check(subscriber, topic, qos)
    publisher.disconnect()
    subscriber.disconnect()


def qos_1_arrives_at_least_once_wherever_the_connection_breaks(world):
    def check(subscriber, topic, qos):
        subscriber.inbox.wait_for(Message(topic, b"payment", qos), Message(topic, b"end", qos))
        payments = subscriber.inbox.messages(lambda message: message.payload == b"payment")
        assert 1 <= len(payments) <= 2, f"{subscriber}: {topic}: {len(payments)} times"

    _broken_everywhere(world, 1, QOS_1, check)


def qos_2_arrives_exactly_once_wherever_the_connection_breaks(world):
    def check(subscriber, topic, qos):
        subscriber.inbox.expect_exactly([Message(topic, b"payment", qos), Message(topic, b"end", qos)])

    _broken_everywhere(world, 2, QOS_2, check)
