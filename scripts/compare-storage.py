#!/usr/bin/env python3
"""Compares what can stand behind storage.engine, and says what durable messages cost and how long a start takes.

    scripts/compare-storage.py [--engines log,fjall] [--rounds 3] [--parts load,latency,queue,state] [--dir DIR] [--out FILE]

Builds ringmq with every engine. Each round runs every part with every engine, in an order that rotates, on a new data directory below DIR, which must be on
the disk that is meant: one shard on one CPU, the generator on the others, the writer wherever it finds room. CPU time is that of the whole process, from before
the load until what the engine does behind it has come to rest.

    load     1,000 publishers at QoS 1, 64 bytes, 32 in flight each; a lasting session that is offline gets every message
    latency  the same at a fixed rate, with a lasting session for each publisher: how long PUBACK takes, beside how long a write with fdatasync takes alone;
             and QoS 0 messages of others meanwhile
    queue    a million messages wait: bytes on disk, a start after kill -9, until the subscriber has all
    state    100,000 sessions with a subscription each, and a million retained messages: bytes on disk, a start after kill -9

Prints a median for each engine with the lowest and the highest, and the ratio to the first engine within a round. All results go to FILE as lines of JSON.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
#: Room for everything that is sent to a client that is not there.
ROOM = ["limits.max_queued_messages=100000000", "limits.max_queued_bytes=4294967295", "limits.memory_budget_bytes=16000000000"]
QUEUED, RETAINED, SESSIONS = 1_000_000, 1_000_000, 100_000
#: A lasting session for each publisher of the scenario `sink`.
QUEUES = [(f"offline-{number}", f"sink/{number}") for number in range(1_000)]
PAYLOAD = b"." * 64
#: Never set: between two looks at a condition.
PAUSE = threading.Event()
TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", default="log,fjall", help="the first is what the others are compared with")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", default="load,latency,queue,state")
    parser.add_argument("--seconds", type=float, default=2, help="of load")
    parser.add_argument("--rates", default="20000,100000,300000", help="messages per second of the part latency")
    parser.add_argument("--dir", type=Path, default=ROOT / "target", help="where data directories are made")
    parser.add_argument("--ringmq", type=Path, help="a broker with all engines [default: it is built]")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / f"compare-storage-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.jsonl")
    return parser.parse_args()


class Broker:
    """A broker with a data directory, one process after the other."""

    def __init__(self, binary, engine, base, settings=()):
        self.binary, self.settings, self.process = binary, list(settings), None
        self.directory = Path(tempfile.mkdtemp(prefix="compare-storage-", dir=base)) if engine else None
        if engine:
            self.settings += [f"storage.data_dir={self.directory}", f"storage.engine={engine}"]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.end(signal.SIGTERM)
        if self.directory:
            shutil.rmtree(self.directory)

    def start(self):
        """Starts it; the seconds until it lets clients in."""
        settings = [word for setting in ROOM + self.settings for word in ("--set", setting)]
        command = [self.binary, "--listen", f"127.0.0.1:{self.port}", "--shards", "1", "--cpus", str(broker_cpu()), "--log", "warn", *settings]
        began = time.monotonic()
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while True:
            try:
                # It listens early, and lets clients in when its state is whole.
                connect(self.port, "starter", clean=True).close()
                return time.monotonic() - began
            except OSError:
                if self.process.poll() is not None:
                    raise SystemExit("the broker ended at once") from None
                PAUSE.wait(0.002)

    def end(self, with_signal):
        self.process.send_signal(with_signal)
        self.process.wait()

    def restart(self):
        self.end(signal.SIGKILL)
        return self.start()

    def cpu_us(self):
        # The clock of all its threads, as clock_getcpuclockid(3) names it; /proc/PID/stat only counts the ticks that fall on it.
        return time.clock_gettime_ns(~self.process.pid << 3 | 2) / 1e3

    def rest(self):
        """Waits until it has nothing to do: what an engine does behind a load is part of what the load costs."""
        before = self.cpu_us()
        while True:
            PAUSE.wait(0.5)
            now = self.cpu_us()
            if now - before < 20_000:
                return
            before = now

    def memory_bytes(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    def disk_bytes(self):
        return sum(path.stat().st_blocks * 512 for path in self.directory.rglob("*") if path.is_file())


def broker_cpu():
    return min(os.sched_getaffinity(0))


def on_other_cpus(command):
    others = sorted(os.sched_getaffinity(0) - {broker_cpu()}) or [broker_cpu()]
    return ["taskset", "-c", ",".join(map(str, others)), *command]


def text(value):
    value = value.encode()
    return len(value).to_bytes(2, "big") + value


def packet(first, body):
    length, encoded = len(body), bytearray()
    while True:
        length, digit = divmod(length, 128)
        encoded.append(digit | (128 if length else 0))
        if not length:
            return bytes([first]) + bytes(encoded) + body


def connect(port, client_id, clean=False):
    client = socket.create_connection(("127.0.0.1", port), timeout=600)
    client.sendall(packet(0x10, text("MQTT") + bytes([4, 2 if clean else 0, 0, 0]) + text(client_id)))
    if len(client.recv(4, socket.MSG_WAITALL)) != 4:
        raise OSError("no CONNACK")
    return client


def subscribe(port, client_id, topic_filter):
    """A lasting session, left again."""
    make_sessions(port, [(client_id, topic_filter)])


def make_sessions(port, sessions):
    """Lasting sessions with a subscription each, two hundred at a time, and left again."""
    for start in range(0, len(sessions), 200):
        clients = []
        for client_id, topic_filter in sessions[start : start + 200]:
            client = socket.create_connection(("127.0.0.1", port), timeout=600)
            body = text("MQTT") + bytes([4, 0, 0, 0]) + text(client_id)
            client.sendall(packet(0x10, body) + packet(0x82, b"\0\1" + text(topic_filter) + b"\1"))
            clients.append(client)
        for client in clients:
            # CONNACK and SUBACK.
            if len(client.recv(9, socket.MSG_WAITALL)) != 9:
                raise SystemExit("a session was refused")
            client.sendall(b"\xe0\0")
            client.close()


def publish(port, count, topic, retain):
    """Messages at QoS 1, as fast as they are acknowledged."""
    client = connect(port, "publisher", clean=True)
    batch = 500
    for start in range(0, count, batch):
        numbers = range(start, min(start + batch, count))
        flags = 0x33 if retain else 0x32
        packets = (packet(flags, text(topic(number)) + (number % 65_535 + 1).to_bytes(2, "big") + PAYLOAD) for number in numbers)
        client.sendall(b"".join(packets))
        if len(client.recv(4 * len(numbers), socket.MSG_WAITALL)) != 4 * len(numbers):
            raise SystemExit("not every message was acknowledged")
    client.close()


def load(broker, scenario, options, seconds, sets):
    """A run of the generator, as it says it itself."""
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as out:
        command = [TARGET / "ringmq-perf", "load", scenario, "--scenarios", ROOT / "perf" / "scenarios", "--address", f"127.0.0.1:{broker.port}"]
        command += ["--pid", str(broker.process.pid), "--seconds", str(seconds), "--json", out.name]
        command += [word for setting in sets for word in ("--set", setting)]
        subprocess.run(on_other_cpus(map(str, command)), check=True, stdout=None if options.verbose else subprocess.DEVNULL)
        return json.loads(Path(out.name).read_text().splitlines()[-1])["outcome"]


def fdatasync_us(base):
    """Microseconds that a write of 4 KiB with fdatasync takes: median, and p99."""
    taken = []
    with tempfile.NamedTemporaryFile(dir=base) as file:
        os.posix_fallocate(file.fileno(), 0, 1 << 22)
        for number in range(1_000):
            began = time.perf_counter()
            os.pwrite(file.fileno(), b"x" * 4_096, number * 4_096)
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter() - began) * 1e6)
    taken.sort()
    return taken[500], taken[990]


def part_load(options, engine):
    with Broker(options.ringmq, engine, options.dir) as broker:
        subscribe(broker.port, "offline", "#")
        before = broker.cpu_us()
        outcome = load(broker, "sink", options, options.seconds, ["qos=1"])
        under_load = broker.cpu_us()
        broker.rest()
        sent = outcome["checks"]["sent"]
        return {
            "messages/s": outcome["egress_per_s"],
            "CPU us/message, all of it": (broker.cpu_us() - before) / sent,
            "CPU us/message, under load": outcome["broker"]["cpu_us_per_message"],
            "CPU us/message, behind it": (broker.cpu_us() - under_load) / sent,
            "PUBACK p50 us, window full": outcome["latency_us"]["acknowledgement"]["p50"],
            "PUBACK p99 us, window full": outcome["latency_us"]["acknowledgement"]["p99"],
            "disk bytes/message": broker.disk_bytes() / sent,
        }


def part_latency(options, engine):
    result = {}
    for rate in options.rates.split(","):
        with Broker(options.ringmq, engine, options.dir) as broker:
            make_sessions(broker.port, QUEUES)
            outcome = load(broker, "sink", options, options.seconds, ["qos=1", f"rate={rate}"])
            acks = outcome["latency_us"]["acknowledgement"]
            result |= {f"PUBACK p50 us at {rate}/s": acks["p50"], f"PUBACK p99 us at {rate}/s": acks["p99"]}
            result[f"CPU us/message at {rate}/s"] = outcome["broker"]["cpu_us_per_message"]
    result |= dict(zip(("fdatasync alone p50 us", "fdatasync alone p99 us"), fdatasync_us(options.dir)))
    for beside in (False, True):
        with Broker(options.ringmq, engine, options.dir) as broker:
            make_sessions(broker.port, QUEUES)
            result[f"QoS 0 p99 us, durable traffic: {'20000/s' if beside else 'none'}"] = qos_0_p99(broker, options, beside)
    return result


def qos_0_p99(broker, options, beside):
    sets = ["--set", "qos=1", "--set", "rate=20000", "--set", "publishers=100"]
    command = [TARGET / "ringmq-perf", "load", "sink", "--scenarios", ROOT / "perf" / "scenarios", "--address", f"127.0.0.1:{broker.port}", *sets]
    command += ["--seconds", str(options.seconds + 4)]
    durable = subprocess.Popen(on_other_cpus(map(str, command)), stdout=subprocess.DEVNULL) if beside else None
    if durable:
        PAUSE.wait(1.5)
    outcome = load(broker, "live", options, options.seconds, [])
    if durable:
        durable.wait()
    return outcome["latency_us"]["delivery"]["p99"]


def part_queue(options, engine):
    with Broker(options.ringmq, engine, options.dir) as broker:
        subscribe(broker.port, "offline", "#")
        before = broker.cpu_us()
        publish(broker.port, QUEUED, lambda number: f"queue/{number % 1_000}", retain=False)
        broker.rest()
        result = {"fill: CPU us/message": (broker.cpu_us() - before) / QUEUED, "disk MB, 1 M queued": broker.disk_bytes() / 1e6}
        result |= {"start s, 1 M queued": broker.restart(), "start CPU s, 1 M queued": broker.cpu_us() / 1e6}
        result["memory MB, 1 M queued"] = broker.memory_bytes() / 1e6
        broker.rest()
        before, began = broker.cpu_us(), time.monotonic()
        command = [options.ringmq, "sub", "-p", str(broker.port), "-c", "-i", "offline", "-q", "1", "-t", "#", "-C", str(QUEUED)]
        subprocess.run(on_other_cpus(map(str, command)), check=True, stdout=subprocess.DEVNULL)
        result["drain s, 1 M queued"] = time.monotonic() - began
        broker.rest()
        result |= {"drain: CPU us/message": (broker.cpu_us() - before) / QUEUED, "disk MB, all delivered": broker.disk_bytes() / 1e6}
        result["start s, all delivered"] = broker.restart()
        return result


def part_state(options, engine):
    with Broker(options.ringmq, engine, options.dir) as broker:
        before = broker.cpu_us()
        make_sessions(broker.port, [(f"client-{number}", f"clients/{number}/inbox") for number in range(SESSIONS)])
        result = {"CPU us/session": (broker.cpu_us() - before) / SESSIONS}
        before = broker.cpu_us()
        publish(broker.port, RETAINED, lambda number: f"retained/{number // 100}/{number}", retain=True)
        broker.rest()
        result |= {"CPU us/retained message": (broker.cpu_us() - before) / RETAINED, "disk MB, sessions and retained": broker.disk_bytes() / 1e6}
        result |= {"start s, sessions and retained": broker.restart(), "start CPU s, sessions and retained": broker.cpu_us() / 1e6}
        result["memory MB, sessions and retained"] = broker.memory_bytes() / 1e6
        return result


PARTS = {"load": part_load, "latency": part_latency, "queue": part_queue, "state": part_state}


def busy_s():
    """CPU seconds of the machine that were not idle."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) * TICK_US / 1e6


def report(results, engines):
    """A table: for each figure and engine the median with its spread, and the ratio to the first engine of the same round."""
    names = list(dict.fromkeys(name for result in results for name in result["figures"]))
    print("| | " + " | ".join(engines) + " | ratio |\n|" + "---|" * (len(engines) + 2))
    for name in names:
        columns = {engine: {} for engine in engines}
        for result in results:
            if name in result["figures"]:
                columns[result["engine"]][result["round"]] = result["figures"][name]
        cells = [cell(list(columns[engine].values())) for engine in engines]
        first = columns[engines[0]]
        ratios = [columns[engines[-1]][number] / first[number] for number in first if number in columns[engines[-1]] and first[number]]
        print(f"| {name} | " + " | ".join(cells) + f" | {cell(ratios)} |")


def cell(values):
    if not values:
        return ""
    low, middle, high = (f"{value:.3g}" if value < 1_000 else f"{value:,.0f}" for value in (min(values), statistics.median(values), max(values)))
    return middle if low == high else f"{middle} [{low}-{high}]"


def main():
    options = arguments()
    options.verbose = bool(os.environ.get("VERBOSE"))
    engines = options.engines.split(",")
    if options.ringmq is None:
        subprocess.run(["cargo", "build", "--release", "--quiet", "-p", "ringmq", "--features", "engine-fjall"], cwd=ROOT, check=True)
        subprocess.run(["cargo", "build", "--release", "--quiet", "-p", "ringmq-perf"], cwd=ROOT, check=True)
        options.ringmq = TARGET / "ringmq"
    options.dir.mkdir(parents=True, exist_ok=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    results = []
    for number in range(options.rounds):
        for part in options.parts.split(","):
            for place in range(len(engines)):
                engine = engines[(place + number) % len(engines)]
                busy = busy_s()
                result = {"round": number, "part": part, "engine": engine, "figures": PARTS[part](options, engine)}
                result["machine_busy_s"] = busy_s() - busy
                results.append(result)
                with options.out.open("a") as out:
                    out.write(json.dumps(result) + "\n")
                print(f"round {number + 1}, {part}: {engine}", flush=True)
    report(results, engines)
    print(f"raw results: {options.out}")


if __name__ == "__main__":
    main()
