//! Holds `docs/PROTOCOL.md`, the code and the tests together: every normative statement stands in the table once, every place that the table names is
//! there and names the statement, and nobody names a statement that does not exist.
//!
//! A place is found without a parser: a function begins at `fn name`, with the comments and attributes above it, and ends at the first `}` of its own
//! indentation, as rustfmt writes it. Each rule is shown to fail on a planted text.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The heading of each standard's part of the table, and its statements.
const STANDARDS: [(&str, &str); 2] =
    [("## MQTT 3.1.1", include_str!("support/normative-3.1.1.txt")), ("## MQTT 5.0", include_str!("support/normative-5.0.txt"))];

/// Where the table names places without a statement.
const OTHERS: &str = "## Without an identifier";

/// What may stand in place of a place, with a reason behind it.
const ELSEWHERE: [&str; 5] = ["client: ", "operator: ", "transport: ", "none: ", "GAP: "];

/// Folders whose Rust files may name statements.
const FOLDERS: [&str; 5] = ["src", "tests", "examples", "bench", "perf/src"];

/// One line of the table.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    /// The heading that it stands below.
    part: String,
    /// A statement, or a section where there is none.
    name: String,
    demand: String,
    place: String,
    proof: String,
}

/// The rows of all tables of a page.
fn rows(page: &str) -> Vec<Row> {
    let mut part = String::new();
    let mut rows = Vec::new();
    for line in page.lines() {
        if line.starts_with("## ") {
            part = line.to_owned();
        }
        let Some(cells) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) else { continue };
        if cells.starts_with("---") || cells.starts_with("Statement") || cells.starts_with("Section") {
            continue;
        }
        let cells: Vec<String> = cells.split(" | ").map(|cell| cell.trim().to_owned()).collect();
        let [name, demand, place, proof] = <[String; 4]>::try_from(cells).unwrap_or_else(|_| panic!("not four cells: {line}"));
        rows.push(Row { part: part.clone(), name, demand, place, proof });
    }
    rows
}

/// Every statement of the standard stands below its heading exactly once, and nothing else does.
fn completeness(heading: &str, statements: &str, rows: &[Row]) -> Vec<String> {
    let mut times: BTreeMap<&str, usize> = statements.split_whitespace().map(|statement| (statement, 0)).collect();
    let mut findings = Vec::new();
    for row in rows.iter().filter(|row| row.part == heading) {
        match times.get_mut(&row.name[..]) {
            Some(count) => *count += 1,
            None => findings.push(format!("{heading}: {} is no statement of this standard", row.name)),
        }
    }
    findings.extend(
        times.iter().filter(|(_, count)| **count != 1).map(|(name, count)| format!("{heading}: {name} stands there {count} times")),
    );
    findings
}

/// Whether `word` stands in `line` as a word of its own.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |char: Option<char>| char.is_some_and(|char| char.is_alphanumeric() || char == '_');
    line.match_indices(word).any(|(at, _)| !is_part(line[..at].chars().next_back()) && !is_part(line[at + word.len()..].chars().next()))
}

/// The texts of all functions of this name, each with what stands above it.
fn functions(text: &str, name: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let is_definition = |line: &str| !line.trim_start().starts_with("//") && has_word(line, &format!("fn {name}"));
    let above = |start: usize| {
        let attached = |line: &&str| line.trim_start().starts_with("//") || line.trim_start().starts_with("#[");
        start - lines[..start].iter().rev().take_while(|line| attached(line)).count()
    };
    let end_of = |start: usize| {
        let line = lines[start];
        let end = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
        let one_line = line.contains('{') && line.ends_with('}');
        if one_line { start } else { lines[start..].iter().position(|line| *line == end).map_or(start, |length| start + length) }
    };
    let found = (0..lines.len()).filter(|&at| is_definition(lines[at]));
    found.map(|at| lines[above(at)..=end_of(at)].join("\n")).collect()
}

/// Whether a comment of this text names the statement.
fn names(text: &str, statement: &str) -> bool {
    let bracketed = format!("[{statement}]");
    text.lines().filter_map(|line| line.find("//").map(|at| &line[at..])).any(|comment| comment.contains(&bracketed))
}

/// Whether a test of this name is run: as it is, or by a macro that lists it.
fn is_run(text: &str, name: &str) -> bool {
    let listed = format!("{name},");
    functions(text, name).iter().any(|function| function.contains("#[test]")) || text.lines().any(|line| line.trim() == listed)
}

/// What is wrong with a place `file:function` or `file` that is to name a statement; `None` for a section, which nobody has to name.
fn place(place: &str, statement: Option<&str>, is_test: bool, read: impl Fn(&str) -> Option<String>) -> Option<String> {
    let Some(place) = place.strip_prefix('`').and_then(|place| place.strip_suffix('`')) else {
        return Some(format!("`{place}` is neither a place in backquotes nor one of {ELSEWHERE:?}"));
    };
    let (file, function) = place.split_once(':').map_or((place, None), |(file, function)| (file, Some(function)));
    let Some(text) = read(file) else { return Some(format!("there is no file {file}")) };
    let texts = match function {
        Some(function) => functions(&text, function),
        None => vec![text.clone()],
    };
    if texts.is_empty() {
        return Some(format!("{file} has no such function as {place} says"));
    }
    if is_test && !function.is_some_and(|function| is_run(&text, function)) {
        return Some(format!("{place} is no test that is run"));
    }
    let missing = statement.filter(|statement| !texts.iter().any(|text| names(text, statement)));
    missing.map(|statement| format!("no comment of {place} names [{statement}]"))
}

/// What is wrong with a row.
fn check(row: &Row, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let statement = (row.part != OTHERS).then_some(&row.name[..]);
    let elsewhere = ELSEWHERE.iter().any(|reason| row.place.strip_prefix(reason).is_some_and(|why| !why.is_empty()));
    let mut findings = Vec::new();
    if row.demand.is_empty() {
        findings.push(String::from("says nothing of what it demands"));
    }
    match elsewhere {
        true if row.proof != "-" => findings.push(format!("has a test, but no place in the code: {}", row.proof)),
        true => {}
        false => {
            findings.extend(place(&row.place, statement, false, &read));
            findings.extend(place(&row.proof, statement, true, &read));
        }
    }
    findings.into_iter().map(|finding| format!("{} {}: {finding}", row.part, row.name)).collect()
}

/// The statements that a text names in brackets.
fn named(text: &str) -> BTreeSet<&str> {
    let starts = text.match_indices("[MQTT-").map(|(at, _)| &text[at + 1..]);
    starts.filter_map(|rest| rest.split_once(']')).map(|(statement, _)| statement).collect()
}

/// Calls `visit` for each Rust file below a folder.
fn for_each_file(root: &Path, folder: &Path, visit: &mut impl FnMut(&str, &str)) {
    let mut entries: Vec<_> = fs::read_dir(folder).expect("a folder of the project").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            // Crates of their own keep their builds beside them.
            if path.file_name().is_none_or(|name| name != "target" && name != "node_modules") {
                for_each_file(root, &path, visit);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let relative = path.strip_prefix(root).expect("below the root").to_str().expect("a path in UTF-8");
            visit(relative, &fs::read_to_string(&path).expect("Rust is UTF-8"));
        }
    }
}

fn assert_none(findings: &[String]) {
    assert!(findings.is_empty(), "{} to mend:\n{}", findings.len(), findings.join("\n"));
}

fn table() -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/PROTOCOL.md");
    rows(&fs::read_to_string(path).expect("docs/PROTOCOL.md"))
}

#[test]
fn every_statement_stands_in_the_table_once() {
    let rows = table();
    let findings: Vec<_> = STANDARDS.iter().flat_map(|(heading, statements)| completeness(heading, statements, &rows)).collect();
    assert_none(&findings);
    assert_eq!(STANDARDS.map(|(_, statements)| statements.split_whitespace().count()), [139, 251]);
}

#[test]
fn every_place_and_every_test_of_the_table_is_there_and_names_its_statement() {
    let read = |file: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).ok();
    let findings: Vec<_> = table().iter().flat_map(|row| check(row, read)).collect();
    assert_none(&findings);
}

#[test]
fn nobody_names_a_statement_that_does_not_exist() {
    let known: BTreeSet<&str> = STANDARDS.iter().flat_map(|(_, statements)| statements.split_whitespace()).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut findings, mut count) = (Vec::new(), 0);
    for folder in FOLDERS {
        for_each_file(root, &root.join(folder), &mut |path, text| {
            // This file plants some.
            if path == "tests/protocol_table.rs" {
                return;
            }
            count += named(text).len();
            findings.extend(named(text).difference(&known).map(|statement| format!("{path}: [{statement}]")));
        });
    }
    assert_none(&findings);
    assert!(count > 500, "only {count} found: is this the root of the project?");
}

const PAGE: &str = "\
# Page
## MQTT 3.1.1
| Statement | Demands | Honoured in | Proven by |
| --- | --- | --- | --- |
| MQTT-1-1 | a | `a.rs:f` | `t.rs:g` |
| MQTT-1-2 | b | client: why | - |
## MQTT 5.0
| MQTT-1-1 | c | `a.rs` | `t.rs:g` |
";

const CODE: &str = "
/// [MQTT-1-1]
#[inline]
pub fn f() {
    x();
}

fn h() {
    // [MQTT-1-2]
    let text = \"[MQTT-1-3]\";
}
";

const TESTS: &str = "
on_every_configuration! {
    g,
}

/// [MQTT-1-1]
fn g(broker: &Broker) {
}

/// [MQTT-1-1]
fn helper() {}
";

fn planted(file: &str) -> Option<String> {
    match file {
        "a.rs" => Some(CODE.to_owned()),
        "t.rs" => Some(TESTS.to_owned()),
        _ => None,
    }
}

#[test]
fn a_statement_that_is_missing_doubled_or_unknown_is_found() {
    let rows = rows(PAGE);
    assert_eq!(rows.len(), 3);
    let found = |statements| completeness("## MQTT 3.1.1", statements, &rows).len();
    assert_eq!(found("MQTT-1-1 MQTT-1-2"), 0);
    assert_eq!(found("MQTT-1-1 MQTT-1-2 MQTT-1-3"), 1);
    assert_eq!(found("MQTT-1-1"), 1);
    let twice = [&rows[..], &rows[..1]].concat();
    assert_eq!(completeness("## MQTT 3.1.1", "MQTT-1-1 MQTT-1-2", &twice).len(), 1);
}

#[test]
fn a_place_that_is_not_there_or_does_not_name_its_statement_is_found() {
    let wrong = |name: &str, at: &str, is_test| place(at, Some(name), is_test, planted).is_some();
    assert!(!wrong("MQTT-1-1", "`a.rs:f`", false) && !wrong("MQTT-1-2", "`a.rs:h`", false) && !wrong("MQTT-1-2", "`a.rs`", false));
    assert!(!wrong("MQTT-1-1", "`t.rs:g`", true));
    assert!(wrong("MQTT-1-2", "`a.rs:f`", false), "named elsewhere in the file");
    assert!(wrong("MQTT-1-3", "`a.rs:h`", false), "named in a string");
    assert!(wrong("MQTT-1-1", "`b.rs:f`", false) && wrong("MQTT-1-1", "`a.rs:e`", false) && wrong("MQTT-1-1", "a.rs:f", false));
    assert!(wrong("MQTT-1-1", "`t.rs:helper`", true), "not run");
    assert!(wrong("MQTT-1-1", "`t.rs`", true) && wrong("MQTT-1-1", "-", true));
    assert_eq!(place("`a.rs:f`", None, false, planted), None, "a section need not be named");
}

#[test]
fn a_row_without_a_reason_or_with_half_a_proof_is_found() {
    let rows = rows(PAGE);
    let found = |change: &dyn Fn(&mut Row)| {
        let mut row = rows[1].clone();
        change(&mut row);
        check(&row, planted).len()
    };
    assert!(rows.iter().all(|row| check(row, planted).is_empty()));
    assert_eq!(found(&|row| row.place = "client: ".into()), 2);
    assert_eq!(found(&|row| row.place = "somebody: else".into()), 2);
    assert_eq!(found(&|row| row.proof = "`t.rs:g`".into()), 1);
    assert_eq!(found(&|row| row.demand.clear()), 1);
}

#[test]
fn statements_are_found_in_any_text() {
    assert_eq!(
        named("// [MQTT-1-1] [MQTT-4.2-1], not MQTT-1-2\nlet x = \"[MQTT-9.9.9-9]\";"),
        ["MQTT-1-1", "MQTT-4.2-1", "MQTT-9.9.9-9"].into()
    );
}
