//! Topic names, topic filters, shared subscriptions.

use super::*;
use proptest::prelude::*;

fn matches(filter: &str, topic: &str) -> bool {
    let filter = TopicFilter::new(filter).unwrap_or_else(|error| panic!("{filter}: {error}"));
    filter.matches(TopicName::new(topic).unwrap_or_else(|error| panic!("{topic}: {error}")))
}

/// The examples of section 4.7, and some of the field's. [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-4.7.3-4]
#[test]
fn filters_match_as_the_standard_shows() {
    for (filter, topic) in [
        ("sport/tennis/player1/#", "sport/tennis/player1"),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking"),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
        ("sport/#", "sport"),
        ("#", "a/b/c"),
        ("sport/tennis/+", "sport/tennis/player1"),
        ("sport/+", "sport/"),
        ("+/+", "/finance"),
        ("/+", "/finance"),
        ("+/tennis/#", "a/tennis"),
        ("+", "finance"),
        ("sensors/+/uk/london/baker_street", "sensors/temperature/uk/london/baker_street"),
        ("sensors/temperature/uk/#", "sensors/temperature/uk/london"),
        ("scores/football/SEC/TexasA&M", "scores/football/SEC/TexasA&M"),
        ("Accounts payable", "Accounts payable"),
        ("/", "/"),
        ("+/+/", "a/b/"),
        ("a//#", "a//"),
        ("a/+/b", "a//b"),
    ] {
        assert!(matches(filter, topic), "{filter} should match {topic}");
    }
    for (filter, topic) in [
        ("sport/tennis/+", "sport/tennis/player1/ranking"),
        ("sport/+", "sport"),
        ("+", "/finance"),
        ("/finance", "finance"),
        ("ACCOUNTS", "Accounts"),
        ("a/b", "a/b/"),
        ("a/b/", "a/b"),
        ("a/#", "ab"),
        ("+/b", "a/b/c"),
        ("\u{E9}", "e\u{301}"), // never normalised
    ] {
        assert!(!matches(filter, topic), "{filter} should not match {topic}");
    }
}

/// [MQTT-4.7.2-1]; CVE-2018-12543
#[test]
fn a_leading_wildcard_matches_no_dollar_topic() {
    for filter in ["#", "+", "+/#", "+/monitor/Clients", "+/+/+"] {
        for topic in ["$SYS", "$SYS/monitor/Clients", "$other", "$"] {
            assert!(!matches(filter, topic), "{filter} {topic}");
        }
    }
    assert!(matches("$SYS/#", "$SYS/monitor/Clients"));
    assert!(matches("$SYS/monitor/+", "$SYS/monitor/Clients"));
    assert!(matches("a/+", "a/$b"));
}

/// [MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-4.7.1-1]
#[test]
fn wildcards_fill_their_level_and_hash_is_last() {
    for filter in ["sport/tennis#", "sport/tennis/#/ranking", "#/", "##", "sport+", "+a", "a/+b/c", "+#", "#+", "a/#+"] {
        assert_eq!(TopicFilter::new(filter), Err(TopicError::MisplacedWildcard), "{filter}");
    }
    for filter in ["#", "+", "+/+", "/#", "a/+/#", "//", "+/", "$SYS/#"] {
        assert!(TopicFilter::new(filter).is_ok(), "{filter}");
    }
    assert!(TopicFilter::new("a/+").expect("valid").is_wildcard());
    assert!(!TopicFilter::new("a/b").expect("valid").is_wildcard());
}

/// [MQTT-3.3.2-2] [MQTT-4.7.1-1] of 3.1.1, [MQTT-4.7.0-1] of 5.0
#[test]
fn a_topic_name_has_no_wildcard() {
    for topic in ["#", "+", "a/+", "a+b", "a/b#"] {
        assert_eq!(TopicName::new(topic), Err(TopicError::WildcardInName));
    }
}

/// [MQTT-4.7.3-1] [MQTT-4.7.3-2] [MQTT-4.7.3-3]
#[test]
fn length_and_u_0000() {
    let longest = "a".repeat(65_535);
    let too_long = "a".repeat(65_536);
    assert!(TopicName::new(&longest).is_ok() && TopicFilter::new(&longest).is_ok());
    for (text, error) in [
        ("", TopicError::Empty),
        (too_long.as_str(), TopicError::TooLong),
        ("a\0b", TopicError::Control),
        ("a\u{1b}[2J", TopicError::Control),
        ("\u{9f}", TopicError::Control),
    ] {
        assert_eq!(TopicName::new(text), Err(error));
        assert_eq!(TopicFilter::new(text), Err(error));
        assert!(!error.to_string().is_empty());
    }
}

/// CVE-2019-11779
#[test]
fn the_deepest_topic_is_matched_without_recursion() {
    let topic = "/".repeat(65_535);
    assert!(matches("#", &topic));
    assert!(matches(&topic, &topic));
    assert!(matches(&["+"; 32_768].join("/"), &"/".repeat(32_767)));
}

#[test]
fn levels_count_empty_ones() {
    assert_eq!(TopicName::new("/a//b/").expect("valid").levels().collect::<Vec<_>>(), ["", "a", "", "b", ""]);
    assert_eq!(TopicFilter::new("a/+/#").expect("valid").levels().collect::<Vec<_>>(), ["a", "+", "#"]);
}

/// [MQTT-4.8.2-1] [MQTT-4.8.2-2]
#[test]
fn shared_subscriptions_have_a_group_and_a_filter() {
    for text in ["a", "$SYS/a", "$share", "$shared/g/a", "$SHARE/g/a", "a/$share/g/a"] {
        assert_eq!(SharedFilter::parse(text), None, "{text}");
    }
    for (text, error) in [
        ("$share/", TopicError::ShareName),
        ("$share//a", TopicError::ShareName),
        ("$share//", TopicError::ShareName),
        ("$share/+/a", TopicError::ShareName),
        ("$share/#/a", TopicError::ShareName),
        ("$share/g+/a", TopicError::ShareName),
        ("$share/#", TopicError::ShareName),
        ("$share/g", TopicError::ShareFilter),
        ("$share/g/", TopicError::ShareFilter),
        ("$share/g/a#", TopicError::MisplacedWildcard),
        ("$share/g/a\0", TopicError::Control),
    ] {
        assert_eq!(SharedFilter::parse(text), Some(Err(error)), "{text}");
    }
    for (text, group, filter) in [("$share/g/a/#", "g", "a/#"), ("$share/g//", "g", "/"), ("$share/$g/$SYS/+", "$g", "$SYS/+")] {
        let shared = SharedFilter::parse(text).expect("shared").expect("valid");
        assert_eq!((shared.group, shared.filter.as_str()), (group, filter));
    }
}

/// The matcher once more, by recursion over the levels, for topics that are short.
fn oracle(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) => true,
        ([], []) => true,
        ([f, filter @ ..], [t, topic @ ..]) => (*f == "+" || f == t) && oracle(filter, topic),
        _ => false,
    }
}

proptest! {
    #[test]
    fn the_matcher_agrees_with_its_definition(
        filter in prop::collection::vec(prop::sample::select(vec!["a", "b", "", "+", "$x"]), 1..5),
        hash in any::<bool>(),
        topic in prop::collection::vec(prop::sample::select(vec!["a", "b", "", "$x"]), 1..5),
    ) {
        let levels: Vec<&str> = filter.into_iter().chain(hash.then_some("#")).collect();
        let (text, name) = (levels.join("/"), topic.join("/"));
        prop_assume!(!text.is_empty() && !name.is_empty());
        let hidden = name.starts_with('$') && ["+", "#"].contains(&levels[0]);
        prop_assert_eq!(matches(&text, &name), !hidden && oracle(&levels, &topic));
    }
}
