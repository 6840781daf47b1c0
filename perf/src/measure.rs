//! Where measurements run and what they cost: cores, CPU time of a process, the limit of descriptors, medians, the machine.

use std::io;

/// Pins the calling thread to a core. A machine that has no such core is an error, not a silent difference between two numbers.
pub fn pin(core: usize) -> io::Result<()> {
    if core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        Ok(())
    } else {
        Err(io::Error::other(format!("cannot run on core {core}")))
    }
}

/// Lets the calling thread go before all others on its core that are not as urgent.
pub fn go_first() -> io::Result<()> {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: reads one parameter.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &raw const lowest) } != 0 {
        let error = io::Error::last_os_error();
        return Err(io::Error::new(
            error.kind(),
            format!("cannot go before other processes (SCHED_RR): {error}; run as root, or without --realtime"),
        ));
    }
    Ok(())
}

/// CPU time of all threads of a process, in nanoseconds.
pub fn cpu_time_ns(pid: u32) -> io::Result<u64> {
    let mut clock = 0;
    // SAFETY: writes one clock id.
    let failed = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &raw mut clock) };
    if failed != 0 {
        return Err(io::Error::from_raw_os_error(failed));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Time that a core was not idle since the machine started, in seconds; in steps of the kernel's clock tick.
pub fn core_busy_s(core: usize) -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    /// Columns of /proc/stat in which a core does nothing: idle and waiting for a disk.
    const IDLE: [usize; 2] = [3, 4];
    /// The columns after these are contained in others.
    const COLUMNS: usize = 8;
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let name = format!("cpu{core} ");
    let Some(line) = stat.lines().find_map(|line| line.strip_prefix(&name)) else { return 0.0 };
    let columns = line.split_ascii_whitespace().take(COLUMNS).enumerate().filter(|(column, _)| !IDLE.contains(column));
    columns.filter_map(|(_, ticks)| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}

/// Descriptors for which there is room from the start.
const DESCRIPTORS_AT_ONCE: u64 = 65_536;

/// Raises the limit of descriptors as far as it goes and gives it; children inherit it.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes one rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: reads one rlimit.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // While the table of descriptors grows, and there are threads, the kernel makes us wait each time, which would be measured.
    let last = limit.rlim_cur.min(DESCRIPTORS_AT_ONCE).saturating_sub(1) as i32;
    let _ = std::fs::File::open("/dev/null").map(|file| rustix::io::fcntl_dupfd_cloexec(&file, last).map(drop));
    Ok(limit.rlim_cur)
}

/// Median, smallest and largest of some values; zeros of none.
pub fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (Some(&low), Some(&high)) = (sorted.first(), sorted.last()) else { return (0.0, 0.0, 0.0) };
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
    (median, low, high)
}

/// One line about the machine, for the record.
pub fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).map_or("", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    format!("{cores} x {model}")
}

/// The kernel's version.
pub fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// CPUs that a process may use, as the kernel lists them.
pub fn cpus_of(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.map_or_else(String::new, |list| list.trim().to_owned())
}
