//! The house's rules as tests: they read the sources, and name file, line and what to do instead.
//!
//! Each rule is a function over one file's text, and is shown to fail on a planted text beside it. The rules lean on rustfmt (a function ends at the
//! first `}` of its own indentation), so that no parser is needed. What clippy can hold (clocks and unordered maps in the core, SAFETY comments) it
//! holds as well, see `clippy.toml`; here it also holds for builds without clippy.

use std::fmt;
use std::fs;
use std::path::Path;

const MAX_FILE_LINES: usize = 600;
const MAX_FUNCTION_LINES: usize = 70;

/// Functions that may be longer, with their length today: one flat `match` each, or an old one that shrinks when touched. None may grow.
const LONG_FUNCTIONS: &[(&str, &str, usize)] = &[];

/// What each layer of `src/` may use beside itself. An arrow only points down.
const LAYERS: &[(&str, &[&str])] = &[
    ("mqtt", &[]),
    ("ring", &[]),
    ("config", &[]),
    ("metrics", &[]),
    ("broker", &["mqtt", "metrics", "config"]),
    ("storage", &["ring", "metrics", "config"]),
    ("server", &["storage", "broker", "ring", "mqtt", "metrics", "config"]),
    // Bytes in, batches out: it knows the broker's ids and output, and nothing of MQTT.
    ("server/driver", &["broker", "ring"]),
    ("cli", &["server", "storage", "broker", "ring", "mqtt", "metrics", "config"]),
];

/// Folders with `unsafe` code; `perf/` measures the bare system calls.
const UNSAFE_FOLDERS: &[&str] = &["src/ring/", "src/server/driver/", "perf/"];

/// Folders of the core: no I/O, no clock, no thread, nothing that differs from run to run.
const CORE_FOLDERS: &[&str] = &["src/broker/", "src/mqtt/"];

/// What the core may not name, and what it does instead.
const CORE_BANS: &[(&str, &str)] = &[
    ("Instant::now", "take `now` as a parameter"),
    ("SystemTime", "take `now` as a parameter"),
    ("std::thread", "a shard is synchronous: leave threads to the server"),
    ("thread::sleep", "use a timer of the wheel"),
    ("std::fs", "leave I/O to the shell"),
    ("std::env", "take it from the configuration"),
    ("std::process", "leave the process to the server"),
    ("TcpStream", "leave sockets to the drivers"),
    ("UdpSocket", "leave sockets to the drivers"),
    ("std::collections::HashMap", "use hashbrown's with a fixed or seeded hasher: a run must be repeatable"),
    ("std::collections::HashSet", "use hashbrown's with a fixed or seeded hasher: a run must be repeatable"),
    ("RandomState", "take the seed of the shard: a run must be repeatable"),
    ("thread_rng", "take the seed of the shard: a run must be repeatable"),
];

/// What is left over from writing, and what to do about it. Banned in every file.
const LEFT_OVERS: &[(&str, &str)] = &[
    ("TODO", "do it, or open an issue"),
    ("FIXME", "fix it, or open an issue"),
    ("XXX", "say what is wrong, or mend it"),
    ("HACK", "say why it must be so, or mend it"),
    ("dbg!(", "remove it"),
    ("todo!(", "write it"),
    ("unimplemented!(", "write it"),
    ("#[ignore", "repair or delete the test"),
    ("allow(dead_code", "delete what is unused"),
    ("allow(unused", "delete what is unused"),
    ("allow(warnings", "heed the warnings"),
];

/// Paths that exist on one machine only.
const MACHINE_PATHS: &[&str] = &["/home/", "/root/", "/work/", "/Users/", "/mnt/", "C:\\\\"];

/// Hosts that a URL may name: what everybody can reach and what stays.
const HOSTS: &[&str] =
    &["github.com", "docs.rs", "docs.oasis-open.org", "crates.io", "www.apache.org", "mosquitto.org", "man7.org", "www.freedesktop.org"];

/// Waiting for a while instead of for a condition: in a test it is slow or wrong, or both.
const SLEEPS: &[&str] = &["thread::sleep", "time.sleep(", "setTimeout("];

/// Where time itself is the subject, or the pace of a load.
const MAY_SLEEP: &[&str] = &["perf/", "examples/", "docs/", "tests/protocol/keep_alive.rs"];

/// These name what they ban.
const NAME_WHAT_THEY_BAN: &[&str] = &["tests/tidy.rs", "clippy.toml"];

/// A breach of a rule.
#[derive(Clone, Debug, PartialEq)]
struct Finding {
    path: String,
    line: usize,
    text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.text)
    }
}

/// One file: its path from the root of the repository, with `/`, and its text.
struct Source<'a> {
    path: &'a str,
    text: &'a str,
}

impl Source<'_> {
    fn finding(&self, index: usize, text: impl Into<String>) -> Finding {
        Finding { path: self.path.to_owned(), line: index + 1, text: text.into() }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Lines with their index, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().map(without_comment).enumerate()
    }
}

/// A line of Rust up to its comment. A `//` in a string literal is none.
fn without_comment(line: &str) -> &str {
    let mut in_string = false;
    let mut previous = ' ';
    for (at, char) in line.char_indices() {
        match char {
            '"' if previous != '\\' && previous != '\'' => in_string = !in_string,
            '/' if previous == '/' && !in_string => return &line[..at - 1],
            _ => {}
        }
        previous = if previous == '\\' && char == '\\' { ' ' } else { char };
    }
    line
}

/// Files stay small enough to be read at once.
fn file_length(source: &Source<'_>) -> Vec<Finding> {
    let lines = source.text.lines().count();
    let too_long = source.is_rust() && lines > MAX_FILE_LINES;
    let text = format!("{lines} lines, {MAX_FILE_LINES} at most: cut it by responsibility");
    too_long.then(|| source.finding(0, text)).into_iter().collect()
}

/// A file opens with what it is for.
fn opening(source: &Source<'_>) -> Vec<Finding> {
    let opens = !source.is_rust() || source.text.trim_start_matches("#![cfg(test)]\n").starts_with("//! ");
    if opens { Vec::new() } else { vec![source.finding(0, "no `//!` at the top: say what the file is for")] }
}

/// Functions of a file: index of the first line, name, number of lines.
fn functions<'a>(source: &'a Source<'_>) -> Vec<(usize, &'a str, usize)> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in source.code() {
        let body = line.trim_start();
        let Some((before, after)) = body.split_once("fn ") else { continue };
        let is_definition = before.split_whitespace().all(|word| {
            word.starts_with("pub")
                || matches!(word, "const" | "async" | "unsafe" | "extern" | "\"C\"" | "in" | "default")
                || word.ends_with(')')
        });
        let name = after.split(['(', '<']).next().unwrap_or("");
        if !is_definition || name.is_empty() || line.trim_end().ends_with([';', '}']) {
            continue;
        }
        let end = format!("{}}}", &line[..line.len() - body.len()]);
        let length = lines[start..].iter().position(|line| *line == end).map_or(1, |last| last + 1);
        found.push((start, name, length));
    }
    found
}

/// Functions stay small enough to be understood at once; those of `LONG_FUNCTIONS` may only shrink.
fn function_length(source: &Source<'_>, long: &[(&str, &str, usize)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !source.is_rust() {
        return findings;
    }
    for (index, name, length) in functions(source) {
        let allowed = long.iter().find(|(path, function, _)| *path == source.path && *function == name).map(|&(_, _, length)| length);
        match allowed {
            Some(allowed) if length < allowed => {
                findings.push(
                    source.finding(index, format!("`{name}` has shrunk to {length} lines: write that into LONG_FUNCTIONS, or take it out")),
                );
            }
            Some(allowed) if length == allowed => {}
            _ if length > MAX_FUNCTION_LINES => {
                let text = format!("`{name}` has {length} lines, {MAX_FUNCTION_LINES} at most: cut it, or call its parts by name");
                findings.push(source.finding(index, text));
            }
            _ => {}
        }
    }
    findings
}

/// Top-level modules of the crate that a file names, with the index of the line: `crate::x`, `crate::{x, y}`, and `super::` that climbs to the root.
fn modules_used(source: &Source<'_>) -> Vec<(usize, String)> {
    let depth = module_depth(source.path);
    let code: String = source.code().map(|(_, line)| format!("{line}\n")).collect();
    let mut used = Vec::new();
    let climb = "super::".repeat(depth.max(1));
    for start in [String::from("crate::"), climb] {
        for (at, _) in code.match_indices(&start) {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            if before.is_alphanumeric() || before == '_' || (before == ':' && start != "crate::") {
                continue;
            }
            let line = code[..at].matches('\n').count();
            let rest = &code[at + start.len()..];
            used.extend(first_segments(rest).into_iter().map(|segment| (line, segment)));
        }
    }
    used
}

/// How many `super::` lead from a file of `src/` to the root of the crate.
fn module_depth(path: &str) -> usize {
    let parts = path.trim_start_matches("src/").split('/').count();
    if path.ends_with("/mod.rs") { parts - 1 } else { parts }
}

/// The first segment of each path in what follows a `::`, which may be a group.
fn first_segments(rest: &str) -> Vec<String> {
    let word = |text: &str| text.trim_start().chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect::<String>();
    let Some(group) = rest.strip_prefix('{') else { return vec![word(rest)] };
    let mut level = 0;
    let mut segments = vec![word(group)];
    for (at, char) in group.char_indices() {
        match char {
            '{' => level += 1,
            '}' if level == 0 => break,
            '}' => level -= 1,
            ',' if level == 0 => segments.push(word(&group[at + 1..])),
            _ => {}
        }
    }
    segments.retain(|segment| !segment.is_empty());
    segments
}

/// The entry of `LAYERS` for a file of `src/`: the longest that leads to it.
fn layer_of(path: &str) -> Option<&'static (&'static str, &'static [&'static str])> {
    let leads = |name: &str| path.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'));
    LAYERS.iter().filter(|(name, _)| leads(name)).max_by_key(|(name, _)| name.len())
}

/// No layer names one above it.
fn layers(source: &Source<'_>) -> Vec<Finding> {
    let Some(path) = source.path.strip_prefix("src/").filter(|path| path.contains('/')) else { return Vec::new() };
    let Some((layer, below)) = layer_of(path) else {
        return vec![source.finding(0, "this folder has no place in LAYERS: say what it may use")];
    };
    let known = |name: &str| LAYERS.iter().any(|(layer, _)| *layer == name);
    let upward = |name: &str| known(name) && !layer.starts_with(name) && !below.contains(&name);
    let text = |name: &str| format!("`{layer}` uses `{name}`, which stands above or beside it: hand the thing in, or move it down");
    modules_used(source).into_iter().filter(|(_, name)| upward(name)).map(|(index, name)| source.finding(index, text(&name))).collect()
}

/// `unsafe` stays in its folders, and says each time why it is sound.
fn unsafe_code(source: &Source<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !source.is_rust() {
        return findings;
    }
    let lines: Vec<&str> = source.text.lines().collect();
    for (index, line) in source.code() {
        let uses = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].iter().any(|form| line.contains(form));
        if !uses || line.contains('"') {
            continue;
        }
        if !UNSAFE_FOLDERS.iter().any(|folder| source.path.starts_with(folder)) {
            findings.push(source.finding(index, format!("`unsafe` outside of {}: use safe code", UNSAFE_FOLDERS.join(", "))));
        }
        let above = lines[..index].iter().rev().take(12).take_while(|line| !line.trim().is_empty());
        let explained = above.chain([&lines[index]]).any(|line| line.contains("SAFETY:") || line.contains("# Safety"));
        if !explained {
            findings.push(source.finding(index, "`unsafe` without a `// SAFETY:` comment above it: say why it is sound"));
        }
    }
    findings
}

/// The core does no I/O, asks for no time, and does the same in every run.
fn core_is_sans_io(source: &Source<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !CORE_FOLDERS.iter().any(|folder| source.path.starts_with(folder)) {
        return findings;
    }
    for (index, line) in source.code() {
        for (banned, instead) in CORE_BANS.iter().filter(|(banned, _)| line.contains(banned)) {
            findings.push(source.finding(index, format!("`{banned}` in the core: {instead}")));
        }
    }
    findings
}

/// Nothing is left over, nothing points at somebody's machine, no test sleeps.
fn words(source: &Source<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let may_sleep = MAY_SLEEP.iter().any(|place| source.path.starts_with(place));
    // Machines wrote these; only where their contents come from is ours.
    let is_lock = source.path.ends_with("Cargo.lock") || source.path.ends_with("package-lock.json");
    for (index, line) in source.text.lines().enumerate() {
        if is_lock && !line.contains("source") && !line.contains("resolved") {
            continue;
        }
        for (banned, instead) in LEFT_OVERS.iter().filter(|(banned, _)| line.contains(banned)) {
            findings.push(source.finding(index, format!("`{banned}`: {instead}")));
        }
        for path in MACHINE_PATHS.iter().filter(|path| line.contains(*path)) {
            findings.push(source.finding(index, format!("`{path}` is a path of one machine: find it at run time, or leave it out")));
        }
        for host in hosts(line).into_iter().filter(|host| !HOSTS.contains(host)) {
            findings.push(
                source
                    .finding(index, format!("the host `{host}`: leave it out, or add it to HOSTS if everybody can reach it and it stays")),
            );
        }
        for sleep in SLEEPS.iter().filter(|sleep| !may_sleep && line.contains(*sleep)) {
            findings.push(source.finding(index, format!("`{sleep}`: wait for a condition")));
        }
    }
    findings
}

/// Hosts of the http and https URLs in a line, where they could be real.
fn hosts(line: &str) -> Vec<&str> {
    let starts = ["http://", "https://"].into_iter().flat_map(|scheme| line.match_indices(scheme).map(move |(at, _)| at + scheme.len()));
    let host = |at: usize| line[at..].split(|char: char| !char.is_alphanumeric() && char != '.' && char != '-').next().unwrap_or("");
    starts.map(host).filter(|host| host.contains('.')).collect()
}

/// All rules, over one file.
fn check(source: &Source<'_>) -> Vec<Finding> {
    let mut findings =
        [file_length(source), opening(source), function_length(source, LONG_FUNCTIONS), layers(source), core_is_sans_io(source)].concat();
    if !NAME_WHAT_THEY_BAN.contains(&source.path) {
        findings.extend(unsafe_code(source));
        findings.extend(words(source));
    }
    findings
}

/// Calls `visit` for each text file of the project.
fn for_each_file(root: &Path, folder: &Path, visit: &mut impl FnMut(&str, &str)) {
    let mut entries: Vec<_> = fs::read_dir(folder).expect("a folder of the project").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if matches!(name, ".git" | "target" | "node_modules" | "__pycache__" | "artifacts" | "results") {
            continue;
        }
        if path.is_dir() {
            for_each_file(root, &path, visit);
            continue;
        }
        // What is no UTF-8 is no text.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let relative = path.strip_prefix(root).expect("below the root").to_str().expect("a path in UTF-8");
        visit(relative, &text);
    }
}

#[test]
fn the_sources_are_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut files, mut findings) = (0, Vec::new());
    for_each_file(root, root, &mut |path, text| {
        files += 1;
        findings.extend(check(&Source { path, text }));
    });
    assert!(files > 100, "only {files} files found: is this the root of the project?");
    let list: String = findings.iter().map(|finding| format!("\n{finding}")).collect();
    assert!(findings.is_empty(), "{} to tidy up:{list}", findings.len());
}

#[test]
fn functions_of_the_ratchet_exist() {
    for (path, name, _) in LONG_FUNCTIONS {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("a file of LONG_FUNCTIONS");
        assert!(functions(&Source { path, text: &text }).iter().any(|(_, function, _)| function == name), "{path}: no `{name}`");
    }
}

/// Lines of the findings of a rule on a planted text.
fn planted(rule: impl Fn(&Source<'_>) -> Vec<Finding>, path: &str, text: &str) -> Vec<usize> {
    rule(&Source { path, text }).iter().map(|finding| finding.line).collect()
}

#[test]
fn a_file_that_is_too_long_is_found() {
    assert_eq!(planted(file_length, "src/a.rs", &"\n".repeat(600)), []);
    assert_eq!(planted(file_length, "src/a.rs", &"\n".repeat(601)), [1]);
}

#[test]
fn a_file_that_does_not_say_what_it_is_for_is_found() {
    assert_eq!(planted(opening, "src/a.rs", "//! For this.\n"), []);
    assert_eq!(planted(opening, "src/a.rs", "use std::fmt;\n"), [1]);
    assert_eq!(planted(opening, "docs/a.md", "# A\n"), []);
}

#[test]
fn a_function_that_is_too_long_is_found_and_one_of_the_ratchet_may_not_grow() {
    let function =
        |lines: usize| format!("impl A {{\n    pub(super) const fn long<T>() {{\n{}    }}\n}}\n", "        x();\n".repeat(lines - 2));
    let lines = |text: &str, long: &[_]| planted(|source| function_length(source, long), "src/a.rs", text);
    assert_eq!(lines(&function(70), &[]), []);
    assert_eq!(lines(&function(71), &[]), [2]);
    let ratchet = [("src/a.rs", "long", 90)];
    assert_eq!(lines(&function(90), &ratchet), []);
    assert_eq!(lines(&function(91), &ratchet), [2]);
    assert_eq!(lines(&function(89), &ratchet), [2]);
    assert_eq!(lines("fn short() { x() }\n", &[]), []);
}

#[test]
fn an_upward_path_is_found_however_it_is_written() {
    assert_eq!(planted(layers, "src/broker/a.rs", "use crate::mqtt::QoS;\nuse super::ids;\n// crate::server\n"), []);
    assert_eq!(planted(layers, "src/broker/a.rs", "//! A.\nuse crate::server::Shell;\n"), [2]);
    assert_eq!(planted(layers, "src/broker/a.rs", "fn f() {\n    crate::cli::main();\n}\n"), [2]);
    assert_eq!(planted(layers, "src/mqtt/a.rs", "use crate::{\n    mqtt::{QoS, Version},\n    broker::Shard,\n};\n"), [1]);
    assert_eq!(planted(layers, "src/broker/topics/a.rs", "use super::super::ids;\nuse super::super::super::server::Shell;\n"), [2]);
    assert_eq!(planted(layers, "src/broker/topics/mod.rs", "use super::super::server::Shell;\n"), [1]);
    assert_eq!(planted(layers, "src/mqtt/mod.rs", "use super::config::Limits;\n"), [1]);
    assert_eq!(planted(layers, "src/ring/a.rs", "use crate::metrics::Counters;\n"), [1]);
    assert_eq!(planted(layers, "src/cli/a.rs", "use crate::server;\nuse crate::broker;\n"), []);
    assert_eq!(planted(layers, "src/server/a.rs", "use crate::mqtt::QoS;\n"), []);
    assert_eq!(planted(layers, "src/server/driver/a.rs", "use crate::broker::ids::ConnId;\nuse crate::mqtt::QoS;\n"), [2]);
    assert_eq!(planted(layers, "src/newcomer/a.rs", ""), [1]);
}

#[test]
fn unsafe_code_outside_its_folders_or_without_a_reason_is_found() {
    let explained = "// SAFETY: it is the only one.\nunsafe { x() };\n";
    assert_eq!(planted(unsafe_code, "src/ring/a.rs", explained), []);
    assert_eq!(planted(unsafe_code, "src/broker/a.rs", explained), [2]);
    assert_eq!(planted(unsafe_code, "src/ring/a.rs", "let y = 1;\n\nunsafe { x() };\n"), [3]);
    assert_eq!(planted(unsafe_code, "src/ring/a.rs", "unsafe impl Send for A {}\n"), [1]);
}

#[test]
fn a_core_that_asks_for_the_time_or_leaves_an_order_to_chance_is_found() {
    let text = "let a = Instant::now();\nstd::thread::sleep(a);\nuse std::collections::HashMap;\n// Instant::now is banned\n";
    assert_eq!(planted(core_is_sans_io, "src/broker/a.rs", text), [1, 2, 2, 3]);
    assert_eq!(planted(core_is_sans_io, "src/server/a.rs", text), []);
}

#[test]
fn left_overs_machine_paths_foreign_hosts_and_sleeps_are_found() {
    let text = "// TODO later\n#[ignore]\nlet path = \"/home/me/x\";\n// see https://registry.example.net/x\n// see https://github.com/x/y\nthread::sleep(second);\n";
    assert_eq!(planted(words, "tests/a.rs", text), [1, 2, 3, 4, 6]);
    assert_eq!(planted(words, "perf/src/a.rs", "thread::sleep(second);\n"), []);
    let lock = "integrity = \"aXXXb\"\nsource = \"registry+https://crates.example.net/index\"\n";
    assert_eq!(planted(words, "Cargo.lock", lock), [2]);
}

#[test]
fn comments_are_told_from_strings() {
    assert_eq!(without_comment("let a = \"x//y\"; // z"), "let a = \"x//y\"; ");
    assert_eq!(without_comment("let a = '\"'; // z"), "let a = '\"'; ");
    assert_eq!(without_comment("let a = \"\\\"//\"; // z"), "let a = \"\\\"//\"; ");
}
