"""What a case gets: a fresh broker, and foreign clients of every kind that could be had."""

import tempfile

from .agent import Agent, AgentClient
from .broker import Broker
from .client import READY_TOPIC
from .tool_client import ToolClient


class Clients:
    """The kinds of clients, and how each is made. Lives as long as the whole run."""

    def __init__(self):
        #: Kind: the versions it speaks, and what makes one from a port and a version.
        self._kinds = {}
        self._agents = []

    def add_paho(self):
        from .paho_client import PahoClient

        self._kinds["paho"] = ((3, 4, 5), PahoClient)

    def add_agent(self, kind, versions, command, env=None):
        agent = Agent(command, env)
        self._agents.append(agent)
        self._kinds[kind] = (versions, lambda port, version: AgentClient(agent, kind, port, version))

    def add_tool(self, kind, pub, sub):
        self._kinds[kind] = ((3, 4, 5), lambda port, version: ToolClient(kind, pub, sub, port, version))

    def kinds(self):
        return list(self._kinds)

    def versions(self, kind):
        return self._kinds[kind][0]

    def make(self, kind, port, version):
        return self._kinds[kind][1](port, version)

    def stop(self):
        for agent in self._agents:
            agent.stop()


class World:
    def __init__(self, clients, binary, backend, shards, durable=False):
        self._clients = clients
        self._made = []
        self._data_dir = tempfile.TemporaryDirectory(prefix="ringmq-clients-") if durable else None
        self.broker = Broker(binary, backend, shards, self._data_dir and self._data_dir.name)
        self.port = self.broker.port
        teller = self.client("paho", 4)
        teller.start("harness")
        # QoS 0: a subscriber that is killed must not leave it unacknowledged in its session.
        teller.publish(READY_TOPIC, [b"ready"], qos=0, retain=True)
        teller.disconnect()

    def kinds(self):
        return self._clients.kinds()

    def every(self):
        """All kinds in all versions that each speaks."""
        return [(kind, version) for kind in self.kinds() for version in self._clients.versions(kind)]

    def each_kind(self, oldest=False):
        """All kinds, each in the newest version that it speaks, or the oldest."""
        pick = min if oldest else max
        return [(kind, pick(self._clients.versions(kind))) for kind in self.kinds()]

    def client(self, kind, version, port=None):
        client = self._clients.make(kind, port or self.port, version)
        self._made.append(client)
        return client

    def close(self):
        """Closes all clients, then stops the broker, which has to end well."""
        try:
            for client in self._made:
                client.close()
        finally:
            self.broker.stop()
            if self._data_dir:
                self._data_dir.cleanup()
