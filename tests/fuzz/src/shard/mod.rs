//! One shard or two, wired together and to clients by this file in place of the server: packets and noise cut anywhere, connections that break or never
//! take what they are sent, batches that come late or not at once, jumps of time, new limits at any moment.
//!
//! Nothing panics; nothing grows beyond its limit; what a client is sent keeps to the standard; each connection that the shard wants closed is named
//! once; what can be delivered is; and when all clients have gone and time has passed, nothing is left of them but retained messages, and these are in
//! the log if one is kept.

mod admission;
mod client;
mod ending;
mod limits;
mod log;
mod packets;
mod world;

use super::input::Input;
use world::World;

/// Operations of one input at most.
const STEPS: usize = 600;
/// Bytes that one input may make the broker hold at any moment, with all that the world around it holds.
const MEMORY: u64 = 32 * 1024 * 1024;

/// A sequence of operations, then the end of all clients.
pub fn run(data: &[u8]) {
    let held = allocation_counter::measure(|| {
        let mut input = Input::new(data);
        let mut world = World::new(&mut input);
        for _ in 0..STEPS {
            if input.is_empty() {
                break;
            }
            world.step(&mut input);
            world.check();
        }
        world.everything_arrives();
        world.check();
        world.everyone_leaves();
        world.check();
        world.time_passes();
        [1, 2].into_iter().for_each(|shards| world.the_log_is_read(shards));
    });
    assert!(held.bytes_max <= MEMORY, "{} bytes at once", held.bytes_max);
    assert_eq!(held.bytes_current, 0, "bytes that nobody owns");
}
