#!/usr/bin/env python3
"""Foreign clients against the real broker: over each I/O backend, with one shard and with two.

    tests/clients/run.py --ringmq target/debug/ringmq [--base target/clients] [--io uring,epoll] [--shards 1,2] [--only TEXT]
                         [--without KIND,KIND]

Installs what it needs into --base, runs every case of `cases/` in each configuration with a fresh broker, and prints a line for each. Exit code 0
only if all passed. A client that cannot be had on this machine is left out, and said so in capital letters at the end.
"""

import argparse
import os
import sys
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ringmq", required=True, type=Path, help="the broker's binary")
    parser.add_argument("--base", type=Path, default=HERE.parent.parent / "target" / "clients", help="where to install the clients")
    parser.add_argument("--io", default="uring,epoll", help="backends")
    parser.add_argument("--shards", default="1,2", help="numbers of shards")
    parser.add_argument("--only", default="", help="run the cases whose name holds this text")
    parser.add_argument("--without", default="", help="kinds of clients to leave out")
    return parser.parse_args()


def with_paho(base):
    """Goes on in an interpreter that has paho-mqtt."""
    import install

    if os.environ.get("RINGMQ_CLIENTS_PYTHON") == "1":
        return
    try:
        python = install.python_with_paho(base)
    except install.Missing as why:
        sys.exit(f"The tests with foreign clients need paho-mqtt: {why}")
    os.environ["RINGMQ_CLIENTS_PYTHON"] = "1"
    os.execv(python, [python, *sys.argv])


def all_clients(binary, base, without):
    """Every kind that can be had, and what cannot, with the reason."""
    import install
    from harness.world import Clients

    clients, missing = Clients(), []

    def attempt(name, add):
        if name in without:
            return
        try:
            add()
        except install.Missing as why:
            missing.append(f"{name}: {why}")

    def node():
        environment = {**os.environ, "NODE_PATH": str(install.mqttjs(base))}
        clients.add_agent("mqttjs", (3, 4, 5), ["node", str(HERE / "agent_mqttjs.cjs")], environment)

    clients.add_paho()
    attempt("mqttjs", node)
    attempt("rumqttc", lambda: clients.add_agent("rumqttc", (4, 5), [str(install.rumqttc(base))]))
    attempt("mosquitto", lambda: clients.add_tool("mosquitto", *([tool] for tool in install.mosquitto())))
    attempt("ringmq", lambda: clients.add_tool("ringmq", [binary, "pub"], [binary, "sub"]))
    return clients, missing


def run_case(case, clients, binary, backend, shards):
    """Runs one case; gives an error text, or None."""
    from harness.world import World

    world = None
    try:
        # What a case needs of the broker stands at the case.
        world = World(clients, binary, backend, shards, durable=getattr(case, "durable", False))
        try:
            case(world)
        finally:
            world.close()
    except Exception:
        log = "\n".join(world.broker.log[-30:]) if world else ""
        return f"{traceback.format_exc()}--- the end of the broker's log ---\n{log}\n"
    return None


def main():
    options = arguments()
    with_paho(options.base.absolute())
    import cases
    from harness.broker import Broker, NoBackend

    binary = str(options.ringmq.absolute())
    clients, missing = all_clients(binary, options.base.absolute(), options.without.split(","))
    print(f"foreign clients: {', '.join(clients.kinds())}", flush=True)
    passed, failed = 0, []
    for backend in options.io.split(","):
        try:
            Broker(binary, backend, 1).stop()
        except NoBackend as why:
            missing.append(f"{backend}: {why}")
            continue
        for shards in map(int, options.shards.split(",")):
            for case in cases.ALL:
                if options.only not in case.__name__:
                    continue
                began = time.monotonic()
                error = run_case(case, clients, binary, backend, shards)
                name = f"{backend} x {shards}: {case.__module__.removeprefix('cases.')}: {case.__name__}"
                print(f"{'FAILED' if error else 'ok    '} {name} ({time.monotonic() - began:.1f} s)", flush=True)
                passed += error is None
                if error:
                    failed.append(name)
                    print(error, flush=True)
    clients.stop()
    for one in missing:
        print(f"NOT TESTED: {one}")
    print(f"foreign clients: {passed} passed, {len(failed)} failed", *failed, sep="\n  ")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
