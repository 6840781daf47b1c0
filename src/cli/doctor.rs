//! `ringmq doctor`: what this machine allows, against what a number of connections needs, and what to do about the difference. Changes nothing.

use std::fs;

use clap::Args;

use crate::config::MAX_SHARDS;
use crate::server::driver::{probe, probe_direct_descriptors};

#[derive(Args, Clone, Debug, PartialEq)]
pub(super) struct DoctorArgs {
    /// Connections that the broker is to hold
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    connections: u64,
}

/// Memory of the broker for one idle connection with a subscription, and of the kernel for its socket, bytes (docs/OPERATIONS.md).
const BROKER_BYTES: u64 = 1_024;
const KERNEL_BYTES: u64 = 3_400;
/// File descriptors that the broker needs besides those of its clients.
const OWN_DESCRIPTORS: u64 = 64;
/// Connections that may come at once without waiting for a retransmission.
const BACKLOG: u64 = 4_096;
/// What one shard's ring may need of locked memory where the kernel still counts it, bytes.
const LOCKED_BYTES: u64 = 8 * 1024 * 1024;

/// What the machine says of itself.
#[derive(Clone, Debug)]
struct Machine {
    kernel: String,
    io_uring: Result<(), String>,
    /// Whether connections may stand in tables of the shards instead of the process's.
    direct_descriptors: bool,
    /// Shards that a broker has here unless it is told otherwise.
    shards: u64,
    /// Hard limit, because the broker raises the soft one to it.
    descriptors: u64,
    /// What the hard limit may be raised to.
    descriptors_ceiling: u64,
    locked_bytes: u64,
    somaxconn: u64,
    available_bytes: u64,
    /// Entries of the connection tracking table; `None` where nothing is tracked.
    tracked: Option<u64>,
}

/// One finding: what it is, whether it will do, and if not, what helps.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    what: &'static str,
    found: String,
    remedy: Option<String>,
}

pub(super) fn run(args: &DoctorArgs) -> Result<(), String> {
    let findings = examine(&Machine::read(), args.connections);
    let mut text = format!("For {} connections on this machine:\n", args.connections);
    for finding in &findings {
        text.push_str(&render(finding));
    }
    let wanting = findings.iter().filter(|finding| finding.remedy.is_some()).count();
    text.push_str(&match wanting {
        0 => "Nothing is in the way.\n".to_owned(),
        1 => "1 thing is in the way.\n".to_owned(),
        n => format!("{n} things are in the way.\n"),
    });
    super::print(text.as_bytes())?;
    if wanting == 0 { Ok(()) } else { Err(String::new()) }
}

fn render(finding: &Finding) -> String {
    let mark = if finding.remedy.is_none() { "ok  " } else { "MEND" };
    let mut line = format!("{mark}  {:<18} {}\n", finding.what, finding.found);
    if let Some(remedy) = &finding.remedy {
        line.push_str(&format!("{:26}{remedy}\n", ""));
    }
    line
}

fn examine(machine: &Machine, connections: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |what, found: String, remedy: Option<String>| findings.push(Finding { what, found, remedy });
    add("kernel", machine.kernel.clone(), None);
    match &machine.io_uring {
        Ok(()) => add("io_uring", "usable".to_owned(), None),
        Err(why) => add("io_uring", "not usable: epoll does the work, at a higher price per message".to_owned(), Some(why.clone())),
    }
    let needed = connections + OWN_DESCRIPTORS;
    let (found, remedy) = descriptors(machine, connections);
    add("file descriptors", found, remedy);
    add(
        "locked memory",
        bytes(machine.locked_bytes),
        short(machine.locked_bytes, LOCKED_BYTES, || "LimitMEMLOCK=infinity in the service's unit, or `ulimit -l unlimited`".to_owned()),
    );
    let backlog = connections.min(BACKLOG);
    add(
        "listen backlog",
        format!("net.core.somaxconn {}", machine.somaxconn),
        short(machine.somaxconn, backlog, || {
            format!("sysctl net.core.somaxconn={BACKLOG}: clients that all come at once wait a second else")
        }),
    );
    let memory = connections * (BROKER_BYTES + KERNEL_BYTES);
    add("memory", format!("{} free, about {} needed while they are idle", bytes(machine.available_bytes), bytes(memory)), {
        short(machine.available_bytes, memory, || "more memory, or fewer connections".to_owned())
    });
    match machine.tracked {
        None => add("connection tracking", "off".to_owned(), None),
        Some(entries) => add(
            "connection tracking",
            format!("{entries} entries"),
            short(entries, needed, || {
                format!("sysctl net.netfilter.nf_conntrack_max={}, or no tracking for the broker's port", needed * 2)
            }),
        ),
    }
    findings
}

/// With direct descriptors the limit of the process bounds each shard, not all of them together.
fn descriptors(machine: &Machine, connections: u64) -> (String, Option<String>) {
    let (limit, needed) = (machine.descriptors, connections + OWN_DESCRIPTORS);
    if limit >= needed {
        return (format!("{limit} per process"), None);
    }
    let raise = if machine.descriptors_ceiling < needed {
        format!("sysctl fs.nr_open={needed}, then LimitNOFILE={needed} in the service's unit (or `ulimit -Hn`)")
    } else {
        format!("LimitNOFILE={needed} in the service's unit, or `ulimit -Hn {needed}` before the start")
    };
    // Clients spread over the shards by chance, and some entries are for those on their way.
    let shards = (connections + connections / 16).div_ceil(limit.max(1));
    if !machine.direct_descriptors || shards > u64::from(MAX_SHARDS) {
        return (format!("{limit} per process"), Some(raise));
    }
    let shards = shards.max(machine.shards);
    let remedy = format!("{raise}; or, if that cannot be, direct descriptors: --set io.direct_descriptors=on --shards {shards}");
    (format!("{limit} per process"), Some(remedy))
}

/// The remedy where there is less than needed.
fn short(have: u64, needed: u64, remedy: impl FnOnce() -> String) -> Option<String> {
    (have < needed).then(remedy)
}

fn bytes(count: u64) -> String {
    match count {
        u64::MAX => "unlimited".to_owned(),
        _ if count >= 1 << 30 => format!("{:.1} GiB", count as f64 / (1_u64 << 30) as f64),
        _ if count >= 1 << 20 => format!("{} MiB", count >> 20),
        _ => format!("{} KiB", count >> 10),
    }
}

impl Machine {
    fn read() -> Machine {
        use rustix::process::{Resource, getrlimit};
        let hard = |resource| getrlimit(resource).maximum.unwrap_or(u64::MAX);
        Machine {
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned()),
            io_uring: probe().map_err(|why| why.to_string()),
            direct_descriptors: probe_direct_descriptors().is_ok(),
            shards: std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64),
            descriptors: hard(Resource::Nofile),
            descriptors_ceiling: number("/proc/sys/fs/nr_open").unwrap_or(u64::MAX),
            locked_bytes: hard(Resource::Memlock),
            somaxconn: number("/proc/sys/net/core/somaxconn").unwrap_or(u64::MAX),
            available_bytes: available_bytes().unwrap_or(u64::MAX),
            tracked: number("/proc/sys/net/netfilter/nf_conntrack_max"),
        }
    }
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn available_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn big_server() -> Machine {
        Machine {
            kernel: "6.12.0".to_owned(),
            io_uring: Ok(()),
            direct_descriptors: true,
            shards: 8,
            descriptors: 2_000_000,
            descriptors_ceiling: 2_000_000,
            locked_bytes: u64::MAX,
            somaxconn: 4_096,
            available_bytes: 64 << 30,
            tracked: None,
        }
    }

    fn remedies(machine: &Machine, connections: u64) -> Vec<(&'static str, String)> {
        examine(machine, connections).into_iter().filter_map(|finding| Some((finding.what, finding.remedy?))).collect()
    }

    #[test]
    fn a_machine_that_has_everything_is_told_so() {
        assert_eq!(remedies(&big_server(), 1_000_000), []);
    }

    #[test]
    fn each_shortage_is_found_and_has_its_remedy() {
        let whole = big_server();
        for (machine, what, remedy) in [
            (Machine { io_uring: Err("seccomp".to_owned()), ..whole.clone() }, "io_uring", "seccomp"),
            (Machine { descriptors: 20_000, ..whole.clone() }, "file descriptors", "LimitNOFILE=1000064 in"),
            (Machine { descriptors: 20_000, descriptors_ceiling: 20_000, ..whole.clone() }, "file descriptors", "fs.nr_open=1000064"),
            (Machine { locked_bytes: 64 << 10, ..whole.clone() }, "locked memory", "LimitMEMLOCK"),
            (Machine { somaxconn: 128, ..whole.clone() }, "listen backlog", "net.core.somaxconn=4096"),
            (Machine { available_bytes: 1 << 30, ..whole.clone() }, "memory", "fewer connections"),
            (Machine { tracked: Some(65_536), ..whole.clone() }, "connection tracking", "nf_conntrack_max=2000128"),
        ] {
            let found = remedies(&machine, 1_000_000);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].0 == what && found[0].1.contains(remedy), "{found:?}");
        }
    }

    #[test]
    fn shards_with_tables_of_their_own_make_up_for_few_descriptors() {
        let few = Machine { descriptors: 20_000, ..big_server() };
        assert!(remedies(&few, 140_000)[0].1.contains("io.direct_descriptors=on --shards 8"), "{:?}", remedies(&few, 140_000));
        let found = remedies(&few, 1_000_000);
        assert!(found[0].1.ends_with("--shards 54"), "{found:?}");
        let found = remedies(&Machine { direct_descriptors: false, ..few.clone() }, 140_000);
        assert!(found[0].1.contains("LimitNOFILE=140064") && !found[0].1.contains("--shards"), "{found:?}");
        let found = remedies(&Machine { descriptors: 1_000, ..few }, 1_000_000);
        assert!(!found[0].1.contains("--shards"), "a thousand shards are too many: {found:?}");
    }

    #[test]
    fn this_machine_can_be_read() {
        let machine = Machine::read();
        assert!(machine.descriptors > 0 && machine.kernel != "unknown");
        let text: String = examine(&machine, 1).iter().map(render).collect();
        assert!(text.contains("file descriptors"), "{text}");
    }
}
