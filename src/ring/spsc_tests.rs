//! The ring against a plain queue, under two threads, and what becomes of values that nobody takes.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Push,
    PushBatch(usize),
    Pop,
    Drain { max: usize, take: usize },
    Look,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Push),
        (0_usize..9).prop_map(Step::PushBatch),
        Just(Step::Pop),
        (0_usize..9, 0_usize..9).prop_map(|(max, take)| Step::Drain { max, take }),
        Just(Step::Look),
    ]
}

proptest! {
    #[test]
    fn behaves_like_a_bounded_queue(capacity in 1_usize..9, steps in prop::collection::vec(step(), 0..200)) {
        let (mut producer, mut consumer) = ring(capacity);
        let mut oracle = VecDeque::new();
        let capacity = capacity.next_power_of_two();
        let mut next = 0_u32;
        for step in steps {
            match step {
                Step::Push => {
                    let pushed = producer.push(next);
                    prop_assert_eq!(pushed, if oracle.len() < capacity { Ok(()) } else { Err(next) });
                    if pushed.is_ok() {
                        oracle.push_back(next);
                        next += 1;
                    }
                }
                Step::PushBatch(count) => {
                    let mut values = next..next + count as u32;
                    let pushed = producer.push_batch(&mut values);
                    prop_assert_eq!(pushed, count.min(capacity - oracle.len()));
                    prop_assert_eq!(values.start, next + pushed as u32, "no value is taken that finds no room");
                    oracle.extend(next..values.start);
                    next = values.start;
                }
                Step::Pop => prop_assert_eq!(consumer.pop(), oracle.pop_front()),
                Step::Drain { max, take } => {
                    let taken: Vec<u32> = consumer.drain(max).take(take).collect();
                    let expected: Vec<u32> = oracle.iter().copied().take(taken.len()).collect();
                    prop_assert_eq!(&taken, &expected);
                    prop_assert!(taken.len() <= max.min(take));
                    prop_assert!(!taken.is_empty() || max.min(take) == 0 || oracle.is_empty());
                    oracle.drain(..taken.len());
                }
                Step::Look => {
                    prop_assert_eq!(consumer.len(), oracle.len());
                    prop_assert_eq!(consumer.is_empty(), oracle.is_empty());
                    prop_assert_eq!(producer.vacant(), capacity - oracle.len());
                }
            }
        }
    }
}

#[test]
fn two_threads_hand_over_everything_in_order() {
    // Miri needs a thousand times as long.
    const VALUES: u64 = if cfg!(miri) { 500 } else { 300_000 };
    let (mut producer, mut consumer) = ring(64);
    let sender = std::thread::spawn(move || {
        let mut values = (0..VALUES).peekable();
        while let Some(&first) = values.peek() {
            let pushed = match first % 3 {
                0 => usize::from(producer.push(first).is_ok_and(|()| values.next().is_some())),
                _ => producer.push_batch(&mut values.by_ref().take(1 + first as usize % 17)),
            };
            if pushed == 0 {
                std::thread::yield_now();
            }
        }
    });
    let mut expected = 0;
    while expected < VALUES {
        let before = expected;
        for value in consumer.drain(1 + expected as usize % 29) {
            assert_eq!(value, expected);
            expected += 1;
        }
        if before == expected {
            std::thread::yield_now();
        }
    }
    sender.join().expect("the sender ends");
    assert!(consumer.is_empty() && consumer.pop().is_none());
}

#[test]
fn what_is_left_is_dropped_once() {
    let witness = Rc::new(());
    let (mut producer, mut consumer) = ring(8);
    for _ in 0..6 {
        assert!(producer.push(Rc::clone(&witness)).is_ok());
    }
    drop(consumer.pop());
    drop(consumer.drain(3).next());
    assert_eq!(Rc::strong_count(&witness), 1 + 4);
    drop(producer);
    assert_eq!(Rc::strong_count(&witness), 1 + 4, "the consumer may still read");
    drop(consumer);
    assert_eq!(Rc::strong_count(&witness), 1);
}

#[test]
fn a_panic_in_the_middle_of_a_batch_loses_and_doubles_nothing() {
    let witness = Rc::new(());
    let (mut producer, mut consumer) = ring(8);
    let mut values = (0..4).map(|n| if n < 3 { Rc::clone(&witness) } else { panic!("in the producer's iterator") });
    assert!(catch_unwind(AssertUnwindSafe(|| producer.push_batch(&mut values))).is_err());
    assert!(producer.push(Rc::clone(&witness)).is_ok());
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut drain = consumer.drain(8);
        let _value = drain.next();
        panic!("in the consumer");
    }));
    assert!(panicked.is_err());
    assert_eq!(consumer.drain(8).count(), 3, "one of four was taken by the drain that panicked");
    drop((producer, consumer, values));
    assert_eq!(Rc::strong_count(&witness), 1);
}

#[test]
fn a_forgotten_drain_doubles_nothing() {
    let witness = Rc::new(());
    let (mut producer, mut consumer) = ring(2);
    assert!(producer.push(Rc::clone(&witness)).is_ok());
    let mut drain = consumer.drain(1);
    drop(drain.next());
    std::mem::forget(drain);
    drop((producer, consumer));
    assert_eq!(Rc::strong_count(&witness), 1);
}

#[test]
fn a_side_knows_when_it_is_alone() {
    let (producer, consumer) = ring::<u8>(1);
    assert!(!producer.is_abandoned());
    drop(consumer);
    assert!(producer.is_abandoned());
}

#[test]
fn the_indices_do_not_share_a_cache_line() {
    let shared = std::mem::offset_of!(Shared<u8>, tail).abs_diff(std::mem::offset_of!(Shared<u8>, head));
    assert!(shared >= 128);
}
