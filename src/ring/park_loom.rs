//! Every interleaving of one sleeper and one producer. A lost wake-up leaves the sleeper blocked for good, which the checker calls a deadlock.

use loom::sync::{Arc, Notify};
use loom::thread;

use super::*;
use crate::ring::ring;

/// One message through a ring to a consumer that sleeps when it finds none, by the given steps of either side.
fn one_message(
    may_block: impl Fn(&Park, &dyn Fn() -> bool) -> bool + Copy + Send + Sync + 'static,
    wake: impl Fn(&Park, &dyn Fn()) + Copy + Send + Sync + 'static,
) {
    loom::model(move || {
        let park = Arc::new(Park::new());
        let bell = Arc::new(Notify::new());
        let (mut producer, mut consumer) = ring(2);
        let other = {
            let (park, bell) = (Arc::clone(&park), Arc::clone(&bell));
            thread::spawn(move || {
                producer.push(7_u32).expect("room");
                wake(&park, &|| bell.notify());
            })
        };
        let message = loop {
            if let Some(message) = consumer.pop() {
                break message;
            }
            if may_block(&park, &|| !consumer.is_empty()) {
                bell.wait();
                park.awake();
            }
        };
        assert_eq!(message, 7);
        other.join().expect("the producer ends");
    });
}

#[test]
fn no_wake_up_is_lost() {
    one_message(|park, has_work| park.prepare_to_sleep(has_work), |park, ring| park.wake(ring));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_sleepers_fence_a_wake_up_is_lost() {
    one_message(
        |park, has_work| {
            park.sleeping.store(true, Ordering::Relaxed);
            !has_work()
        },
        |park, ring| park.wake(ring),
    );
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_producers_fence_a_wake_up_is_lost() {
    one_message(
        |park, has_work| park.prepare_to_sleep(has_work),
        |park, ring| {
            if park.sleeping.load(Ordering::Relaxed) && park.sleeping.swap(false, Ordering::AcqRel) {
                ring();
            }
        },
    );
}
