//! A disk that lost some of what it had: that is told, the broker starts, and goes on without losing count.
//!
//! What is lost then is lost, and whoever knew of it, or of something that came after it, may be surprised in many ways: so little else can be judged. A
//! damaged record is never taken for another one.

use super::Violation;
use crate::history::{Event, History};

/// Whether there was rot.
pub fn check(history: &History, violations: &mut Vec<Violation>) -> bool {
    let mut rotten = false;
    for (seq, _, event) in history.iter() {
        if let Event::Rotten { bytes, damaged } = *event {
            rotten |= bytes > 0;
            if bytes > 0 && damaged == 0 {
                let what = format!("at {seq} {bytes} bytes were not what they had been, and nothing was said to be damaged");
                violations.push(Violation { check: "rot", what });
            }
        }
    }
    rotten
}
