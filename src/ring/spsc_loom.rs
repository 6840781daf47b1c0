//! Every interleaving of producer and consumer at a tiny size.

use loom::thread;

use super::*;

#[test]
fn values_arrive_once_and_in_order() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring(2);
        let other = thread::spawn(move || {
            for value in 0..3_usize {
                while producer.push(value).is_err() {
                    thread::yield_now();
                }
            }
        });
        for expected in 0..3 {
            let value = loop {
                match consumer.pop() {
                    Some(value) => break value,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(value, expected);
        }
        other.join().expect("the producer ends");
        assert!(consumer.is_empty());
    });
}

#[test]
fn batches_arrive_whole_and_in_order() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring(2);
        let other = thread::spawn(move || {
            let mut values = (0..3_usize).peekable();
            while values.peek().is_some() {
                if producer.push_batch(&mut values) == 0 {
                    thread::yield_now();
                }
            }
        });
        let mut expected = 0;
        while expected < 3 {
            for value in consumer.drain(2) {
                assert_eq!(value, expected);
                expected += 1;
            }
            thread::yield_now();
        }
        other.join().expect("the producer ends");
    });
}

#[test]
fn what_is_left_is_dropped_by_the_last_side() {
    loom::model(|| {
        let witness = std::sync::Arc::new(());
        let (mut producer, mut consumer) = ring(2);
        let value = std::sync::Arc::clone(&witness);
        let other = thread::spawn(move || {
            let _ = producer.push(std::sync::Arc::clone(&value));
            let _ = producer.push(value);
        });
        drop(consumer.pop());
        drop(consumer);
        other.join().expect("the producer ends");
        assert_eq!(std::sync::Arc::strong_count(&witness), 1);
    });
}
