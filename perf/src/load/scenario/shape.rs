//! The shapes by name: who subscribes to what, and who publishes where.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Scenario;
use crate::load::plan::{Cell, PublisherPlan, SubscriberPlan};

/// How clients talk to one another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Each publisher has its own topic, and each topic subscribers of its own.
    Fanout,
    /// One-to-one: each publisher has a subscriber of its own.
    #[default]
    Pairs,
    /// Each publisher has its own topic; every subscriber gets all, by a wildcard.
    Fanin,
    /// As fan-in, but every subscriber names every topic.
    Mesh,
    /// As fan-in, but the subscribers share one subscription: each message goes to one of them.
    Shared,
    /// Publishers that nobody listens to.
    Sink,
    /// Connections with a keep-alive and one subscription each, then silence.
    Idle,
    /// Many distinct filters, publishes at random among them.
    Filters,
    /// Retained messages, then subscriptions that fetch them.
    Retained,
}

/// How a filter of the shape `filters` looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FilterKind {
    /// filters/7/temperature
    Exact,
    /// filters/7/+
    Plus,
    /// filters/7/#
    Hash,
}

/// The clients of a scenario. What cannot be cut into cells (fan-in) becomes one of its kind for each thread, side by side.
pub fn cells(scenario: &Scenario, threads: usize) -> Vec<Cell> {
    let (publishers, subscribers) = (scenario.publishers, scenario.subscribers);
    let topic = |kind: &str, number: usize| padded(format!("{kind}/{number}"), scenario.topic_bytes);
    match scenario.shape {
        Shape::Pairs => (0..publishers).map(|pair| at_home(one_topic(topic("pairs", pair), subscribers, 0), pair, scenario)).collect(),
        Shape::Fanout => {
            let slow = |number: usize| (number + 1) * scenario.slow / publishers - number * scenario.slow / publishers;
            (0..publishers).map(|number| one_topic(topic("fanout", number), subscribers, slow(number))).collect()
        }
        Shape::Sink => (0..publishers).map(|publisher| one_topic(topic("sink", publisher), 0, 0)).collect(),
        Shape::Idle => (0..subscribers).map(|client| idle(&format!("clients/{client}/inbox"))).collect(),
        Shape::Fanin | Shape::Mesh | Shape::Shared => many_to_many(scenario, threads),
        Shape::Filters => filters(scenario.filters, publishers, subscribers, scenario.filter_kind),
        Shape::Retained => Vec::new(),
    }
}

/// The connections that reconnect.
pub fn crowd(connections: usize) -> Vec<Cell> {
    (0..connections).map(|client| idle(&crowd_filter(client))).collect()
}

/// What one of them subscribes to.
pub fn crowd_filter(client: usize) -> String {
    format!("crowd/{client}/inbox")
}

/// A topic that is at least so long.
fn padded(mut topic: String, bytes: usize) -> String {
    topic.extend(std::iter::repeat_n('-', bytes.saturating_sub(topic.len())));
    topic
}

/// One publisher and the subscribers of its topic.
fn one_topic(topic: String, subscribers: usize, slow: usize) -> Cell {
    let subscriber = |slow| SubscriberPlan { filters: vec![topic.clone()], publishers: 0..1, shares: false, slow, home: 0 };
    Cell {
        subscribers: (0..subscribers).map(|_| subscriber(false)).chain((0..slow).map(|_| subscriber(true))).collect(),
        publishers: vec![PublisherPlan { topics: [topic.clone()].into(), fan: subscribers as u32, home: 0 }],
    }
}

/// The shards in turn: one for both sides of a pair, or one for each.
fn at_home(mut cell: Cell, pair: usize, scenario: &Scenario) -> Cell {
    let (shards, apart) = (usize::from(scenario.shards), usize::from(scenario.apart));
    cell.publishers.iter_mut().for_each(|publisher| publisher.home = (pair % shards) as u16);
    cell.subscribers.iter_mut().for_each(|subscriber| subscriber.home = ((pair + apart) % shards) as u16);
    cell
}

fn idle(topic: &str) -> Cell {
    let subscriber = SubscriberPlan { filters: vec![topic.to_owned()], publishers: 0..0, shares: false, slow: false, home: 0 };
    Cell { subscribers: vec![subscriber], publishers: Vec::new() }
}

fn many_to_many(scenario: &Scenario, threads: usize) -> Vec<Cell> {
    let (publishers, shares) = (scenario.publishers, scenario.shape == Shape::Shared);
    let cells = threads.min(publishers);
    let cell = |cell: usize| {
        let here = cell * publishers / cells..(cell + 1) * publishers / cells;
        let topics: Vec<String> = here.map(|publisher| padded(format!("fanin/{cell}/{publisher}"), scenario.topic_bytes)).collect();
        let filters = match scenario.shape {
            Shape::Mesh => topics.clone(),
            Shape::Shared => vec![format!("$share/benchmark/fanin/{cell}/#")],
            _ => vec![format!("fanin/{cell}/+")],
        };
        let heard = 0..topics.len();
        let subscriber = || SubscriberPlan { filters: filters.clone(), publishers: heard.clone(), shares, slow: false, home: 0 };
        let fan = if shares { 1 } else { scenario.subscribers as u32 };
        Cell {
            subscribers: (0..scenario.subscribers).map(|_| subscriber()).collect(),
            publishers: topics.into_iter().map(|topic| PublisherPlan { topics: [topic].into(), fan, home: 0 }).collect(),
        }
    };
    (0..cells).map(cell).collect()
}

/// Each subscriber has its share of the filters, and publishers of its own, so that what it must get of whom is known.
fn filters(filters: usize, publishers: usize, subscribers: usize, kind: FilterKind) -> Vec<Cell> {
    let cells = subscribers.min(filters).min(publishers);
    let filter = |number: usize| match kind {
        FilterKind::Exact => format!("filters/{number}/temperature"),
        FilterKind::Plus => format!("filters/{number}/+"),
        FilterKind::Hash => format!("filters/{number}/#"),
    };
    let cell = |cell: usize| {
        let here = cell * filters / cells..(cell + 1) * filters / cells;
        let topics: Arc<[String]> = here.clone().map(|number| format!("filters/{number}/temperature")).collect();
        let count = (cell + 1) * publishers / cells - cell * publishers / cells;
        Cell {
            subscribers: vec![SubscriberPlan {
                filters: here.map(filter).collect(),
                publishers: 0..count,
                shares: false,
                slow: false,
                home: 0,
            }],
            publishers: (0..count).map(|_| PublisherPlan { topics: Arc::clone(&topics), fan: 1, home: 0 }).collect(),
        }
    };
    (0..cells).map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringmq::mqtt::topic::{TopicFilter, TopicName};

    const SHAPES: [Shape; 7] = [Shape::Fanout, Shape::Pairs, Shape::Fanin, Shape::Mesh, Shape::Sink, Shape::Idle, Shape::Filters];

    /// Every topic reaches exactly as many subscribers as its publisher counts on, and only those that count on hearing it.
    #[test]
    fn every_publisher_is_heard_by_as_many_as_it_says() {
        for shape in SHAPES {
            for filter_kind in [FilterKind::Exact, FilterKind::Plus, FilterKind::Hash] {
                let scenario =
                    Scenario { shape, filter_kind, publishers: 7, subscribers: 3, filters: 50, topic_bytes: 40, ..Scenario::default() };
                check(shape, &cells(&scenario, 2));
            }
        }
    }

    fn check(shape: Shape, cells: &[Cell]) {
        for cell in cells {
            for (publisher, plan) in cell.publishers.iter().enumerate() {
                for topic in plan.topics.iter() {
                    let topic = TopicName::new(topic).unwrap();
                    let hears = |plan: &SubscriberPlan| plan.filters.iter().any(|filter| TopicFilter::new(filter).unwrap().matches(topic));
                    let count = cells.iter().flat_map(|cell| &cell.subscribers).filter(|plan| hears(plan)).count();
                    assert_eq!(count, plan.fan as usize, "{shape:?}");
                    assert!(cell.subscribers.iter().filter(|plan| hears(plan)).all(|plan| plan.publishers.contains(&publisher)));
                }
            }
        }
    }

    #[test]
    fn pairs_live_on_the_shards_in_turn() {
        for (apart, subscribers) in [(false, [0, 1, 0]), (true, [1, 0, 1])] {
            let scenario = Scenario { shape: Shape::Pairs, publishers: 3, shards: 2, apart, ..Scenario::default() };
            let cells = cells(&scenario, 1);
            assert_eq!(cells.iter().map(|cell| cell.publishers[0].home).collect::<Vec<_>>(), [0, 1, 0]);
            assert_eq!(cells.iter().map(|cell| cell.subscribers[0].home).collect::<Vec<_>>(), subscribers);
        }
    }

    #[test]
    fn slow_subscribers_are_dealt_out_and_do_not_count_as_heard() {
        let scenario = Scenario { shape: Shape::Fanout, publishers: 3, subscribers: 2, slow: 7, ..Scenario::default() };
        let cells = cells(&scenario, 1);
        assert_eq!(cells.iter().flat_map(|cell| &cell.subscribers).filter(|plan| plan.slow).count(), 7);
        assert!(cells.iter().all(|cell| cell.publishers[0].fan == 2));
    }
}
