//! Messages of shared subscriptions: each to one member of the group, on whatever shard it is; and on to another one when that member's session ends
//! before it has the message (5.0 section 4.8.2).

use super::acks::worse;
use super::connection::NONE;
use super::ids::{ShardId, ShardSet};
use super::journal::exchange::Taken;
use super::message::{Delivery, Incoming};
use super::route::{Job, Publisher, Recipient};
use super::shard::Shard;
use super::topics::{Choice, GroupId};
use crate::metrics::DropReason;
use crate::mqtt::ReasonCode;

impl Shard {
    /// A message for a shared subscription: to the member whose turn it is, unless one has taken it. Where that is one of another shard, it is noted in
    /// `shares`.
    pub(super) fn deliver_share(
        &mut self,
        group: GroupId,
        incoming: &Incoming<'_>,
        shares: &mut Vec<(ShardId, u64)>,
        job: &mut Job,
        taken: Option<&Taken>,
    ) -> ReasonCode {
        if self.has_taken(group, taken) {
            return ReasonCode::SUCCESS;
        }
        match self.topics.choose_shard(group) {
            Some(Choice::Local) => self.deliver_member(group, incoming, job),
            Some(Choice::Remote(shard)) => {
                shares.extend(self.topics.fingerprint_of_share(group).map(|fingerprint| (shard, fingerprint)));
                ReasonCode::SUCCESS
            }
            None => ReasonCode::NO_MATCHING_SUBSCRIBERS,
        }
    }

    /// The same, for a message that another shard sent here because of a member here. If that has left meanwhile, another one gets the message.
    pub(super) fn deliver_share_here(
        &mut self,
        fingerprint: u64,
        incoming: &Incoming<'_>,
        job: &mut Job,
        taken: Option<&Taken>,
    ) -> ReasonCode {
        let Some(group) = self.topics.share_by_fingerprint(fingerprint) else { return ReasonCode::NO_MATCHING_SUBSCRIBERS };
        if self.has_taken(group, taken) {
            return ReasonCode::SUCCESS;
        }
        match self.deliver_member(group, incoming, job) {
            ReasonCode::NO_MATCHING_SUBSCRIBERS => self.pass_on(group, incoming, job),
            code => code,
        }
    }

    /// Whether a member of the group has the message.
    fn has_taken(&self, group: GroupId, taken: Option<&Taken>) -> bool {
        taken.is_some_and(|taken| self.topics.text_of_share(group).is_some_and(|text| taken.covers_share(&text)))
    }

    fn pass_on(&mut self, group: GroupId, incoming: &Incoming<'_>, job: &mut Job) -> ReasonCode {
        let mut shares = std::mem::take(&mut self.scratch.shares);
        shares.clear();
        let code = self.deliver_share(group, incoming, &mut shares, job, None);
        let mut remote = ShardSet::default();
        shares.iter().for_each(|&(shard, _)| remote.insert(shard));
        let code = worse(code, self.send_to_shards(incoming, remote, ShardSet::default(), None, &shares, job));
        self.scratch.shares = shares;
        code
    }

    /// A message for a member on this shard: one that is connected if there is one, else any. It comes beside what plain subscriptions bring, under the
    /// identifier of this one [MQTT-3.3.4-5], at the QoS that the member was granted [MQTT-4.8.2-3].
    fn deliver_member(&mut self, group: GroupId, incoming: &Incoming<'_>, job: &mut Job) -> ReasonCode {
        let sessions = &self.sessions;
        let connected = self.topics.pick(group, |session| sessions.get(session).is_some_and(|session| session.is_connected()));
        let Some(member) = connected.or_else(|| self.topics.pick(group, |_| true)) else { return ReasonCode::NO_MATCHING_SUBSCRIBERS };
        let id = [member.subscription_id];
        let recipient = Recipient {
            session: member.session,
            qos: member.options.qos(),
            retain_as_published: member.options.retain_as_published(),
            subscription_ids: if member.subscription_id == 0 { &[] } else { &id },
            share: self.topics.fingerprint_of_share(group).unwrap_or(0),
        };
        let code = self.deliver_to(recipient, incoming, &mut None, job);
        if let Some(part) = job.part.as_mut().filter(|_| !code.is_error()) {
            self.topics.text_of_share(group).into_iter().for_each(|text| part.add_share(&text));
        }
        code
    }

    /// A message that a member did not take before its session ended: to another one, or lost for this reason.
    pub(super) fn give_back(&mut self, delivery: &Delivery, reason: DropReason) {
        let incoming = delivery.message.as_incoming();
        if incoming.expires_at <= self.now {
            return self.counters.count_dropped(DropReason::Expired, 1);
        }
        let group = if delivery.share == 0 { None } else { self.topics.share_by_fingerprint(delivery.share) };
        let Some(group) = group else { return self.counters.count_dropped(reason, 1) };
        self.counters.deliveries_handed_on += 1;
        let mark = self.journal_mark();
        let mut job = Job::new(Publisher::unanswered(NONE));
        let code = self.pass_on(group, &incoming, &mut job);
        self.finish_job(job, code, mark);
    }
}
