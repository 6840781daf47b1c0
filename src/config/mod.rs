//! Every setting, limit and default, typed, with the unit in the name.

mod limits;

pub use limits::{Limits, QueueFull};
