"""Retained messages."""

from harness.client import Message

from .messages import label

#: Topics that sort behind all others and, being several, live on all shards: when they have arrived, what stands before them has too.
FENCE = [f"retained/~{number}" for number in range(8)]


def a_retained_message_greets_late_subscribers_until_it_is_cleared(world):
    """Each kind sets one, replaces it, and each kind gets just the last one, with RETAIN; then each kind clears the one of its neighbour."""
    everyone = world.every()
    fencer = world.client("paho", 5)
    fencer.start("fencer")
    for topic in FENCE:
        fencer.publish(topic, [b"fence"], 1, retain=True)
    fence = [Message(topic, b"fence", 1, True) for topic in FENCE]

    live = world.client("paho", 4)
    live.start("live", ["retained/+"], 2)
    for index, (kind, version) in enumerate(everyone):
        publisher = world.client(kind, version)
        publisher.start(f"p-{label(kind, version)}")
        for payload in (b"old", f"by {publisher}".encode()):
            publisher.publish(f"retained/{label(kind, version)}", [payload], index % 3, retain=True)
    # The RETAIN flag is for late subscribers; who was there already gets the messages as live ones.
    topics = {f"retained/{label(*other)}" for other in everyone}
    live.inbox.wait(lambda messages: sum(message.topic in topics for message in messages) == 2 * len(everyone), "all live messages")
    assert not live.inbox.messages(lambda message: message.topic in topics and message.retain), "a live message came with RETAIN"

    kept = [
        Message(f"retained/{label(kind, version)}", f"by {world.client(kind, version)}".encode(), index % 3, True)
        for index, (kind, version) in enumerate(everyone)
    ]
    for kind, version in everyone:
        late = world.client(kind, version)
        late.start(f"late-{label(kind, version)}", ["retained/#"], 2)
        late.inbox.expect_exactly([*kept, *fence])
        late.disconnect()

    for index, (kind, version) in enumerate(everyone):
        clearer = world.client(kind, version)
        clearer.start(f"c-{label(kind, version)}")
        clearer.publish(f"retained/{label(*everyone[index - 1])}", [b""], index % 3, retain=True)
    live.inbox.wait(lambda messages: sum(not message.payload for message in messages) == len(everyone), "an empty message for each")
    for kind, version in world.each_kind():
        late = world.client(kind, version)
        late.start(f"later-{kind}", ["retained/#"], 2)
        late.inbox.expect_exactly(fence)
