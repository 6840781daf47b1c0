//! Signals as values: SIGINT and SIGTERM stop the broker in order, SIGHUP reloads the configuration. A second SIGINT or SIGTERM ends it at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Stop,
    Reload,
}

/// Exit code of a process that was told twice to stop: 128 + SIGINT, as shells write it.
const STOPPED_TWICE: i32 = 130;

/// Calls `handle` for each signal, one after the other, on a thread of its own.
///
/// # Errors
/// If the handlers or the thread cannot be installed.
pub fn watch(mut handle: impl FnMut(Signal) + Send + 'static) -> io::Result<()> {
    let asked_before = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The order matters: the first signal finds the flag down and raises it, the second finds it up.
        signal_hook::flag::register_conditional_shutdown(signal, STOPPED_TWICE, Arc::clone(&asked_before))?;
        signal_hook::flag::register(signal, Arc::clone(&asked_before))?;
    }
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let turn = move || {
        for signal in signals.forever() {
            handle(if signal == SIGHUP { Signal::Reload } else { Signal::Stop });
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(turn).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn signals_arrive_as_values_in_order() {
        let (sender, receiver) = std::sync::mpsc::channel();
        watch(move |signal| sender.send(signal).unwrap()).unwrap();
        for (signal, expected) in [(SIGHUP, Signal::Reload), (SIGTERM, Signal::Stop), (SIGHUP, Signal::Reload)] {
            signal_hook::low_level::raise(signal).unwrap();
            assert_eq!(receiver.recv_timeout(Duration::from_secs(10)), Ok(expected));
        }
    }
}
