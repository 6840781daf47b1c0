//! Memory of the machine, as the kernel tells it.

use std::fs;
use std::io;

#[derive(Clone, Copy, Debug)]
pub struct Machine {
    pub available_bytes: u64,
    /// What the kernel holds for itself: slabs (sockets, files, operations in flight), stacks, page tables, vmalloc (file tables).
    pub kernel_bytes: u64,
}

/// The lines of /proc/meminfo that count as the kernel's own.
const KERNEL: [&str; 5] = ["Slab", "KernelStack", "PageTables", "VmallocUsed", "Percpu"];

impl Machine {
    pub fn read() -> io::Result<Machine> {
        let text = fs::read_to_string("/proc/meminfo")?;
        let lines = text.lines().filter_map(|line| {
            let (name, rest) = line.split_once(':')?;
            Some((name, rest.split_whitespace().next()?.parse::<u64>().ok()? * 1_024))
        });
        let mut machine = Machine { available_bytes: 0, kernel_bytes: 0 };
        for (name, bytes) in lines {
            if name == "MemAvailable" {
                machine.available_bytes = bytes;
            }
            if KERNEL.contains(&name) {
                machine.kernel_bytes += bytes;
            }
        }
        Ok(machine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_read() {
        let machine = Machine::read().unwrap();
        assert!(machine.available_bytes > 1 << 20 && machine.kernel_bytes > 1 << 20, "{machine:?}");
    }
}
