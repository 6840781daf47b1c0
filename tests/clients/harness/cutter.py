"""A wire between a client and the broker that breaks at a chosen packet: to see what each side makes of a lost connection in mid-handshake."""

import socket
import threading

from .client import DEADLINE_S, Failed

PACKETS = {"CONNECT": 1, "CONNACK": 2, "PUBLISH": 3, "PUBACK": 4, "PUBREC": 5, "PUBREL": 6, "PUBCOMP": 7, "SUBSCRIBE": 8, "SUBACK": 9}


class Cutter:
    """Forwards every connection to the broker. Each call of `arm` breaks one of them."""

    def __init__(self, broker_port):
        self._broker_port = broker_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._armed = None
        self._cut = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, packet, to_broker, lost):
        """The next packet of this kind in this direction breaks the connection: it is lost with it, or still arrives."""
        self._cut.clear()
        self._armed = (PACKETS[packet], to_broker, lost)

    def wait_for_cut(self):
        if not self._cut.wait(DEADLINE_S):
            raise Failed(f"the packet that was to break the connection did not come within {DEADLINE_S} s")

    def close(self):
        # A blocked accept() does not notice a close, but it does notice this.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            broker = socket.create_connection(("127.0.0.1", self._broker_port))
            for source, target, to_broker in ((client, broker, True), (broker, client, False)):
                threading.Thread(target=self._pump, args=(source, target, to_broker), daemon=True).start()

    def _pump(self, source, target, to_broker):
        """One direction, packet by packet. The sockets are only shut down, never reset: what was forwarded arrives."""
        reader = source.makefile("rb")
        try:
            while packet := _read_packet(reader):
                armed = self._armed
                hit = armed and armed[:2] == (packet[0] >> 4, to_broker)
                if not (hit and armed[2]):
                    target.sendall(packet)
                if hit:
                    self._armed = None
                    break
            else:
                hit = False
        except OSError:
            hit = False
        _shut_down(target)
        if hit:
            _shut_down(source)
            self._cut.set()


def _shut_down(sock):
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        # The other side was faster.
        pass


def _read_packet(reader):
    """One packet, or nothing at the end."""
    head = reader.read(1)
    if not head:
        return b""
    length = shift = 0
    while True:
        digit = reader.read(1)
        if not digit:
            return b""
        head += digit
        length |= (digit[0] & 0x7F) << shift
        shift += 7
        if digit[0] < 0x80:
            break
    body = reader.read(length)
    return head + body if len(body) == length else b""
