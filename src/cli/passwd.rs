//! `ringmq passwd --scram USER`: a block for the configuration file, made from a password that is read from standard input and kept nowhere.

use std::io::{BufRead, IsTerminal, Read, Write};

use clap::Args;
use pbkdf2::pbkdf2_hmac;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde::Serialize;
use sha2::Sha256;

use crate::broker::auth::scram;
use crate::config::{ScramUser, Secret, parse};

/// Longest password, bytes.
const MAX_PASSWORD_BYTES: u64 = 4_096;

#[derive(Args, Clone, Debug, PartialEq)]
pub(super) struct PasswdArgs {
    /// The user, for SCRAM-SHA-256
    #[arg(long, value_name = "USER")]
    scram: String,
    /// Rounds of PBKDF2: what each log-in costs the client, and each guess somebody who has stolen the file
    #[arg(long, value_name = "N", default_value_t = 15_000)]
    iterations: u32,
}

/// Prints the block.
pub(super) fn run(args: &PasswdArgs) -> Result<(), String> {
    let password = read_password(&args.scram)?;
    let mut salt = [0; 16];
    match rustix::rand::getrandom(&mut salt, rustix::rand::GetRandomFlags::empty()) {
        Ok(length) if length == salt.len() => {}
        _ => return Err("the system has no random bytes to give".to_owned()),
    }
    super::print(block(&args.scram, &password, args.iterations, salt)?.as_bytes())
}

/// The block, which has passed the same checks as any configuration.
fn block(user: &str, password: &str, iterations: u32, salt: [u8; 16]) -> Result<String, String> {
    // RFC 5802 section 2.2: the same password, however it was typed.
    let password = stringprep::saslprep(password).map_err(|error| format!("the password cannot be used: {error}"))?;
    if password.is_empty() {
        return Err("the password is empty".to_owned());
    }
    let zero = Secret([0; 32]);
    let mut user = ScramUser { user: user.to_owned(), iterations, salt: Secret(salt), stored_key: zero, server_key: zero };
    // Before the keys are made, which takes as long as the iterations say.
    parse(Some(("", &to_toml(&user)?)), &[]).map_err(|error| error.problem)?;
    let mut salted = [0; 32];
    pbkdf2_hmac::<Sha256>(password.as_bytes(), &salt, iterations, &mut salted);
    let (stored_key, server_key) = scram::keys(&salted);
    (user.stored_key, user.server_key) = (Secret(stored_key), Secret(server_key));
    to_toml(&user)
}

fn to_toml(user: &ScramUser) -> Result<String, String> {
    #[derive(Serialize)]
    struct File<'a> {
        auth: Table<'a>,
    }
    #[derive(Serialize)]
    struct Table<'a> {
        scram: [&'a ScramUser; 1],
    }
    toml::to_string(&File { auth: Table { scram: [user] } }).map_err(|error| error.to_string())
}

/// One line of standard input; from a terminal, unseen and twice.
fn read_password(user: &str) -> Result<String, String> {
    if !std::io::stdin().is_terminal() {
        return read_line();
    }
    let password = ask(&format!("Password for {user}: "))?;
    if ask("The same again: ")? != password {
        return Err("the two passwords differ".to_owned());
    }
    Ok(password)
}

fn ask(question: &str) -> Result<String, String> {
    let mut stderr = std::io::stderr();
    let _ = write!(stderr, "{question}").and_then(|()| stderr.flush());
    let hidden = Hidden::new();
    let line = read_line();
    drop(hidden);
    let _ = writeln!(stderr);
    line
}

fn read_line() -> Result<String, String> {
    let mut line = String::new();
    let read = std::io::stdin().lock().take(MAX_PASSWORD_BYTES + 2).read_line(&mut line);
    read.map_err(|error| format!("cannot read the password from standard input: {error}"))?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    let line = line.strip_suffix('\r').unwrap_or(line);
    match line.len() as u64 > MAX_PASSWORD_BYTES {
        true => Err(format!("the password is longer than {MAX_PASSWORD_BYTES} bytes")),
        false => Ok(line.to_owned()),
    }
}

/// While it lives, the terminal does not show what is typed.
struct Hidden(Option<rustix::termios::Termios>);

impl Hidden {
    fn new() -> Hidden {
        let Ok(before) = tcgetattr(std::io::stdin()) else { return Hidden(None) };
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        let set = tcsetattr(std::io::stdin(), OptionalActions::Flush, &silent);
        Hidden(set.is_ok().then_some(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // If it fails, the terminal is gone.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The salt of RFC 7677.
    const SALT: [u8; 16] = [0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81];

    #[test]
    fn what_is_printed_is_a_block_of_the_file_that_makes_the_user() {
        let block = block("user", "pencil", 4_096, SALT).unwrap();
        assert_eq!(block.lines().next(), Some("[[auth.scram]]"), "{block}");
        assert!(!block.contains("pencil"));
        let config = parse(Some(("f", &format!("{block}\n{}", block.replace("\"user\"", "\"other\"")))), &[]).unwrap();
        assert_eq!(config.auth.scram.len(), 2);
        assert_eq!((config.auth.scram[0].user.as_str(), config.auth.scram[0].iterations), ("user", 4_096));
        assert!(block.contains("salt = \"W22ZaJ0SNY7soEsUEjb6gQ==\""), "{block}");
        // As Python's hashlib and hmac make them.
        assert!(block.contains("stored_key = \"WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=\""), "{block}");
        assert!(block.contains("server_key = \"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\""), "{block}");
    }

    #[test]
    fn the_same_password_typed_in_another_way_gives_the_same_keys() {
        // RFC 4013: a soft hyphen is nothing, and the Roman numeral nine is two letters.
        assert_eq!(block("u", "I\u{AD}X", 4_096, SALT), block("u", "\u{2168}", 4_096, SALT));
        assert_ne!(block("u", "IX", 4_096, SALT), block("u", "ix", 4_096, SALT));
    }

    #[test]
    fn what_the_configuration_would_refuse_is_refused_here() {
        for (user, password, iterations, message) in [
            ("u", "", 4_096, "the password is empty"),
            ("u", "\u{AD}", 4_096, "the password is empty"),
            ("u", "a\u{7}b", 4_096, "the password cannot be used: "),
            ("u", "x", 4_095, "found 4095, expected 4096 to 10000000"),
            ("u", "x", u32::MAX, "found 4294967295, expected 4096 to 10000000"),
            ("", "x", 4_096, "found \"\", expected 1 to 1024 bytes"),
            ("a\nb", "x", 4_096, "found \"a\\nb\", expected 1 to 1024 bytes"),
        ] {
            let error = block(user, password, iterations, SALT).unwrap_err();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
