//! A subscribing client: checks every delivery against what was sent and tells the publishers' windows. The generator's hottest loop.

use ringmq::mqtt::{PacketType, Properties, ReasonCode, encode};

use super::latency::Latency;
use super::packets::{self, Stamp};
use super::plan::{Settings, SubscriberPlan};
use super::publisher::Publisher;
use super::sequence::{Arrival, Sequence};
use super::shared::Tally;

pub struct Subscriber {
    /// Place on the thread of the first publisher that it hears.
    first_publisher: u32,
    /// One for each publisher that it hears.
    sequences: Vec<Sequence>,
    /// Where it is a member of a group, the group's place on the thread. What the group has not got is then the group's to know.
    group: Option<usize>,
    /// Hardly reads: what it misses is not lost, and nobody waits for it.
    pub slow: bool,
    /// The shard that it is to live on.
    pub home: u16,
}

/// The parts of a worker that a delivery touches.
pub struct Delivery<'a> {
    pub settings: &'a Settings,
    pub publishers: &'a mut [Publisher],
    pub groups: &'a mut [Group],
    /// Publishers whose windows have room for a write.
    pub with_room: &'a mut Vec<u32>,
    pub tally: &'a mut Tally,
    /// Only while it is measured.
    pub latency: Option<&'a mut Latency>,
    pub answers: &'a mut Vec<u8>,
    pub now: u64,
}

/// What the members of a shared subscription have got together: publishers from a place on, and a sequence for each.
pub struct Group {
    pub first_publisher: u32,
    pub sequences: Vec<Sequence>,
}

impl Group {
    /// Messages that no member has got.
    pub fn lost(&self, publishers: &[Publisher]) -> u64 {
        missing(&self.sequences, self.first_publisher, publishers)
    }
}

fn missing(sequences: &[Sequence], first_publisher: u32, publishers: &[Publisher]) -> u64 {
    let heard = publishers.iter().skip(first_publisher as usize);
    sequences.iter().zip(heard).map(|(sequence, publisher)| sequence.lost(publisher.sent)).sum()
}

impl Subscriber {
    /// `first_publisher`: the place on the thread of the first one of its cell; `group`: of the group, for a member.
    pub fn new(first_publisher: u32, group: Option<usize>, plan: &SubscriberPlan) -> Subscriber {
        let SubscriberPlan { ref publishers, slow, home, .. } = *plan;
        let sequences = vec![Sequence::default(); publishers.len()];
        Subscriber { first_publisher: first_publisher + publishers.start as u32, sequences, group, slow, home }
    }

    /// Takes the packets at the start of `bytes`, appends what must be answered, and gives the bytes used.
    pub fn receive(&mut self, bytes: &[u8], delivery: &mut Delivery<'_>) -> usize {
        let v5 = delivery.settings.version.is_v5();
        let mut at = 0;
        while let Some((packet, length)) = packets::next(&bytes[at..]) {
            at += length;
            if packet.first >> 4 != PacketType::Publish as u8 {
                other_packet(packet.first, packet.body, delivery);
                continue;
            }
            let Some((packet_id, payload)) = packets::publish(packet.first, packet.body, v5) else {
                delivery.tally.foreign += 1;
                continue;
            };
            if packet_id != 0 {
                let kind = if packet.first & 4 == 0 { PacketType::Puback } else { PacketType::Pubrec };
                acknowledge(kind, packet_id, delivery);
            }
            self.delivered(payload, delivery);
        }
        if let Some(latency) = &mut delivery.latency {
            latency.end_run(delivery.now);
        }
        at
    }

    #[inline]
    fn delivered(&mut self, payload: &[u8], delivery: &mut Delivery<'_>) {
        let Some(stamp) = Stamp::get(payload) else {
            delivery.tally.foreign += 1;
            return;
        };
        let heard = stamp.publisher.wrapping_sub(self.first_publisher) as usize;
        let (Some(sequence), Some(publisher)) = (self.sequences.get_mut(heard), delivery.publishers.get_mut(stamp.publisher as usize))
        else {
            delivery.tally.foreign += 1;
            return;
        };
        let arrival = match self.group {
            None => sequence.arrived(stamp.number),
            Some(group) => shared_arrival(sequence, &mut delivery.groups[group].sequences[heard], stamp.number),
        };
        match arrival {
            _ if self.slow => return slow_arrival(&arrival, delivery.tally),
            Arrival::InOrder => publisher.window.delivered(stamp.number),
            // What was passed over no longer holds the window up, be it lost or only late.
            Arrival::After(gap) => gap.chain([stamp.number]).for_each(|number| publisher.window.delivered(number)),
            Arrival::Reordered => {
                delivery.tally.reordered += 1;
                if self.group.is_some() {
                    publisher.window.delivered(stamp.number);
                }
            }
            Arrival::Duplicate => {
                delivery.tally.duplicated += 1;
                return;
            }
        }
        delivery.tally.received += 1;
        if let Some(latency) = &mut delivery.latency {
            latency.arrived(stamp.time, delivery.now);
        }
        if !publisher.queued && publisher.window.worth_a_write(publisher.sent) {
            publisher.queued = true;
            delivery.with_room.push(stamp.publisher);
        }
    }

    /// Messages that never came, of publishers that have all stopped.
    pub fn lost(&self, publishers: &[Publisher]) -> u64 {
        if self.group.is_some() { 0 } else { missing(&self.sequences, self.first_publisher, publishers) }
    }
}

/// Each message goes to one member: order is each member's own affair, loss and duplicates are the group's. In order here is whatever the
/// member can not have seen before; it frees its own place in the window and no other.
fn shared_arrival(member: &mut Sequence, group: &mut Sequence, number: u32) -> Arrival {
    let late = number < member.pass_over(number);
    match group.arrived(number) {
        Arrival::Duplicate => Arrival::Duplicate,
        _ if late => Arrival::Reordered,
        _ => Arrival::InOrder,
    }
}

#[cold]
fn slow_arrival(arrival: &Arrival, tally: &mut Tally) {
    match arrival {
        Arrival::InOrder | Arrival::After(_) => tally.slow_received += 1,
        Arrival::Reordered => tally.reordered += 1,
        Arrival::Duplicate => tally.duplicated += 1,
    }
}

#[cold]
fn other_packet(first: u8, body: &[u8], delivery: &mut Delivery<'_>) {
    match PacketType::from_first(first) {
        Some(PacketType::Pubrel) => acknowledge(PacketType::Pubcomp, packets::u16_at(body, 0).unwrap_or(0), delivery),
        _ => delivery.tally.foreign += 1,
    }
}

fn acknowledge(kind: PacketType, packet_id: u16, delivery: &mut Delivery<'_>) {
    encode::ack(delivery.answers, delivery.settings.version, kind, packet_id, ReasonCode::SUCCESS, &Properties::default());
}
