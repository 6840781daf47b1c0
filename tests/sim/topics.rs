//! A small universe of topic names and filters, so that subscriptions overlap often; and the matcher that the checkers believe in.

use crate::rng::Rng;

/// Bytes of a PUBLISH beside its payload, at most.
pub const HEADER_BYTES: usize = 200;

const LEVELS: &[&str] = &["a", "b", "c", "", "A"];

/// Any topic, sometimes with an empty level or a leading `$`.
pub fn random_topic(rng: &mut Rng) -> String {
    if rng.percent(4) {
        return format!("$x/{}", rng.pick(&["a", "b"]));
    }
    loop {
        let depth = rng.pick(&[1, 1, 2, 2, 2, 3, 3, 4]);
        let levels: Vec<&str> = (0..depth).map(|_| LEVELS[rng.weighted(&[10, 8, 4, 1, 1])]).collect();
        let topic = levels.join("/");
        if !topic.is_empty() {
            return topic;
        }
    }
}

/// The topic of a client's will.
pub fn will_topic(client: usize) -> String {
    format!("w/{client}")
}

/// A topic that only one client publishes retained messages to.
pub fn own_topic(client: usize, rng: &mut Rng) -> String {
    format!("{}/r{client}", rng.pick(&["a", "b", "c"]))
}

/// Any filter: a topic of which levels were replaced by wildcards, perhaps shared.
pub fn random_filter(rng: &mut Rng, clients: usize, shared_percent: u64) -> String {
    let topic = match rng.below(10) {
        0 => will_topic(rng.index(clients)),
        1 => own_topic(rng.index(clients), rng),
        _ => random_topic(rng),
    };
    let mut levels: Vec<&str> = topic.split('/').collect();
    for level in &mut levels {
        if rng.percent(20) {
            *level = "+";
        }
    }
    if rng.percent(20) {
        levels.truncate(rng.index(levels.len() + 1));
        levels.push("#");
    }
    let filter = levels.join("/");
    if rng.percent(shared_percent) { format!("$share/{}/{filter}", rng.pick(&["g", "h"])) } else { filter }
}

/// Group and filter of a shared subscription.
pub fn split_shared(filter: &str) -> (Option<&str>, &str) {
    match filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/')) {
        Some((group, filter)) => (Some(group), filter),
        None => (None, filter),
    }
}

/// Whether a filter (not a shared one) matches a topic: section 4.7, written as the standard says it, level by level.
pub fn matches(filter: &str, topic: &str) -> bool {
    // [MQTT-4.7.2-1]
    if topic.starts_with('$') && (filter.starts_with('#') || filter.starts_with('+')) {
        return false;
    }
    let filter: Vec<&str> = filter.split('/').collect();
    let topic: Vec<&str> = topic.split('/').collect();
    levels_match(&filter, &topic)
}

fn levels_match(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        ([], []) => true,
        // [MQTT-4.7.1-2] the parent level too
        (["#"], _) => true,
        (["+", filter @ ..], [_, topic @ ..]) => levels_match(filter, topic),
        ([wanted, filter @ ..], [level, topic @ ..]) if wanted == level => levels_match(filter, topic),
        _ => false,
    }
}

#[test]
fn the_matcher_agrees_with_the_examples_of_the_standard() {
    for (filter, topic, expected) in [
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
        ("sport/#", "sport", true),
        ("sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("#", "$SYS/x", false),
        ("+/monitor/Clients", "$SYS/monitor/Clients", false),
        ("$SYS/#", "$SYS/x", true),
        ("ACCOUNTS", "Accounts", false),
    ] {
        assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
    }
}
