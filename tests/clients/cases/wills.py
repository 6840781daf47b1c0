"""Last wills."""

from harness.client import Message, Will

from .messages import label


def a_will_is_published_for_a_client_that_vanishes_and_not_for_one_that_leaves(world):
    """Every kind and version leaves its will to every kind of watcher; a retained one also to a watcher who comes later."""
    watchers = []
    for kind, version in world.each_kind():
        watcher = world.client(kind, version)
        watcher.start(f"w-{kind}", ["will/#"], 2)
        watchers.append(watcher)
    for index, (kind, version) in enumerate(world.every()):
        qos, retain = index % 3, index % 2 == 0
        topic = f"will/{label(kind, version)}"
        will = Will(topic, b"gone", qos, retain)

        leaving = world.client(kind, version)
        if not leaving.is_tool:
            # The tools leave with "disconnect with will message" in 5.0.
            leaving.start(label(kind, version), will=will)
            leaving.disconnect()
        # The same client identifier again: the broker has dealt with the DISCONNECT before it.
        vanishing = world.client(kind, version)
        vanishing.start(label(kind, version), ["elsewhere"], will=will)
        vanishing.abandon()
        for watcher in watchers:
            watcher.inbox.expect_exactly([Message(topic, b"gone", qos)])
            watcher.inbox.clear()
        if retain:
            late = world.client(kind, version)
            late.start(f"late-{label(kind, version)}", [topic], 2)
            late.inbox.wait_for(Message(topic, b"gone", qos, True))
            late.disconnect()
