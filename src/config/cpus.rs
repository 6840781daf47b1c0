//! A list of CPUs as Linux writes it: `0,2-5`.

use serde::{Deserialize, Serialize};

/// Highest CPU number that the kernel's CPU sets can name by default (`CPU_SETSIZE` - 1).
const MAX_CPU: u16 = 1023;

/// CPUs in ascending order, each once, at least one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuList(Vec<u16>);

impl CpuList {
    /// The CPU numbers, ascending.
    pub fn cpus(&self) -> &[u16] {
        &self.0
    }
}

impl std::str::FromStr for CpuList {
    type Err = String;

    /// Reads numbers and ranges separated by commas. Errors say what is wrong with which part.
    fn from_str(text: &str) -> Result<CpuList, String> {
        let mut cpus = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (cpu(first, part)?, cpu(last, part)?),
                None => (cpu(part, part)?, cpu(part, part)?),
            };
            if first > last {
                return Err(format!("`{part}` runs backwards, expected a list of CPUs such as \"0,2-5\""));
            }
            cpus.extend(first..=last);
        }
        cpus.sort_unstable();
        match cpus.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("CPU {} is named twice", pair[0])),
            None => Ok(CpuList(cpus)),
        }
    }
}

fn cpu(number: &str, part: &str) -> Result<u16, String> {
    match number.trim().parse() {
        Ok(cpu) if cpu <= MAX_CPU => Ok(cpu),
        _ => Err(format!("found `{part}`, expected a list of CPUs from 0 to {MAX_CPU} such as \"0,2-5\"")),
    }
}

impl TryFrom<String> for CpuList {
    type Error = String;

    fn try_from(text: String) -> Result<CpuList, String> {
        text.parse()
    }
}

impl From<CpuList> for String {
    fn from(list: CpuList) -> String {
        list.to_string()
    }
}

impl std::fmt::Display for CpuList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut rest = self.0.as_slice();
        while let Some(&first) = rest.first() {
            let run = rest.iter().zip(first..).take_while(|(cpu, expected)| *cpu == expected).count();
            let comma = if rest.len() == self.0.len() { "" } else { "," };
            match run {
                1 => write!(f, "{comma}{first}")?,
                _ => write!(f, "{comma}{first}-{}", rest[run - 1])?,
            }
            rest = &rest[run..];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ranges_are_read_and_written_in_the_shortest_form() {
        for (text, cpus, shown) in [
            ("0", &[0][..], "0"),
            ("0,2-5", &[0, 2, 3, 4, 5], "0,2-5"),
            ("5, 3,4", &[3, 4, 5], "3-5"),
            ("1023,0-1", &[0, 1, 1023], "0-1,1023"),
        ] {
            let list: CpuList = text.parse().unwrap();
            assert_eq!(list.cpus(), cpus);
            assert_eq!(list.to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_list_of_cpus_is_refused_with_the_part_that_is_wrong() {
        for (text, part) in [
            ("", "``"),
            ("a", "`a`"),
            ("0,,1", "``"),
            ("3-1", "`3-1`"),
            ("1-", "`1-`"),
            ("-1", "`-1`"),
            ("1024", "`1024`"),
            ("1-2-3", "`1-2-3`"),
        ] {
            let error = text.parse::<CpuList>().unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
        assert_eq!("1,0-1".parse::<CpuList>().unwrap_err(), "CPU 1 is named twice");
    }
}
