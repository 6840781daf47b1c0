#!/usr/bin/env python3
"""Kills the broker with SIGKILL again and again while foreign clients (paho-mqtt) load it, and checks from outside what it had acknowledged.

    tests/clients/crash.py --ringmq target/debug/ringmq [--base target/clients] [--rounds 20] [--shards 2] [--io uring] [--seed N]

Publishers and subscribers have lasting sessions and reconnect by themselves, as an application would. In every round the broker runs for a moment under
load, dies at a random one, and is started again from its data directory. In the end everything that a publisher was told to be published must have
reached every subscriber: at QoS 1 at least once, at QoS 2 exactly once; a session must be there with its subscriptions whenever its client comes back;
and a retained message must be the last one that was acknowledged, or a later one. Exit code 0 only if so.
"""

import argparse
import collections
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

#: Messages that a publisher has under way at most.
WINDOW = 20
TIMEOUT_S = 30
#: Never set: between two looks at a condition.
PAUSE = threading.Event()
#: What PUBCOMP says when an exchange had been over, and only the broker's answer was lost.
NOT_FOUND = 0x92


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ringmq", required=True, type=Path, help="the broker's binary")
    parser.add_argument("--base", type=Path, default=HERE.parent.parent / "target" / "clients", help="where to install the clients")
    parser.add_argument("--rounds", type=int, default=20, help="how often the broker is killed")
    parser.add_argument("--shards", default="2", help="numbers of shards, taken in turn: 2 or 2,1,3")
    parser.add_argument("--io", default="auto", help="backend")
    parser.add_argument("--seed", type=int, default=None, help="of the moments and the choices")
    return parser.parse_args()


def wait_until(what, condition):
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {TIMEOUT_S} s: {what}")
        PAUSE.wait(0.005)


class Broker:
    """The broker with a data directory; one process after the other."""

    def __init__(self, binary, io):
        self.directory = Path(tempfile.mkdtemp(prefix="ringmq-crash-"))
        self.binary, self.io, self.process = binary, io, None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def start(self, shards):
        command = [self.binary, "--listen", f"127.0.0.1:{self.port}", "--shards", str(shards), "--io", self.io]
        # Python takes messages far more slowly than the broker gets them: their queues must have room, or publishes are refused.
        command += ["--log", "warn", "--data-dir", str(self.directory), "--set", "limits.max_queued_messages=10000000"]
        self.process = subprocess.Popen(command)

    def kill(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the broker ended by itself with {self.process.returncode}")
        self.process.kill()
        self.process.wait()

    def remove(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


class Client:
    """A paho client with a lasting session that comes back whenever it can."""

    def __init__(self, name, version, port):
        import paho.mqtt.client as mqtt
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        self.name, self.faults = name, []
        protocol = {4: mqtt.MQTTv311, 5: mqtt.MQTTv5}[version]
        lasting = {} if version == 5 else {"clean_session": False}
        self.paho = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=protocol, **lasting)
        self.paho.reconnect_delay_set(0.05, 0.2)
        self.paho.on_connect = self._connected
        self.paho.max_inflight_messages_set(WINDOW)
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

    def stop(self):
        self.paho.disconnect()
        self.paho.loop_stop()


class Publisher(Client):
    """Publishes numbers, as fast as its window allows, at one QoS; remembers which were acknowledged."""

    def __init__(self, name, version, port, qos):
        super().__init__(name, version, port)
        self.qos, self.sent, self.acknowledged = qos, 0, set()
        #: Packet identifier: number; and what was acknowledged, looked at by the publishing thread alone.
        self._numbers, self._answers, self._ending = {}, collections.deque(), threading.Event()
        self.paho.on_publish = lambda _client, _userdata, mid, reason, _properties: self._answers.append((mid, reason))
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        super().start()
        self._thread.start()

    def _run(self):
        while not self._ending.is_set() or self._numbers:
            self._take_answers()
            if self._ending.is_set() or not self.online.is_set() or len(self._numbers) >= WINDOW:
                PAUSE.wait(0.001)
                continue
            retain = self.sent % 5 == 0
            topic = f"crash/{'kept' if retain else 'live'}/{self.name}"
            info = self.paho.publish(topic, f"{self.name}:{self.sent}".encode(), self.qos, retain)
            self._numbers[info.mid] = self.sent
            self.sent += 1

    def _take_answers(self):
        while self._answers:
            mid, reason = self._answers.popleft()
            number = self._numbers.pop(mid, None)
            if number is None:
                self.faults.append(f"{self.name}: an acknowledgement of nothing: {mid}")
            elif getattr(reason, "is_failure", False) and reason.value != NOT_FOUND:
                self.faults.append(f"{self.name}: {number} was refused: {reason}")
            else:
                self.acknowledged.add(number)

    def finish(self):
        """Publishes nothing more, and waits until everything is acknowledged."""
        self._ending.set()
        wait_until(f"all that {self.name} published is acknowledged", lambda: not self._thread.is_alive())
        self.stop()


class Subscriber(Client):
    """Counts what it gets."""

    def __init__(self, name, version, port, qos):
        super().__init__(name, version, port)
        self.qos, self.received = qos, collections.Counter()
        self._subscribed = threading.Event()
        self.paho.on_subscribe = lambda *_: self._subscribed.set()
        self.paho.on_message = self._message

    def subscribe(self):
        self.start()
        wait_until(f"{self.name} is let in", self.online.is_set)
        self.paho.subscribe("crash/#", self.qos)
        wait_until(f"{self.name} is subscribed", self._subscribed.is_set)

    def _message(self, _client, _userdata, message):
        publisher, number = message.payload.decode().split(":")
        self.received[publisher, int(number), message.qos] += 1

    def leave(self):
        self.stop()
        self.online.clear()

    def come_back(self):
        self.start()


def check(publishers, subscribers):
    """What is wrong, in words."""
    faults = [fault for client in [*publishers, *subscribers] for fault in client.faults]
    for subscriber in subscribers:
        for publisher in publishers:
            qos = min(publisher.qos, subscriber.qos)
            counts = [subscriber.received[publisher.name, number, qos] for number in range(publisher.sent)]
            lost = [number for number in publisher.acknowledged if counts[number] == 0]
            twice = [number for number, count in enumerate(counts) if qos == 2 and count > 1]
            way = f"from {publisher.name} (QoS {publisher.qos}) to {subscriber.name} (QoS {subscriber.qos})"
            if lost:
                faults.append(f"lost {way}: {len(lost)} of {len(publisher.acknowledged)}, the first {sorted(lost)[:5]}")
            if twice:
                faults.append(f"delivered twice {way}: {len(twice)} of {publisher.sent}, the first {twice[:5]}")
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
    """The retained message of each publisher is the last one that was acknowledged: all were."""
    reader = Subscriber("reader", 4, port, 1)
    reader.subscribe()
    expected = {(publisher.name, (publisher.sent - 1) // 5 * 5) for publisher in publishers if publisher.sent}

    def found():
        return {(publisher, number) for publisher, number, _ in reader.received}

    try:
        wait_until("the retained messages are there", lambda: len(found()) >= len(expected))
    except AssertionError as fault:
        return [str(fault)]
    finally:
        reader.stop()
    return [] if found() == expected else [f"retained: {sorted(found() ^ expected)} differ"]


def run(options, broker, chance):
    shards = [int(number) for number in options.shards.split(",")]
    broker.start(shards[0])
    subscribers = [Subscriber(f"subscriber-{version}-{qos}", version, broker.port, qos) for version in (4, 5) for qos in (1, 2)]
    publishers = [Publisher(f"publisher-{version}-{qos}", version, broker.port, qos) for version in (4, 5) for qos in (1, 2)]
    for subscriber in subscribers:
        subscriber.subscribe()
    for publisher in publishers:
        publisher.start()
    away = None
    for number in range(1, options.rounds + 1):
        acknowledged = sum(len(publisher.acknowledged) for publisher in publishers)
        if chance.random() < 0.5:
            if away is None:
                away = chance.choice(subscribers)
                away.leave()
            else:
                away.come_back()
                away = None
        try:
            wait_until("messages flow", lambda: sum(len(publisher.acknowledged) for publisher in publishers) > acknowledged + 50)
        except AssertionError as fault:
            states = [f"{client.name}: connects {client.connects}, online {client.online.is_set()}" for client in [*publishers, *subscribers]]
            raise AssertionError("\n".join([str(fault), *states, *check(publishers, subscribers)])) from fault
        # The moment of death is the one thing that nothing is waited for.
        PAUSE.wait(chance.random() * 0.3)
        broker.kill()
        broker.start(shards[number % len(shards)])
        total = sum(len(publisher.acknowledged) for publisher in publishers)
        print(f"\rround {number} of {options.rounds}: {total} acknowledged", end="", flush=True)
    print()
    if away is not None:
        away.come_back()
    for publisher in publishers:
        publisher.finish()
    wait_for_rest(publishers, subscribers)
    # What comes twice may come late.
    broker.kill()
    broker.start(shards[0])
    for subscriber in subscribers:
        wait_until(f"{subscriber.name} is back", subscriber.online.is_set)
    faults = check_retained(broker.port, publishers) + check(publishers, subscribers)
    for subscriber in subscribers:
        subscriber.stop()
    return faults


def main():
    options = arguments()
    from run import with_paho

    with_paho(options.base)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}, {options.rounds} rounds, shards {options.shards}, {options.io}")
    broker = Broker(options.ringmq, options.io)
    try:
        faults = run(options, broker, random.Random(seed))
    finally:
        broker.remove()
    for fault in faults:
        print(f"FAULT {fault}")
    if not faults:
        print("nothing acknowledged was lost, nothing at QoS 2 came twice")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
