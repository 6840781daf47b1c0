//! Message expiry: what is left of it is told truly [MQTT-3.3.2-6], and nothing is sent for the first time after it [MQTT-3.3.2-5].
//!
//! How long a message was on its way beside the time that it waited in the broker nobody can tell: so the bounds are those of the whole way, and of the time
//! before the receiving connection existed.

use super::Violation;
use crate::history::{Purpose, Receipt};
use crate::model::Model;

/// What timers and clocks may be off, ms.
const BLUR_MS: u64 = 1_000;

pub fn check(model: &Model<'_>, violations: &mut Vec<Violation>) {
    for (seq, socket, receipt) in model.receipts.iter().flatten() {
        let Some(index) = receipt.message else { continue };
        let message = &model.history.messages[index];
        let Some(expiry_s) = message.expiry_s.filter(|_| message.purpose != Purpose::Will) else { continue };
        let processed = &model.publications[index].processed;
        let (Some(&first), Some(&last)) = (processed.first(), processed.iter().rfind(|&&processed| processed < *seq)) else { continue };
        let at = |seq: usize| model.history.records[seq].at;
        let accepted_at = model.accepted[*socket].map_or(0, at);
        let waited_least = accepted_at.saturating_sub(at(last));
        let under_way = at(*seq) - at(first);
        if let Some(wrong) = judge(receipt, u64::from(expiry_s) * 1_000, waited_least, under_way) {
            violations.push(Violation {
                check: "expiry",
                what: format!("connection {socket} got at {seq} message {index} {wrong}: {receipt:?}"),
            });
        }
    }
}

fn judge(receipt: &Receipt, expiry_ms: u64, waited_least: u64, under_way: u64) -> Option<String> {
    if !receipt.dup && waited_least > expiry_ms + BLUR_MS {
        return Some(format!("{waited_least} ms after it was published, it was to live for {expiry_ms} ms"));
    }
    // Towards 3.x nothing can be told.
    let told_ms = u64::from(receipt.expiry_s?) * 1_000;
    if told_ms + under_way < expiry_ms || told_ms > expiry_ms.saturating_sub(waited_least) + BLUR_MS {
        return Some(format!("{under_way} ms after it was published, of {expiry_ms} ms {told_ms} were said to be left"));
    }
    None
}
