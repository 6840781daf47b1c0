//! One test for each way in which a configuration can be wrong: the message names place, key, what was found and what was expected.

use super::*;
use crate::config::{Backend, Durability, LogLevel, QueueFull, every_key};

fn file(text: &str) -> Result<Config, ConfigError> {
    parse(Some(("r.toml", text)), &[])
}

fn set(text: &str, sets: &[&str]) -> Result<Config, ConfigError> {
    let overrides = sets.iter().map(|set| Override::from_set(set)).collect::<Result<Vec<_>, _>>()?;
    parse(Some(("r.toml", text)), &overrides)
}

fn refusal(text: &str) -> String {
    file(text).unwrap_err().to_string()
}

fn set_refusal(text: &str, sets: &[&str]) -> String {
    set(text, sets).unwrap_err().to_string()
}

#[test]
fn an_empty_file_is_the_default_configuration() {
    let config = file("").unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].address.to_string(), "127.0.0.1:1883");
}

#[test]
fn a_file_sets_what_it_names_and_leaves_the_rest() {
    let config = file(
        "shards = 4\ncpus = \"0,2-5\"\n[io]\nbackend = \"epoll\"\n[limits]\nqueue_full = \"drop-oldest\"\nmax_inflight = 20\n[log]\nlevel = \"debug\"\n\
         [[listeners]]\naddress = \"1884\"\n[[listeners]]\nname = \"lan\"\naddress = \"[::]:1883\"\nbacklog = 64\n",
    )
    .unwrap();
    assert_eq!((config.shards, config.io.backend, config.log.level), (Some(4), Backend::Epoll, LogLevel::Debug));
    assert_eq!((config.limits.max_inflight, config.limits.queue_full), (20, QueueFull::DropOldest));
    assert_eq!(config.limits.receive_maximum, Config::default().limits.receive_maximum);
    let names: Vec<_> = config.listeners.iter().map(|listener| (listener.name.as_str(), listener.backlog)).collect();
    assert_eq!(names, [("127.0.0.1:1884", 4096), ("lan", 64)]);
}

#[test]
fn what_is_in_force_can_be_written_and_read_again() {
    let config = file("cpus = \"1\"\nstorage.data_dir = \"/tmp/x\"\n[[listeners]]\naddress = \"[::1]:7\"\n").unwrap();
    assert_eq!(file(&toml::to_string(&config).unwrap()).unwrap(), config);
    assert_eq!(file(&toml::to_string(&Config::default()).unwrap()).unwrap(), Config::default());
}

#[test]
fn an_unknown_key_is_refused_at_its_place_with_the_nearest_valid_one() {
    assert_eq!(
        refusal("[limits]\nmax_inflight = 3\nmax_packet_byte = 5\n"),
        "r.toml:3:1: limits.max_packet_byte: unknown key; did you mean `limits.max_packet_bytes`?"
    );
    assert_eq!(refusal("max_inflight = 3"), "r.toml:1:1: max_inflight: unknown key; did you mean `limits.max_inflight`?");
    assert_eq!(
        refusal("[[listeners]]\naddress='1'\n[[listeners]]\n  adress = '1'"),
        "r.toml:4:3: listeners[1].adress: unknown key; did you mean `listeners[1].address`?"
    );
    assert_eq!(refusal("[log]\nfile = 'x'"), "r.toml:2:1: log.file: unknown key, expected `level`");
}

#[test]
fn a_value_of_the_wrong_type_is_refused_with_what_was_found_and_what_was_expected() {
    for (text, message) in [
        (
            "[limits]\nmax_packet_bytes = \"1M\"",
            "r.toml:2:20: limits.max_packet_bytes: found the string \"1M\", expected a whole number from 0 to 4294967295",
        ),
        ("shards = true", "r.toml:1:10: shards: found true, expected a whole number from 0 to 65535"),
        ("shards = -1", "r.toml:1:10: shards: found the number -1, expected a whole number from 0 to 65535"),
        ("limits = 3", "r.toml:1:10: limits: found the number 3, expected a table"),
        ("listeners = 3", "r.toml:1:13: listeners: found the number 3, expected a list"),
        ("io.backend = 3", "r.toml:1:14: io.backend: found the number 3, expected a string"),
        (
            "log.level = \"loud\"",
            "r.toml:1:13: log.level: found the string \"loud\", expected one of `off`, `error`, `warn`, `info`, `debug`, `trace`",
        ),
        ("[[listeners]]\naddress = 1883", "r.toml:2:11: listeners[0].address: found the number 1883, expected a string"),
        ("storage.data_dir = 3", "r.toml:1:20: storage.data_dir: found the number 3, expected a string"),
        ("cpus = \"3-1\"", "r.toml:1:8: cpus: `3-1` runs backwards, expected a list of CPUs such as \"0,2-5\""),
        (
            "[[listeners]]\naddress = \":1883\"",
            "r.toml:2:11: listeners[0].address: found \":1883\", expected `0.0.0.0:1883` (IPv4) or `[::]:1883` (IPv6) for all interfaces",
        ),
        ("[[listeners]]\nname = \"a\"", "r.toml:1:1: listeners[0]: `address` is required"),
    ] {
        assert_eq!(refusal(text), message);
    }
}

#[test]
fn a_value_out_of_range_is_refused_with_the_range() {
    for (text, message) in [
        ("shards = 0", "r.toml:1:10: shards: found 0, expected 1 to 128"),
        ("shards = 129", "r.toml:1:10: shards: found 129, expected 1 to 128"),
        ("limits.max_packet_bytes = 268435461", "r.toml:1:27: limits.max_packet_bytes: found 268435461, expected 64 to 268435460"),
        ("limits.max_inflight = 0", "r.toml:1:23: limits.max_inflight: found 0, expected 1 to 65535"),
        ("limits.receive_maximum = 0", "r.toml:1:26: limits.receive_maximum: found 0, expected 1 to 65535"),
        ("io.recv_buffers = 1000", "r.toml:1:19: io.recv_buffers: found 1000, expected a power of two"),
        ("sys.interval_s = 100000", "r.toml:1:18: sys.interval_s: found 100000, expected 0 to 86400"),
        ("listeners = []", "r.toml:1:13: listeners: found an empty list, expected at least one listener"),
        ("[[listeners]]\naddress = '1'\nbacklog = 0", "r.toml:3:11: listeners[0].backlog: found 0, expected 1 to 2147483647"),
        ("[[listeners]]\naddress = '1'\nmax_qos = 3", "r.toml:3:11: listeners[0].max_qos: found 3, expected 0 to 2"),
        ("[[listeners]]\naddress = '1'\nreceive_maximum = 0", "r.toml:3:19: listeners[0].receive_maximum: found 0, expected 1 to 65535"),
        (
            "redirect.server_reference = ''",
            "r.toml:1:29: redirect.server_reference: found \"\", expected 1 to 65535 bytes without control characters",
        ),
    ] {
        assert_eq!(refusal(text), message);
    }
}

/// A user with keys that are only zeros.
fn user(name: &str, iterations: u32) -> String {
    let (salt, key) = (format!("{}==", "A".repeat(22)), format!("{}=", "A".repeat(43)));
    format!("[[auth.scram]]\nuser = '{name}'\niterations = {iterations}\nsalt = '{salt}'\nstored_key = '{key}'\nserver_key = '{key}'\n")
}

#[test]
fn users_are_read_and_asked_to_authenticate() {
    let config = file(&(user("ann", 4096) + &user("bob", 20_000))).unwrap();
    assert_eq!(config.auth.scram.iter().map(|user| user.user.as_str()).collect::<Vec<_>>(), ["ann", "bob"]);
    assert_eq!(config.auth.scram[1].iterations, 20_000);
    assert!(config.auth.required());
    assert_eq!(file(&toml::to_string(&config).unwrap()).unwrap(), config);
}

#[test]
fn a_wrong_user_is_refused_at_its_place_without_its_keys() {
    assert_eq!(refusal(&user("ann", 4095)), "r.toml:3:14: auth.scram[0].iterations: found 4095, expected 4096 to 10000000");
    assert_eq!(
        refusal(&(user("ann", 4096) + &user("ann", 4096))),
        "r.toml:8:8: auth.scram[1].user: found \"ann\", which auth.scram[0] has already"
    );
    assert!(refusal(&user("", 4096)).starts_with("r.toml:2:8: auth.scram[0].user: found \"\", expected 1 to 1024 bytes"));
    let short = user("ann", 4096).replace("stored_key = 'A", "stored_key = '");
    assert_eq!(
        refusal(&short),
        "r.toml:5:14: auth.scram[0].stored_key: expected 32 bytes in base64, as `ringmq passwd --scram` prints them"
    );
    let without = user("ann", 4096).replace("server_key", "# server_key");
    assert_eq!(refusal(&without), "r.toml:1:1: auth.scram[0]: `server_key` is required");
}

#[test]
fn settings_must_fit_together() {
    assert_eq!(
        refusal("[limits]\nmax_packet_bytes = 1000\nmax_connect_packet_bytes = 1001"),
        "r.toml:3:28: limits.max_connect_packet_bytes: found 1001, expected at most 1000 (limits.max_packet_bytes)"
    );
    assert_eq!(
        refusal("[limits]\nout_budget_bytes = 8000\nout_buffer_bytes = 8001"),
        "r.toml:3:20: limits.out_buffer_bytes: found 8001, expected at most 8000 (limits.out_budget_bytes)"
    );
    assert_eq!(
        refusal("[[listeners]]\naddress = '1884'\n[[listeners]]\naddress = '127.0.0.1:1884'"),
        "r.toml:4:11: listeners[1].address: found 127.0.0.1:1884, which listeners[0] has already"
    );
    assert_eq!(
        refusal("[[listeners]]\nname='a'\naddress = '1'\n[[listeners]]\nname='a'\naddress = '2'"),
        "r.toml:5:6: listeners[1].name: found \"a\", which listeners[0] has already"
    );
}

#[test]
fn a_default_bows_to_the_limit_that_was_set() {
    let limits = file("limits.max_packet_bytes = 1000\nlimits.out_budget_bytes = 8000").unwrap().limits;
    assert_eq!((limits.max_connect_packet_bytes, limits.out_buffer_bytes), (1000, 8000));
}

#[test]
fn any_free_port_may_be_asked_for_twice_if_the_names_differ() {
    file("[[listeners]]\nname='a'\naddress='0'\n[[listeners]]\nname='b'\naddress='0'").unwrap();
}

#[test]
fn what_is_no_toml_is_refused_at_its_place() {
    assert_eq!(refusal("shards = 1\nshards = 2"), "r.toml:2:1: no valid TOML: duplicate key");
    assert!(refusal("shards = 1\n\nshards =").starts_with("r.toml:3:9: no valid TOML: "), "{}", refusal("shards = 1\n\nshards ="));
    assert!(refusal("[limits").starts_with("r.toml:1:8: no valid TOML: "), "{}", refusal("[limits"));
}

#[test]
fn columns_count_characters() {
    assert_eq!(position("f", "# é\nü = 1", 7..8), "f:2:2");
    assert_eq!(
        refusal("storage = { data_dir = 'ü', x = 1 }"),
        "r.toml:1:29: storage.x: unknown key, expected one of `data_dir`, `engine`, `durability`, `max_bytes`, `topics`"
    );
}

#[test]
fn a_missing_file_is_named() {
    let error = Sources { file: Some("/does/not/exist.toml".into()), overrides: Vec::new() }.load().unwrap_err().to_string();
    assert!(error.starts_with("/does/not/exist.toml: cannot read the configuration: No such file"), "{error}");
}

#[test]
fn a_set_wins_over_the_file_and_a_later_one_over_an_earlier_one() {
    let config =
        set("limits.max_inflight = 1\n[log]\nlevel='info'", &["limits.max_inflight=2", "log.level=debug", "limits.max_inflight = 3"])
            .unwrap();
    assert_eq!((config.limits.max_inflight, config.log.level), (3, LogLevel::Debug));
}

#[test]
fn a_set_takes_toml_or_a_bare_word() {
    let sets = ["cpus=0,2-5", "storage.data_dir=/var/lib/x y", "io.backend=\"epoll\"", "listeners=[{address='1'},{address='2'}]"];
    let config = set("", &sets).unwrap();
    assert_eq!(config.cpus.unwrap().to_string(), "0,2-5");
    assert_eq!(config.storage.data_dir.unwrap().to_str(), Some("/var/lib/x y"));
    assert_eq!((config.io.backend, config.listeners.len()), (Backend::Epoll, 2));
}

#[test]
fn a_wrong_set_is_refused_as_the_file_would_be_and_named_as_the_origin() {
    for (text, sets, message) in [
        ("", &["limits.max_inflight=0"][..], "--set limits.max_inflight=0: limits.max_inflight: found 0, expected 1 to 65535"),
        (
            "limits.max_inflight = 5",
            &["limits.max_inflight=x"],
            "--set limits.max_inflight=x: limits.max_inflight: found the string \"x\", expected a whole number from 0 to 65535",
        ),
        ("", &["limit.max_inflight=1"], "--set limit.max_inflight=1: limit: unknown key; did you mean `limits`?"),
        (
            "",
            &["limits.max_inflights=1"],
            "--set limits.max_inflights=1: limits.max_inflights: unknown key; did you mean `limits.max_inflight`?",
        ),
        ("", &["limits=3"], "--set limits=3: limits: found the number 3, expected a table"),
        (
            "listeners = [{address='1', backlog=0}]",
            &["limits.max_inflight=1"],
            "r.toml:1:36: listeners[0].backlog: found 0, expected 1 to 2147483647",
        ),
        ("", &["listeners.0.address=1"], "--set listeners.0.address=1: listeners: found a table, expected a list"),
        (
            "shards = 1",
            &["shards.x=1"],
            "--set shards.x=1: shards.x: `x` is looked for in a value of type integer; only tables have keys (set a list as a whole)",
        ),
        ("", &["shards"], "--set shards: expected KEY=VALUE, for example limits.max_inflight=100"),
        ("", &["=3"], "--set =3: found the key ``, expected a name such as limits.max_inflight"),
    ] {
        assert_eq!(set_refusal(text, sets), message);
    }
    assert!(set_refusal("", &["cpus=[1"]).starts_with("--set cpus=[1: cpus: "), "{}", set_refusal("", &["cpus=[1"]));
}

#[test]
fn no_key_takes_a_table_in_an_array_in_a_table_and_none_panics() {
    for key in every_key() {
        let key = key.replace("[]", "");
        for value in ["[{x=[1]}]", "{x={y=1}}", "-9223372036854775808", "nan", "''", "1979-05-27"] {
            let _ = set("", &[&format!("{key}={value}")]);
        }
        assert!(set("", &[&format!("{key}={{x=1}}")]).is_err(), "{key}");
    }
}

#[test]
fn durability_is_set_by_topic_and_by_listener() {
    let config = file("[storage]\ndurability = 'memory'\n[[storage.topics]]\nfilter = 'alarms/+/#'\ndurability = 'commit'\n").unwrap();
    assert_eq!((config.storage.durability, config.storage.topics[0].durability), (Durability::Memory, Durability::Commit));
    for filter in ["", "a/#/b", "a+", "$share/g/a", "a#"] {
        let text = format!("storage.topics = [{{ filter = '{filter}', durability = 'commit' }}]");
        assert!(refusal(&text).contains("storage.topics[0].filter: found"), "{filter}: {}", refusal(&text));
    }
    let text = if cfg!(feature = "engine-fjall") {
        refusal("storage = { engine = 'fjall', max_bytes = 1000000000 }")
    } else {
        refusal("storage.engine = 'fjall'")
    };
    assert!(text.contains("leave it out") || text.contains("--features engine-fjall"), "{text}");
    let text = refusal("storage.durability = 'replicated'");
    assert!(text.contains("storage.durability") && text.contains("memory") && text.contains("commit"), "{text}");
}
