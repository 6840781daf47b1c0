//! The judges of a world. Each looks at the recorded history alone, and can fail.

mod accounting;
mod acks;
mod delivery;
mod order;

use crate::history::Event;
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
    delivery::check(world, &model, &mut violations);
    order::check(&model, &mut violations);
    acks::check(&model, &mut violations);
    accounting::check(&model, &mut violations);
    violations
}
