//! No file descriptor is left: who is connected stays, who comes waits, and nothing about who is let in changes (CVE-2017-7652, moquette#967).

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use super::support::client::PATIENCE;
use super::support::{Client, Connect, Io, V5};

/// Descriptors that the broker may have.
const DESCRIPTORS: usize = 48;

/// A broker that may have a few descriptors only, with a configuration file.
struct Poor {
    process: Child,
    log: Receiver<String>,
    address: SocketAddr,
    file: PathBuf,
}

impl Poor {
    fn start(io: &str) -> Poor {
        let file = std::env::temp_dir().join(format!("ringmq-exhaustion-{io}-{}.toml", std::process::id()));
        write(&file, 30);
        let mut command = Command::new("sh");
        let limited = format!("ulimit -n {DESCRIPTORS}; exec \"$@\"");
        command.args(["-c", &limited, "sh", env!("CARGO_BIN_EXE_ringmq"), "--config"]).arg(&file);
        command.args(["--listen", "127.0.0.1:0", "--log", "info", "--io", io, "--shards", "1", "--set", "io.direct_descriptors=\"off\""]);
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the broker starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("stdout is a pipe")).read_line(&mut line).expect("the broker says where it listens");
        let port = line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
        let address = SocketAddr::from(([127, 0, 0, 1], port.unwrap_or_else(|| panic!("no port in {line:?}"))));
        let lines = BufReader::new(process.stderr.take().expect("stderr is a pipe")).lines();
        let (said, log) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).all(|line| said.send(line).is_ok()));
        Poor { process, log, address, file }
    }

    /// Waits until the broker has said this.
    fn expect_said(&self, what: &str) {
        let mut before = Vec::new();
        loop {
            let line = self.log.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("the broker does not say {what:?}, but {before:?}"));
            if line.contains(what) {
                return;
            }
            before.push(line);
        }
    }

    /// Waits until the broker has so many descriptors.
    fn expect_descriptors(&self, number: usize) {
        let deadline = Instant::now() + PATIENCE;
        let open = || std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).expect("the broker runs").count();
        while open() != number {
            assert!(Instant::now() < deadline, "{} descriptors are open, expected {number}", open());
        }
    }

    fn reload(&self) {
        let id = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(id, rustix::process::Signal::HUP).expect("the broker runs");
    }

    /// The code of the CONNACK for a client identifier of so many bytes.
    fn code_for(&self, bytes: usize) -> u8 {
        let mut client = Client::open(self.address);
        client.send(&Connect::new(V5, &"x".repeat(bytes)).bytes());
        client.expect_connack(V5);
        let code = client.connack.code;
        if code == 0 {
            client.disconnect()
        } else {
            client.expect_close()
        }
        code
    }
}

impl Drop for Poor {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(&self.file);
    }
}

fn write(file: &Path, max_client_id_bytes: u16) {
    std::fs::write(file, format!("limits.max_client_id_bytes = {max_client_id_bytes}\n")).expect("a place for a file");
}

fn a_reload_without_descriptors_changes_nothing(io: &str) {
    let broker = Poor::start(io);
    let mut early = Client::open(broker.address);
    early.connect(&Connect::new(V5, "early"));
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", broker.process.id())).expect("the broker runs").count();
    assert_eq!((broker.code_for(30), broker.code_for(31)), (0, 0x85));
    // Nothing of them is left that could give a descriptor back later.
    broker.expect_descriptors(descriptors);
    let crowd: Vec<Client> = (0..60).map(|_| Client::open(broker.address)).collect();
    broker.expect_said("no file descriptor is left");
    write(&broker.file, 40);
    broker.reload();
    broker.expect_said("reload refused, nothing changed");
    early.expect_silence();
    drop(crowd);
    // Room again, on the old terms.
    assert_eq!((broker.code_for(30), broker.code_for(31)), (0, 0x85));
    broker.reload();
    broker.expect_said("reloaded");
    while broker.code_for(31) != 0 {}
    early.expect_silence();
}

#[test]
fn a_reload_without_descriptors_changes_nothing_over_epoll() {
    a_reload_without_descriptors_changes_nothing("epoll");
}

#[test]
fn a_reload_without_descriptors_changes_nothing_over_uring() {
    if Io::Uring.is_available() {
        a_reload_without_descriptors_changes_nothing("uring");
    }
}
