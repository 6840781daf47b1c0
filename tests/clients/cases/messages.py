"""Publishing and subscribing: every kind of client in every version with every other."""

import hashlib

from harness.client import VERSIONS, Message


def label(kind, version):
    """A client as part of a topic or client identifier."""
    return f"{kind}-{VERSIONS[version].replace('.', '')}"


def everyone_reaches_everyone_at_every_qos(world):
    """Each message arrives exactly once at each subscriber, at the lower of published and granted QoS."""
    subscribers = []
    for kind, version in world.every():
        for granted in (0, 1, 2):
            subscriber = world.client(kind, version)
            subscriber.start(f"s-{label(kind, version)}-{granted}", ["exchange/+/+"], granted)
            subscribers.append((subscriber, granted))
    published = []
    for kind, version in world.every():
        publisher = world.client(kind, version)
        publisher.start(f"p-{label(kind, version)}")
        for qos in (0, 1, 2):
            topic, payload = f"exchange/{label(kind, version)}/{qos}", f"from {publisher}".encode()
            publisher.publish(topic, [payload], qos)
            published.append((topic, payload, qos))
    for subscriber, granted in subscribers:
        subscriber.inbox.expect_exactly([Message(topic, payload, min(qos, granted)) for topic, payload, qos in published])


def a_thousand_messages_arrive_in_order(world):
    """From each kind of publisher to each kind of subscriber, at each QoS."""
    count = 1_000
    payloads = [str(number).encode() for number in range(count)]
    subscribers = []
    for kind, version in world.each_kind():
        subscriber = world.client(kind, version)
        subscriber.start(f"s-{kind}", ["order/#"], 2)
        subscribers.append(subscriber)
    for kind, version in world.each_kind(oldest=True):
        publisher = world.client(kind, version)
        publisher.start(f"p-{kind}")
        for qos in (0, 1, 2):
            topic = f"order/{kind}/{qos}"
            publisher.publish(topic, payloads, qos)
            for subscriber in subscribers:
                subscriber.inbox.wait(lambda messages: len(messages) >= count, f"{count} messages on {topic}")
                got = subscriber.inbox.messages()
                assert got == [Message(topic, payload, qos) for payload in payloads], f"{subscriber}: {topic}: out of order, lost or doubled"
                subscriber.inbox.clear()


def five_megabytes_arrive_whole(world):
    """A large payload, which no receive buffer holds at once, from each kind to each kind."""
    block = hashlib.sha256(b"ringmq").digest()
    payload = block * (5_000_000 // len(block))
    subscribers = []
    for kind, version in world.each_kind():
        subscriber = world.client(kind, version)
        subscriber.start(f"s-{kind}", ["large/+"], 1)
        subscribers.append(subscriber)
    for number, (kind, version) in enumerate(world.each_kind()):
        publisher = world.client(kind, version)
        publisher.start(f"p-{kind}")
        qos = number % 3
        publisher.publish(f"large/{kind}", [payload], qos)
        for subscriber in subscribers:
            subscriber.inbox.expect_exactly([Message(f"large/{kind}", payload, min(qos, 1))])
            subscriber.inbox.clear()


def sys_topics_are_there(world):
    """Under Mosquitto's names, retained, for whoever asks; and for nobody who asks for `#`."""
    for kind, version in world.each_kind():
        asking = world.client(kind, version)
        asking.start(f"sys-{kind}", ["$SYS/broker/version", "$SYS/broker/clients/connected"])
        names = {"$SYS/broker/version", "$SYS/broker/clients/connected"}
        asking.inbox.wait(lambda messages, names=names: {message.topic for message in messages} >= names, "the version and the clients")
        everything = world.client(kind, version)
        everything.start(f"all-{kind}", ["#"])
        teller = world.client("paho", 4)
        teller.start("teller")
        teller.publish("the/end", [b"."])
        everything.inbox.wait_for(Message("the/end", b".", 0))
        assert not everything.inbox.messages(lambda message: message.topic.startswith("$")), f"{everything}: `#` matched a $ topic"
        everything.disconnect()
        teller.disconnect()
