//! What a client reads: whole packets cut out of the stream, noted in the history, and answered later.

use ringmq::mqtt::{Packet, PacketType, Publish, QoS, Version, decode, peek};

use super::{Client, Stage};
use crate::history::{Event, Got, Message, Receipt, SocketIx};
use crate::host::Surroundings;
use crate::network::ClientEnd;

impl Client {
    /// Reads what has come, unless the client stalls.
    pub(super) fn read(&mut self, around: &mut Surroundings<'_>) {
        let now = around.history.now;
        let Some(link) = &mut self.link else { return };
        if link.stalled_until > now {
            return;
        }
        let socket = link.socket;
        let max = if around.rng.percent(20) { around.rng.range(1, 30) as usize } else { usize::MAX };
        let bytes = around.network.sockets[socket].down.read(now, max);
        link.inbox.extend(bytes);
        let mut inbox = std::mem::take(&mut link.inbox);
        let mut done = 0;
        while let Some((first, body, len)) = self.next_packet(socket, &inbox[done..], around) {
            done += len;
            self.on_packet(socket, first, &body, len, around);
            if self.link.as_ref().is_none_or(|link| link.socket != socket) {
                return;
            }
        }
        inbox.drain(..done);
        if let Some(link) = &mut self.link {
            link.inbox = inbox;
        }
        if at_end(socket, around) {
            around.history.push(Event::Closed { socket });
            self.link = None;
        }
    }

    /// Reads connections that were given up, until they end.
    pub(super) fn read_ghosts(&mut self, around: &mut Surroundings<'_>) {
        for mut ghost in std::mem::take(&mut self.ghosts) {
            let bytes = around.network.sockets[ghost.socket].down.read(around.history.now, usize::MAX);
            ghost.inbox.extend(bytes);
            while let Some((first, body, len)) = self.next_packet(ghost.socket, &ghost.inbox, around) {
                ghost.inbox.drain(..len);
                if let Ok(Packet::Disconnect(disconnect)) = decode(around.history.connections[ghost.socket].version, first, &body) {
                    let packet = Got::Disconnect { reason: disconnect.reason.0 };
                    around.history.push(Event::Received { socket: ghost.socket, packet });
                }
            }
            if at_end(ghost.socket, around) {
                around.history.push(Event::Closed { socket: ghost.socket });
            } else {
                self.ghosts.push(ghost);
            }
        }
    }

    /// First byte, body and whole length of the packet at the front.
    fn next_packet(&self, socket: SocketIx, bytes: &[u8], around: &mut Surroundings<'_>) -> Option<(u8, Vec<u8>, usize)> {
        match peek(bytes, u32::MAX) {
            Ok(Some(header)) if header.total_len() <= bytes.len() => {
                let max = around.history.connections[socket].max_packet_bytes as usize;
                if header.total_len() > max {
                    broken(
                        "[MQTT-3.1.2-24]",
                        format!("socket {socket} got a packet of {} bytes, allowed are {max}", header.total_len()),
                        around,
                    );
                }
                Some((header.first, bytes[usize::from(header.header_len)..header.total_len()].to_vec(), header.total_len()))
            }
            Ok(_) => None,
            Err(error) => {
                broken("well-formed", format!("socket {socket}: {error}"), around);
                None
            }
        }
    }

    /// One flat match over what a broker may send.
    fn on_packet(&mut self, socket: SocketIx, first: u8, body: &[u8], len: usize, around: &mut Surroundings<'_>) {
        let packet = match decode(self.version, first, body) {
            Ok(packet) => packet,
            Err(error) => return broken("well-formed", format!("socket {socket} got {len} bytes: {error}"), around),
        };
        if !self.link.as_ref().is_some_and(|link| link.connected) && !matches!(packet, Packet::Connack(_)) {
            // [MQTT-3.2.0-1]
            return broken("CONNACK first", format!("socket {socket} got {packet:?}"), around);
        }
        let got = match &packet {
            Packet::Connack(connack) => {
                if let Some(link) = &mut self.link {
                    link.server_receive_maximum = connack.properties.receive_maximum.unwrap_or(u16::MAX);
                    link.alias_maximum = connack.properties.topic_alias_maximum.unwrap_or(0);
                }
                return self.on_connack(socket, connack.session_present, connack.code, around);
            }
            Packet::Publish(publish) => return self.on_publish(socket, publish, around),
            Packet::Puback(ack) => Got::Puback { packet_id: ack.packet_id, code: ack.reason.0 },
            Packet::Pubrec(ack) => Got::Pubrec { packet_id: ack.packet_id, code: ack.reason.0 },
            Packet::Pubrel(ack) => Got::Pubrel { packet_id: ack.packet_id },
            Packet::Pubcomp(ack) => Got::Pubcomp { packet_id: ack.packet_id, code: ack.reason.0 },
            Packet::Suback(ack) => Got::Suback { packet_id: ack.packet_id, codes: ack.codes.to_vec() },
            Packet::Unsuback(ack) => Got::Unsuback { packet_id: ack.packet_id },
            Packet::Pingresp => Got::Pingresp,
            Packet::Disconnect(disconnect) => Got::Disconnect { reason: disconnect.reason.0 },
            other => return broken("direction", format!("socket {socket} got {other:?}"), around),
        };
        around.history.push(Event::Received { socket, packet: got.clone() });
        self.on_answer(socket, &got, around);
    }

    fn on_answer(&mut self, socket: SocketIx, got: &Got, around: &mut Surroundings<'_>) {
        let Some(link) = &mut self.link else { return };
        match *got {
            Got::Puback { packet_id, .. } => self.flights.retain(|flight| flight.packet_id != packet_id || flight.qos != QoS::AtLeastOnce),
            Got::Pubrec { packet_id, code } if code >= 0x80 => self.flights.retain(|flight| flight.packet_id != packet_id),
            Got::Pubrec { packet_id, .. } => {
                if let Some(flight) = self.flights.iter_mut().find(|flight| flight.packet_id == packet_id) {
                    flight.stage = Stage::Released;
                }
                link.due.pubrel.push_back(packet_id);
            }
            Got::Pubrel { packet_id } => {
                self.received.remove(&packet_id);
                link.due.pubcomp.push_back(packet_id);
            }
            Got::Pubcomp { packet_id, .. } => self.flights.retain(|flight| flight.packet_id != packet_id),
            Got::Suback { packet_id, .. } | Got::Unsuback { packet_id } => {
                if !link.asked.remove(&packet_id) {
                    broken("acknowledgement without request", format!("socket {socket}: {got:?}"), around);
                }
            }
            Got::Pingresp => match link.pings.checked_sub(1) {
                Some(pings) => link.pings = pings,
                None => broken("PINGRESP without PINGREQ", format!("socket {socket}"), around),
            },
            Got::Connack { .. } | Got::Publish(_) | Got::Disconnect { .. } => {}
        }
    }

    fn on_connack(&mut self, socket: SocketIx, present: bool, code: u8, around: &mut Surroundings<'_>) {
        around.history.push(Event::Received { socket, packet: Got::Connack { present, code } });
        let Some(link) = &mut self.link else { return };
        if code != 0 || link.connected {
            broken("CONNACK", format!("socket {socket}: code {code:#x}, connected before: {}", link.connected), around);
            return;
        }
        link.connected = true;
        self.unwatched |= !present;
        self.forgetting = false;
        let last = self.last_connected.replace(socket);
        // 3.1 does not say whether the session is there; its clients have to know.
        let present = present || self.version == Version::V31;
        let continues = around.history.continues(last, socket);
        if !continues && around.history.resumes(socket) {
            // A connection that the client had given up came late and made this session. What it published the client has forgotten, and would use its
            // identifiers anew.
            self.forgetting = true;
            self.leave(ClientEnd::Reset, around);
        } else if present && continues {
            self.resend(around);
        } else if !around.history.connections[socket].clean_start {
            self.flights.clear();
            self.received.clear();
        }
    }

    fn on_publish(&mut self, socket: SocketIx, publish: &Publish<'_>, around: &mut Surroundings<'_>) {
        let Some(link) = &mut self.link else { return };
        let packet_id = publish.packet_id;
        let mut fresh = true;
        if publish.qos != QoS::AtMostOnce {
            if link.open.insert(packet_id, publish.qos).is_some() {
                broken("[MQTT-2.2.1-4]", format!("socket {socket}: identifier {packet_id} is in use"), around);
            }
            if link.open.len() > usize::from(around.history.connections[socket].receive_maximum) {
                broken("[MQTT-3.3.4-9]", format!("socket {socket}: {} messages in flight", link.open.len()), around);
            }
        }
        match publish.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => link.due.puback.push_back(packet_id),
            QoS::ExactlyOnce => {
                fresh = self.received.insert(packet_id);
                link.due.pubrec.push_back(packet_id);
            }
        }
        let publish = &Publish { topic: &self.topic_of(publish, around), ..publish.clone() };
        let receipt = receipt(publish, fresh, self.version, around);
        around.history.push(Event::Received { socket, packet: Got::Publish(Box::new(receipt)) });
    }

    /// The topic of a PUBLISH, which may be named by an alias [MQTT-3.3.2-12].
    fn topic_of(&mut self, publish: &Publish<'_>, around: &mut Surroundings<'_>) -> String {
        let alias = publish.properties.topic_alias;
        let Some(link) = self.link.as_mut().filter(|_| alias != 0) else { return publish.topic.to_owned() };
        if alias > around.history.connections[link.socket].alias_maximum {
            broken("[MQTT-3.1.2-26]", format!("socket {}: topic alias {alias}", link.socket), around);
        }
        if !publish.topic.is_empty() {
            link.broker_aliases.insert(alias, publish.topic.to_owned());
        }
        link.broker_aliases.get(&alias).cloned().unwrap_or_default()
    }

    /// Sends some of the acknowledgements that are due; the kinds may overtake one another.
    pub(super) fn send_due(&mut self, percent: u64, around: &mut Surroundings<'_>) {
        for _ in 0..20 {
            let Some(link) = self.link.as_mut().filter(|link| link.connected && !link.leaving && !link.due.is_empty()) else { return };
            if !around.rng.percent(percent) {
                return;
            }
            let (kind, due) = match around.rng.below(4) {
                0 => (PacketType::Puback, &mut link.due.puback),
                1 => (PacketType::Pubrec, &mut link.due.pubrec),
                2 => (PacketType::Pubrel, &mut link.due.pubrel),
                _ => (PacketType::Pubcomp, &mut link.due.pubcomp),
            };
            let next = if around.settings.rude { around.rng.index(due.len()) } else { 0 };
            let Some(packet_id) = due.remove(next) else { continue };
            if matches!(kind, PacketType::Puback | PacketType::Pubcomp) {
                link.open.remove(&packet_id);
            }
            self.send_ack(kind, packet_id, around);
        }
    }
}

fn at_end(socket: SocketIx, around: &Surroundings<'_>) -> bool {
    let wire = &around.network.sockets[socket];
    wire.broker_end && wire.down.len() == 0
}

fn broken(rule: &'static str, what: String, around: &mut Surroundings<'_>) {
    around.history.push(Event::Broken { rule, what });
}

/// The PUBLISH compared with what was published.
fn receipt(publish: &Publish<'_>, fresh: bool, version: Version, around: &Surroundings<'_>) -> Receipt {
    let message = publish.payload.first_chunk().map(|bytes| u64::from_be_bytes(*bytes) as usize);
    let published = message.and_then(|message| around.history.messages.get(message));
    let damage = match published {
        Some(published) => damage(publish, published, version),
        None if publish.payload.is_empty() => None,
        None => Some(format!("unknown payload {:?}", publish.payload)),
    };
    Receipt {
        message: message.filter(|_| published.is_some()),
        topic: publish.topic.to_owned(),
        packet_id: publish.packet_id,
        qos: publish.qos,
        dup: publish.dup,
        retain: publish.retain,
        subscription_ids: publish.properties.subscription_ids().collect(),
        expiry_s: publish.properties.message_expiry,
        fresh,
        damage,
    }
}

fn damage(publish: &Publish<'_>, published: &Message, version: Version) -> Option<String> {
    let mut forward = Vec::new();
    publish.properties.forward_into(&mut forward);
    if publish.topic != published.topic {
        return Some(format!("topic {} instead of {}", publish.topic, published.topic));
    }
    if publish.payload != published.payload {
        return Some(format!("payload of {} bytes instead of {}, or other bytes", publish.payload.len(), published.payload.len()));
    }
    if version.is_v5() && forward != published.forward {
        return Some(format!("properties {forward:?} instead of {:?}", published.forward));
    }
    let expiry_right = !version.is_v5()
        || publish.properties.message_expiry <= published.expiry_s && {
            publish.properties.message_expiry.is_some() == published.expiry_s.is_some()
        };
    (!expiry_right).then(|| format!("expiry {:?} of {:?}", publish.properties.message_expiry, published.expiry_s))
}
