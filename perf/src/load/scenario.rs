//! The scenarios by name: who subscribes to what, who publishes where, and the sizes that people know them by.

use std::sync::Arc;

use clap::ValueEnum;

use super::plan::{Cell, PublisherPlan, SubscriberPlan};

/// What the load is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Many publishers, each on its own topic; every subscriber gets all [1000 -> 1]
    Fanin,
    /// One-to-one: each publisher has a subscriber of its own [100 pairs]
    Pairs,
    /// One publisher, every subscriber gets all [1 -> 1000]
    Fanout,
    /// Amlen's broadcast: a publisher a topic, many subscribers each [10 topics x 1000]
    Bignum,
    /// Publishers that nobody listens to [1000]
    Sink,
    /// Fan-in at a fixed rate, for its latencies [100 -> 1 at 20,000/s]
    Latency,
    /// Connections with a keep-alive and one subscription each, then silence [10,000]
    Connect,
    /// Many distinct filters, then publishes at random among them [100,000]
    Filters,
}

/// How a filter of the scenario `filters` looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FilterKind {
    /// filters/7/temperature
    Exact,
    /// filters/7/+
    Plus,
    /// filters/7/#
    Hash,
}

/// Sizes that a user has given; each scenario knows its own for the rest.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Sizes {
    /// Publishers (pairs: pairs; bignum: topics)
    #[arg(long)]
    pub publishers: Option<usize>,
    /// Subscribers (bignum: of each topic; connect: connections)
    #[arg(long)]
    pub subscribers: Option<usize>,
    /// Filters of the scenario `filters`
    #[arg(long)]
    pub filters: Option<usize>,
}

impl Scenario {
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Messages in flight per publisher where the user says nothing.
    pub fn window(self) -> u32 {
        match self {
            Scenario::Bignum => 256,
            Scenario::Fanout => 64,
            _ => 32,
        }
    }

    /// Messages per second where the user says nothing.
    pub fn rate(self) -> Option<u64> {
        (self == Scenario::Latency).then_some(20_000)
    }

    /// The clients, in cells for `threads` threads. Fan-in on several threads is several fan-ins side by side.
    pub fn cells(self, sizes: &Sizes, kind: FilterKind, threads: usize) -> Vec<Cell> {
        let publishers = |usual: usize| sizes.publishers.unwrap_or(usual).max(1);
        let subscribers = |usual: usize| sizes.subscribers.unwrap_or(usual).max(1);
        match self {
            Scenario::Fanin => fanin(publishers(1000), subscribers(1), threads),
            Scenario::Latency => fanin(publishers(100), subscribers(1), threads),
            Scenario::Pairs => (0..publishers(100)).map(|pair| one_topic(&format!("pairs/{pair}"), 1)).collect(),
            Scenario::Fanout => (0..publishers(1)).map(|topic| one_topic(&format!("fanout/{topic}"), subscribers(1000))).collect(),
            Scenario::Bignum => (0..publishers(10)).map(|topic| one_topic(&format!("bignum/{topic}"), subscribers(1000))).collect(),
            Scenario::Sink => (0..publishers(1000)).map(|publisher| one_topic(&format!("sink/{publisher}"), 0)).collect(),
            Scenario::Connect => (0..subscribers(10_000)).map(|client| idle(&format!("clients/{client}/inbox"))).collect(),
            Scenario::Filters => filters(sizes.filters.unwrap_or(100_000).max(1), publishers(100), subscribers(10), kind),
        }
    }
}

/// One publisher and the subscribers of its topic.
fn one_topic(topic: &str, subscribers: usize) -> Cell {
    Cell {
        subscribers: (0..subscribers).map(|_| SubscriberPlan { filters: vec![topic.to_owned()], publishers: 0..1 }).collect(),
        publishers: vec![PublisherPlan { topics: [topic.to_owned()].into(), fan: subscribers as u32 }],
    }
}

fn idle(topic: &str) -> Cell {
    Cell { subscribers: vec![SubscriberPlan { filters: vec![topic.to_owned()], publishers: 0..0 }], publishers: Vec::new() }
}

fn fanin(publishers: usize, subscribers: usize, threads: usize) -> Vec<Cell> {
    let cells = threads.min(publishers);
    (0..cells)
        .map(|cell| {
            let here = cell * publishers / cells..(cell + 1) * publishers / cells;
            let heard = 0..here.len();
            Cell {
                subscribers: (0..subscribers)
                    .map(|_| SubscriberPlan { filters: vec![format!("fanin/{cell}/+")], publishers: heard.clone() })
                    .collect(),
                publishers: here
                    .map(|publisher| PublisherPlan { topics: [format!("fanin/{cell}/{publisher}")].into(), fan: subscribers as u32 })
                    .collect(),
            }
        })
        .collect()
}

/// Each subscriber has its share of the filters, and publishers of its own, so that what it must get of whom is known.
fn filters(filters: usize, publishers: usize, subscribers: usize, kind: FilterKind) -> Vec<Cell> {
    let cells = subscribers.min(filters).min(publishers);
    let filter = |number: usize| match kind {
        FilterKind::Exact => format!("filters/{number}/temperature"),
        FilterKind::Plus => format!("filters/{number}/+"),
        FilterKind::Hash => format!("filters/{number}/#"),
    };
    (0..cells)
        .map(|cell| {
            let here = cell * filters / cells..(cell + 1) * filters / cells;
            let topics: Arc<[String]> = here.clone().map(|number| format!("filters/{number}/temperature")).collect();
            let count = (cell + 1) * publishers / cells - cell * publishers / cells;
            Cell {
                subscribers: vec![SubscriberPlan { filters: here.map(filter).collect(), publishers: 0..count }],
                publishers: (0..count).map(|_| PublisherPlan { topics: Arc::clone(&topics), fan: 1 }).collect(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringmq::mqtt::topic::{TopicFilter, TopicName};

    /// Every topic reaches exactly as many subscribers as its publisher counts on, and only those that count on hearing it.
    #[test]
    fn every_publisher_is_heard_by_as_many_as_it_says() {
        let sizes = Sizes { publishers: Some(7), subscribers: Some(3), filters: Some(50) };
        for scenario in Scenario::value_variants() {
            for kind in FilterKind::value_variants() {
                let cells = scenario.cells(&sizes, *kind, 2);
                for (place, cell) in cells.iter().enumerate() {
                    for (publisher, plan) in cell.publishers.iter().enumerate() {
                        for topic in plan.topics.iter() {
                            let topic = TopicName::new(topic).unwrap();
                            let hears =
                                |plan: &SubscriberPlan| plan.filters.iter().any(|filter| TopicFilter::new(filter).unwrap().matches(topic));
                            let count = cells.iter().flat_map(|cell| &cell.subscribers).filter(|plan| hears(plan)).count();
                            assert_eq!(count, plan.fan as usize, "{scenario:?} cell {place}");
                            assert!(cell.subscribers.iter().filter(|plan| hears(plan)).all(|plan| plan.publishers.contains(&publisher)));
                        }
                    }
                }
            }
        }
    }
}
