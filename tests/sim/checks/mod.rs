//! The judges of a world. Each looks at the recorded history alone, and can fail.

mod accounting;
mod acks;
mod delivery;
mod expiry;
mod identifiers;
mod order;
mod replicas;
mod retained;
mod rot;
mod sessions;
mod timers;
mod wills;

use ringmq::config::QueueFull;

use crate::history::Event;
use crate::lives::Lives;
use crate::model::Model;
use crate::world::World;

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Violation {
    pub check: &'static str,
    pub what: String,
}

/// What all checkers find.
pub fn all(world: &World) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (seq, _, event) in world.history.iter() {
        if let Event::Broken { rule, what } = event {
            violations.push(Violation { check: "client", what: format!("{rule} at {seq}: {what}") });
        }
    }
    if violations.iter().any(|violation| violation.what.starts_with("comes to rest")) {
        // What is still under way cannot be judged.
        return violations;
    }
    let model = Model::new(&world.history);
    if rot::check(&world.history, &mut violations) {
        accounting::check(&model, &mut violations);
        return violations;
    }
    delivery::check(world, &model, &mut violations);
    order::check(&model, &mut violations);
    acks::check(&model, &mut violations);
    identifiers::check(&model, &mut violations);
    expiry::check(&model, &mut violations);
    replicas::check(&model, &mut violations);
    retained::check(world, &model, &mut violations);
    let lives = Lives::new(&world.history);
    if !world.settings.immortal() {
        sessions::check_presence(&model, &lives, &mut violations);
    } else {
        sessions::check(&model, &lives, &mut violations);
        timers::check(world, &model, &lives, &mut violations);
        wills::check(world.settings.tight() || world.settings.limits.queue_full == QueueFull::DropOldest, &model, &lives, &mut violations);
    }
    accounting::check(&model, &mut violations);
    violations
}
