//! What processes and the machine have used, read from /proc.

use std::fs;
use std::io;

use crate::measure;

/// A reading of one process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    pub cpu_ns: u64,
    /// Clock ticks in user mode and in the kernel.
    pub user_ticks: u64,
    pub system_ticks: u64,
    /// Resident bytes, and the most that there have been.
    pub rss: u64,
    pub peak_rss: u64,
}

impl Process {
    pub fn read(pid: u32) -> io::Result<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name of the process, in parentheses, may hold spaces.
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace().collect();
        let field = |index: usize| fields.get(index).and_then(|text| text.parse().ok()).unwrap_or(0);
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kilobytes = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
        };
        Ok(Process {
            cpu_ns: measure::cpu_time_ns(pid)?,
            user_ticks: field(11),
            system_ticks: field(12),
            rss: kilobytes("VmRSS:"),
            peak_rss: kilobytes("VmHWM:"),
        })
    }

    /// The part of the CPU time since `before` that was spent in user mode; 0 if there was none.
    pub fn user_share_since(&self, before: &Process) -> f64 {
        let user = (self.user_ticks - before.user_ticks) as f64;
        let all = user + (self.system_ticks - before.system_ticks) as f64;
        if all > 0.0 { user / all } else { 0.0 }
    }
}

/// CPU time that all of the machine has been busy, stolen time included, in seconds.
pub fn machine_busy_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<u64> = stat.lines().next().unwrap_or("").split_ascii_whitespace().skip(1).filter_map(|text| text.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guest time is part of user time already.
    let busy: u64 = ticks.iter().take(8).enumerate().filter(|(index, _)| !matches!(index, 3 | 4)).map(|(_, ticks)| ticks).sum();
    busy as f64 / rustix::param::clock_ticks_per_second() as f64
}
