//! The wheel against a list of deadlines, over spans from a millisecond to the end of time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const YEAR_MS: u64 = 365 * 24 * 3_600 * 1_000;

#[derive(Clone, Debug)]
enum Step {
    Schedule(u64),
    /// Cancel the one with this place among all that were ever scheduled.
    Cancel(usize),
    Advance(u64),
    /// To the time that the wheel asks for.
    Sleep,
}

fn span() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..10, 0u64..1_000, 0u64..100_000, 0u64..100_000_000, 0..136 * YEAR_MS]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => span().prop_map(Step::Schedule),
        1 => Just(Step::Schedule(u64::MAX)),
        3 => any::<prop::sample::Index>().prop_map(|i| Step::Cancel(i.index(200))),
        4 => span().prop_map(Step::Advance),
        4 => Just(Step::Sleep),
    ]
}

/// What is scheduled: by number, the deadline and when it was scheduled.
#[derive(Default)]
struct Oracle {
    now: u64,
    waiting: BTreeMap<usize, (u64, u64)>,
}

impl Oracle {
    /// The latest time at which the timer may fire, if the wheel is asked then.
    fn latest(&(deadline, scheduled): &(u64, u64)) -> u64 {
        deadline.max(scheduled).saturating_add(TICK_MS)
    }

    fn advance(&mut self, wheel: &mut Wheel<usize>, now: u64) {
        self.now = now;
        let mut previous = 0;
        while let Some(key) = wheel.pop(now) {
            let timer = self.waiting.remove(&key).expect("fires once, and not when cancelled");
            assert!(timer.0 <= now, "early: {timer:?} at {now}");
            let latest = Oracle::latest(&timer);
            assert!(latest + TICK_MS > previous, "out of order by more than a tick");
            previous = previous.max(latest);
        }
        for timer in self.waiting.values() {
            assert!(Oracle::latest(timer) > now || now == u64::MAX, "late: {timer:?} at {now}");
        }
    }

    fn check_next(&self, wheel: &Wheel<usize>) {
        assert_eq!(wheel.len(), self.waiting.len());
        assert_eq!(wheel.is_empty(), self.waiting.is_empty());
        let next = wheel.next_deadline();
        assert_eq!(next.is_none(), self.waiting.is_empty());
        if let (Some(next), Some(first)) = (next, self.waiting.values().map(Oracle::latest).min()) {
            assert!(next <= first, "would sleep until {next}, past {first}");
        }
    }
}

proptest! {
    #[test]
    fn timers_fire_when_due_and_only_then(start in prop_oneof![0u64..1_000, 0..100 * YEAR_MS], steps in prop::collection::vec(step(), 1..200)) {
        let mut wheel = Wheel::new(start);
        let mut oracle = Oracle { now: start, ..Oracle::default() };
        let mut ids = Vec::new();
        for step in steps {
            match step {
                Step::Schedule(span) => {
                    let deadline = oracle.now.saturating_add(span);
                    oracle.waiting.insert(ids.len(), (deadline, oracle.now));
                    ids.push(wheel.schedule(deadline, ids.len()));
                }
                Step::Cancel(n) => {
                    if let Some(&id) = ids.get(n) {
                        prop_assert_eq!(wheel.cancel(id), oracle.waiting.remove(&n).is_some());
                        prop_assert!(!wheel.cancel(id));
                    }
                }
                Step::Advance(span) => oracle.advance(&mut wheel, oracle.now.saturating_add(span)),
                Step::Sleep => {
                    if let Some(next) = wheel.next_deadline() {
                        oracle.advance(&mut wheel, next.max(oracle.now));
                        prop_assert!(wheel.next_deadline().is_none_or(|next| next > oracle.now || next == u64::MAX), "a busy loop");
                    }
                }
            }
            oracle.check_next(&wheel);
        }
        for (n, id) in ids.into_iter().enumerate() {
            prop_assert_eq!(wheel.cancel(id), oracle.waiting.remove(&n).is_some());
        }
        prop_assert_eq!(wheel.used, [0; LEVELS]);
        prop_assert!(wheel.lists.iter().all(|&list| list == NONE));
    }
}

/// Whoever sleeps as long as the wheel says is woken a few times at most, however far the deadline is.
#[test]
fn a_far_deadline_is_reached_in_few_wakes() {
    for deadline in [100, 60_000, YEAR_MS, 136 * YEAR_MS, u64::MAX / 2 + 12_345] {
        let mut wheel = Wheel::new(0);
        wheel.schedule(deadline, ());
        let mut wakes = 1;
        loop {
            let now = wheel.next_deadline().expect("it has not fired");
            if wheel.pop(now).is_some() {
                assert!((deadline..deadline + TICK_MS).contains(&now), "{deadline} fired at {now}");
                break;
            }
            wakes += 1;
        }
        assert!(wakes <= LEVELS, "{wakes} wakes until {deadline}");
    }
}

/// A handler that schedules for a time that has passed does not keep the loop running.
#[test]
fn a_timer_scheduled_while_handling_waits_for_the_next_tick() {
    let mut wheel = Wheel::new(0);
    wheel.schedule(1_000, 0);
    let mut fired = 0;
    while let Some(n) = wheel.pop(2_000) {
        fired += 1;
        wheel.schedule(500, n + 1);
    }
    assert_eq!(fired, 1);
    assert_eq!(wheel.pop(2_000 + TICK_MS), Some(1));
}

#[test]
fn timers_of_different_ticks_fire_in_order() {
    let mut wheel = Wheel::new(500);
    for n in (0..1_000u64).rev() {
        wheel.schedule(1_000 + n * n * TICK_MS, n);
    }
    let fired: Vec<_> = std::iter::from_fn(|| wheel.pop(10 * YEAR_MS)).collect();
    assert_eq!(fired, (0..1_000).collect::<Vec<_>>());
}

/// The id of a timer that has fired must not cancel the one that took its place.
#[test]
fn an_old_id_cancels_nothing() {
    let mut wheel = Wheel::new(0);
    let old = wheel.schedule(10, 'a');
    assert_eq!(wheel.pop(100), Some('a'));
    let new = wheel.schedule(500, 'b');
    assert_eq!(old.index, new.index);
    assert!(!wheel.cancel(old));
    assert!(wheel.cancel(new));
    assert_eq!(wheel.pop(YEAR_MS), None);
}

#[test]
fn a_full_wheel_allocates_nothing() {
    let mut wheel = Wheel::new(0);
    for n in 0..1_000u32 {
        wheel.schedule(u64::from(n) * 100, n);
    }
    let used = allocation_counter::measure(|| {
        for now in (0..1_000_000).step_by(50) {
            while let Some(n) = wheel.pop(now) {
                let id = wheel.schedule(now + 7_000, n);
                wheel.cancel(id);
                wheel.schedule(now + 60_000, n);
            }
        }
    });
    assert_eq!((used.count_total, wheel.len()), (0, 1_000));
}

/// A caller whose clock goes back gets nothing early and loses nothing.
#[test]
fn a_clock_that_goes_back_does_no_harm() {
    let mut wheel = Wheel::new(0);
    wheel.schedule(20_000, 'a');
    assert_eq!(wheel.pop(10_000), None);
    assert_eq!(wheel.pop(1_000), None);
    wheel.schedule(5_000, 'b');
    assert_eq!(wheel.pop(9_000), None);
    assert_eq!(wheel.pop(10_000 + TICK_MS), Some('b'));
    assert_eq!(wheel.pop(20_000 + TICK_MS), Some('a'));
}
