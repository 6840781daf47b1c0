"""Sessions that outlive their connections."""

from harness.client import Failed, Message

from .messages import label

EXPIRY_S = 600


def _missed(world, topic, count=20):
    """Publishes at every QoS while a session has no connection; gives what the session must keep."""
    publisher = world.client("paho", 5)
    publisher.start("publisher")
    publisher.publish(topic, [b"never stored"], 0)
    kept = []
    for qos in (1, 2):
        payloads = [f"{qos}-{number}".encode() for number in range(count)]
        publisher.publish(topic, payloads, qos)
        kept += [Message(topic, payload, qos) for payload in payloads]
    publisher.disconnect()
    return kept


def _check(client, present, kept):
    if present not in (True, None):
        raise Failed(f"{client}: session present was {present}")
    client.inbox.expect_exactly(kept)
    for qos in (1, 2):
        got = [message for message in client.inbox.messages() if message.qos == qos]
        assert got == [message for message in kept if message.qos == qos], f"{client}: QoS {qos} out of order"


def a_session_keeps_what_its_client_missed(world):
    """Subscriptions and QoS 1 and 2 messages wait for the client, in order, once; QoS 0 does not; a clean start ends it all."""
    for kind, version in world.every():
        name, topic = f"session-{label(kind, version)}", f"session/{label(kind, version)}"
        first = world.client(kind, version)
        present = first.start(name, [topic], 2, clean=False, session_expiry=EXPIRY_S)
        assert present in (False, None), f"{first}: there was a session before the first one"
        first.disconnect()
        kept = _missed(world, topic)
        again = world.client(kind, version)
        # The tools have to name a filter to run at all; the others prove that the broker has kept the subscription.
        present = again.start(name, [topic] if again.is_tool else [], 2, clean=False, session_expiry=EXPIRY_S)
        _check(again, present, kept)
        again.disconnect()
        fresh = world.client(kind, version)
        present = fresh.start(name, [f"{topic}/other"], 2, clean=True)
        assert present in (False, None), f"{fresh}: a clean start found a session"
        fresh.disconnect()


def a_session_is_resumed_by_another_kind_of_client(world):
    """What one kind in one version began, the next kind in another version goes on with."""
    everyone = world.every()
    for index, (kind, version) in enumerate(everyone):
        name, topic = f"relay-{index}", f"relay/{index}"
        first = world.client(kind, version)
        first.start(name, [topic], 2, clean=False, session_expiry=EXPIRY_S)
        # A crash, where the other case has a DISCONNECT.
        first.abandon()
        kept = _missed(world, topic, count=5)
        next_kind, next_version = everyone[(index + 4) % len(everyone)]
        second = world.client(next_kind, next_version)
        filters = [topic] if second.is_tool else []
        present = second.start(name, filters, 2, clean=False, session_expiry=EXPIRY_S)
        _check(second, present, kept)
        second.disconnect()


def a_newer_connection_takes_the_session_over(world):
    """The old connection is closed, whoever holds it, and messages go to the new one."""
    for kind, version in world.every():
        name, topic = f"taken-{label(kind, version)}", f"taken/{label(kind, version)}"
        old = world.client(kind, version)
        if old.is_tool:
            # It would take the session back at once.
            continue
        old.start(name, [topic], 1, clean=False, session_expiry=EXPIRY_S)
        new = world.client("paho", 5)
        assert new.start(name, clean=False, session_expiry=EXPIRY_S) is True, f"{new}: the session of {old} is gone"
        publisher = world.client("paho", 4)
        publisher.start("publisher")
        publisher.publish(topic, [b"for the new one"], 1)
        new.inbox.wait_for(Message(topic, b"for the new one", 1))
        try:
            old.inbox.wait(lambda messages: False, "the end of the old connection")
        except Failed as ended:
            assert "not within" not in str(ended), f"{old}: still connected after its session was taken over"
        assert not old.inbox.messages(), f"{old}: got a message although its session was taken over"
        publisher.disconnect()
        new.disconnect()
