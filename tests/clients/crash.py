#!/usr/bin/env python3
"""Kills the broker with SIGKILL again and again while foreign clients (paho-mqtt) load it, and checks from outside what it had acknowledged.

    tests/clients/crash.py --ringmq target/debug/ringmq [--base target/clients] [--rounds 20] [--shards 2] [--io uring] [--seed N]
    tests/clients/crash.py --ringmq target/debug/ringmq --slow 5         with subscribers that cannot keep up: queues fill, publishes are refused
    tests/clients/crash.py --ringmq target/debug/ringmq --power-loss     and with it what was not synced is lost
    tests/clients/crash.py --ringmq target/debug/ringmq --failing-disk   whose writes and syncs fail for a while in every round

Publishers and subscribers have lasting sessions and reconnect by themselves, as an application would. In every round the broker runs for a moment under
load, dies at a random one, and is started again from its data directory. In the end everything that a publisher was told to be published - PUBACK or
PUBREC with success - must have reached every subscriber: at QoS 1 at least once, at QoS 2 exactly once; a session must be there with its subscriptions
whenever its client comes back; and a retained message must be the last one that was acknowledged, or a later one. Exit code 0 only if so.

With `--power-loss` and `--failing-disk` a layer of C stands between the broker and its files (`harness/disk.py`); it needs gcc, and the broker takes
`--io epoll`, over which it uses the calls of the C library. With `--lying-disk` syncs are worth nothing, and it is an
error if that is not noticed.

What was refused, because a queue or the disk was full, is counted, and may reach some or nobody; but at QoS 2 never anybody twice.
"""

import argparse
import collections
import errno
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from harness.disk import Disk, Missing  # noqa: E402
from harness.lasting import PAUSE, TIMEOUT_S, Publisher, Subscriber, wait_until  # noqa: E402

#: A 3.x publisher that finds a queue full waits until there is room.
FINISH_S = 300


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ringmq", required=True, type=Path, help="the broker's binary")
    parser.add_argument("--base", type=Path, default=HERE.parent.parent / "target" / "clients", help="where to install the clients")
    parser.add_argument("--rounds", type=int, default=20, help="how often the broker is killed")
    parser.add_argument("--shards", default="2", help="numbers of shards, taken in turn: 2 or 2,1,3")
    parser.add_argument("--io", default="auto", help="backend")
    parser.add_argument("--seed", type=int, default=None, help="of the moments and the choices")
    parser.add_argument("--window", type=int, default=20, help="messages that a publisher has under way at most")
    parser.add_argument("--payload", type=int, default=0, help="bytes that each message is longer")
    parser.add_argument("--slow", type=float, default=0, help="milliseconds that a subscriber takes for each message")
    parser.add_argument("--power-loss", action="store_true", help="what was not synced is lost, in most rounds")
    parser.add_argument("--failing-disk", action="store_true", help="writes and syncs fail for a while in every round")
    parser.add_argument("--lying-disk", action="store_true", help="syncs are worth nothing: to see that the test can fail")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the broker")
    options = parser.parse_args()
    if options.power_loss or options.failing_disk:
        options.io = "epoll"
    return options


def free_port(chance):
    """One that the system gives to no outgoing connection while the broker is down: a client could connect to itself there."""
    while True:
        port = chance.randint(10_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Broker:
    """The broker with a data directory; one process after the other."""

    def __init__(self, options, chance):
        self.directory = Path(tempfile.mkdtemp(prefix="ringmq-crash-"))
        self.options, self.chance, self.process = options, chance, None
        self.port = free_port(chance)
        self.disk = Disk(self.directory, options.base) if options.io == "epoll" and (options.power_loss or options.failing_disk) else None
        if self.disk:
            self.disk.plan(lies=int(options.lying_disk))

    def start(self, shards):
        if self.disk:
            self.disk.plan(sync_us=self.chance.choice([0, 0, 1_000, 10_000]))
        command = [self.options.ringmq, "--listen", f"127.0.0.1:{self.port}", "--shards", str(shards), "--io", self.options.io]
        command += ["--log", "warn", "--data-dir", self.directory / "data"]
        for setting in self.options.set:
            command += ["--set", setting]
        with (self.directory / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=self.disk.environment() if self.disk else None, stdout=log, stderr=log)

    def kill(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the broker ended by itself with {self.process.returncode}")
        self.process.kill()
        self.process.wait()
        if self.options.power_loss and self.chance.random() < 0.8:
            self.disk.lose_power(self.chance)

    def fail_for_a_while(self):
        """The disk does not take what it is given: until it is well again, or until the broker dies."""
        plans = [
            {"sync_error": errno.EIO, "sync_errors": 1, "drops": 1},
            {"sync_error": errno.EIO, "sync_errors": self.chance.randint(1, 3), "drops": 1},
            {"sync_error": errno.EIO, "sync_errors": -1},
            {"write_error": errno.ENOSPC},
            {"write_error": errno.EIO},
            {"short_writes": 1, "sync_error": errno.ENOSPC, "sync_errors": -1},
        ]
        before = self.disk.failures()
        self.disk.plan(**self.chance.choice(plans))
        wait_until("the disk fails", lambda: self.disk.failures() > before)
        PAUSE.wait(self.chance.random() * 0.5)
        if self.chance.random() < 0.6:
            self.disk.plan(short_writes=self.chance.randint(0, 1))

    def log(self):
        return (self.directory / "broker.log").read_text(errors="replace")

    def remove(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.disk:
            self.disk.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def check(publishers, subscribers):
    """What is wrong, in words."""
    faults = [fault for client in [*publishers, *subscribers] for fault in client.faults]
    for subscriber in subscribers:
        for publisher in publishers:
            qos = min(publisher.qos, subscriber.qos)
            counts = [subscriber.received[publisher.name, number, qos] for number in range(publisher.sent)]
            lost = [number for number in publisher.acknowledged.copy() if counts[number] == 0]
            twice = [number for number, count in enumerate(counts) if qos == 2 and count > 1]
            way = f"from {publisher.name} (QoS {publisher.qos}) to {subscriber.name} (QoS {subscriber.qos})"
            if lost:
                faults.append(f"lost {way}: {len(lost)} of {len(publisher.acknowledged)}, the first {sorted(lost)[:5]}")
            if twice:
                refused = sum(number in publisher.refused for number in twice)
                faults.append(f"delivered twice {way}: {len(twice)} of {publisher.sent}, the first {twice[:5]}; {refused} of them refused")
    return faults


def wait_for_rest(publishers, subscribers):
    """Waits until everything has arrived, or nothing more arrives."""
    received, since = -1, time.monotonic()
    while time.monotonic() < since + TIMEOUT_S:
        total = sum(sum(subscriber.received.values()) for subscriber in subscribers)
        if total != received:
            received, since = total, time.monotonic()
        elif not any("lost" in fault for fault in check(publishers, subscribers)):
            return
        PAUSE.wait(0.2)


def check_retained(port, publishers):
    """The retained message of each publisher is the last one that was acknowledged, or one that was sent after it."""
    reader = Subscriber("reader", 4, port, 1)
    reader.subscribe()
    last = {publisher: max((number for number in publisher.acknowledged if number % 5 == 0), default=-1) for publisher in publishers}

    def found():
        return {publisher: [number for name, number, _ in list(reader.received) if name == publisher.name] for publisher in publishers}

    def all_there():
        return all(numbers or last[publisher] < 0 for publisher, numbers in found().items())

    try:
        wait_until("the retained messages are there", all_there)
    except AssertionError as fault:
        return [str(fault)]
    finally:
        reader.stop()
    return [
        f"retained of {publisher.name}: {numbers}, and {last[publisher]} was acknowledged"
        for publisher, numbers in found().items()
        if numbers and not (len(numbers) == 1 and last[publisher] <= numbers[0] < publisher.sent)
    ]


def let_messages_flow(publishers, subscribers):
    """Waits until some more were answered."""

    def answered():
        return sum(len(publisher.acknowledged) + len(publisher.refused) for publisher in publishers)

    before = answered()
    try:
        wait_until("messages flow", lambda: answered() > before + 50)
    except AssertionError as fault:
        states = [f"{client.name}: connects {client.connects}, online {client.online.is_set()}" for client in [*publishers, *subscribers]]
        raise AssertionError("\n".join([str(fault), *states, *check(publishers, subscribers)])) from fault
    broken = [fault for client in [*publishers, *subscribers] for fault in client.faults]
    if broken:
        raise AssertionError("\n".join(broken))


def live(options, broker, chance, publishers, subscribers):
    """The rounds."""
    shards = [int(number) for number in options.shards.split(",")]
    away = None
    for number in range(1, options.rounds + 1):
        if chance.random() < 0.5:
            if away is None:
                away = chance.choice(subscribers)
                away.leave()
            else:
                away.come_back()
                away = None
        let_messages_flow(publishers, subscribers)
        if options.failing_disk:
            broker.fail_for_a_while()
        # The moment of death is the one thing that nothing is waited for.
        PAUSE.wait(chance.random() * 0.3)
        broker.kill()
        broker.start(shards[number % len(shards)])
        total = sum(len(publisher.acknowledged) for publisher in publishers)
        refused = sum(len(publisher.refused) for publisher in publishers)
        print(f"\rround {number} of {options.rounds}: {total} acknowledged, {refused} refused", end="", flush=True)
    print()
    if away is not None:
        away.come_back()


def run(options, broker, chance):
    shards = int(options.shards.split(",")[0])
    broker.start(shards)
    kinds = [(version, qos) for version in (4, 5) for qos in (1, 2)]
    subscribers = [Subscriber(f"subscriber-{v}-{qos}", v, broker.port, qos, slow_s=options.slow / 1_000) for v, qos in kinds]
    publishers = [Publisher(f"publisher-{v}-{qos}", v, broker.port, qos, options.window, options.payload) for v, qos in kinds]
    for subscriber in subscribers:
        subscriber.subscribe()
    for publisher in publishers:
        publisher.start()
    live(options, broker, chance, publishers, subscribers)
    for publisher in publishers:
        publisher.finish(FINISH_S)
    wait_for_rest(publishers, subscribers)
    # What comes twice may come late.
    broker.kill()
    broker.start(shards)
    for subscriber in subscribers:
        wait_until(f"{subscriber.name} is back", subscriber.online.is_set)
    faults = check_retained(broker.port, publishers) + check(publishers, subscribers)
    for subscriber in subscribers:
        subscriber.stop()
    for publisher in publishers:
        print(publisher.answers())
    warnings = collections.Counter(line.split("storage: ")[-1].split(": ")[-1][:60] for line in broker.log().splitlines() if "ERROR" in line)
    if broker.disk:
        print(f"the disk failed {broker.disk.failures()} times; the broker said: {dict(warnings)}")
    return faults


def main():
    options = arguments()
    from run import with_paho

    with_paho(options.base)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}, {options.rounds} rounds, shards {options.shards}, {options.io}")
    chance = random.Random(seed)
    try:
        broker = Broker(options, chance)
    except Missing as what:
        sys.exit(f"needs {what}")
    try:
        faults = run(options, broker, chance)
    except AssertionError as fault:
        faults = [str(fault)]
    log = broker.log()
    broker.remove()
    if faults and not options.lying_disk:
        print(log[-5_000:])
    for fault in faults:
        print(f"FAULT {fault}")
    if not faults:
        print("nothing acknowledged was lost, nothing at QoS 2 came twice")
    elif options.lying_disk:
        print("as it should be: on this disk nothing can be kept")
    # Threads of clients that never came to an end are left alone.
    sys.stdout.flush()
    os._exit(int(bool(faults) != options.lying_disk))


if __name__ == "__main__":
    main()
