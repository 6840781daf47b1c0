//! Every delivery that was owed is accounted for: done, given up with a reason, in flight, queued or held. And when everybody has gone, nothing is left.

use ringmq::broker::Holdings;

use super::Violation;
use crate::history::Event;
use crate::model::Model;

pub fn check(model: &Model<'_>, violations: &mut Vec<Violation>) {
    let mut report = |what: String| violations.push(Violation { check: "accounting", what });
    for (seq, _, event) in model.history.iter() {
        match event {
            Event::Counted { shard, owed, accounted } if owed != accounted => {
                return report(format!("at {seq} shard {} owed {owed} deliveries and accounts for {accounted}", shard.0));
            }
            Event::Left { shard, holdings } if *holdings != Holdings::default() => {
                report(format!("at the end shard {} still has {holdings:?}", shard.0));
            }
            _ => {}
        }
    }
}
