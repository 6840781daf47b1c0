//! The serving process of the gate, and how it is started.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{self, Command, Stdio};

use clap::ValueEnum;
use ringmq::server::driver::Backend;

use super::forward::Forwarder;
use super::{bare, shard};
use crate::measure;

/// What serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// The bare io_uring loop
    Bare,
    /// Our io_uring driver in a shard's loop
    Uring,
    /// As `uring`, with direct descriptors
    UringDirect,
    /// Our epoll driver in a shard's loop
    Epoll,
    /// As `uring`, with an idle glommio executor on a thread beside it
    UringGlommio,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Kind::Bare => "bare",
            Kind::Uring => "uring",
            Kind::UringDirect => "uring-direct",
            Kind::Epoll => "epoll",
            Kind::UringGlommio => "uring-glommio",
        })
    }
}

#[derive(clap::Args)]
pub struct Arguments {
    #[arg(long, value_enum)]
    kind: Kind,
    #[arg(long)]
    core: usize,
}

/// Serves until it is killed; tells its port first.
pub fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    if arguments.kind == Kind::UringGlommio {
        idle_glommio()?;
    }
    measure::pin(arguments.core)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    io::stdout().flush()?;
    match arguments.kind {
        Kind::Bare => bare::serve(&listener)?,
        Kind::Uring | Kind::UringGlommio => shard::serve(listener, Backend::Uring, 0, Forwarder::default())?,
        Kind::UringDirect => shard::serve(listener, Backend::Uring, shard::DIRECT_DESCRIPTORS, Forwarder::default())?,
        Kind::Epoll => shard::serve(listener, Backend::Epoll, 0, Forwarder::default())?,
    }
    Ok(())
}

/// A glommio executor as it comes, waiting for work that never arrives.
fn idle_glommio() -> Result<(), Box<dyn std::error::Error>> {
    glommio::LocalExecutorBuilder::new(glommio::Placement::Unbound)
        .name("idle")
        .spawn(std::future::pending::<()>)
        .map(drop)
        .map_err(|error| error.to_string().into())
}

/// A serving process; killed when dropped.
pub struct Child {
    process: process::Child,
    pub address: SocketAddr,
    pub core: usize,
}

impl Child {
    pub fn start(kind: Kind, core: usize) -> io::Result<Child> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["io-gate-server", "--kind", &kind.to_string(), "--core", &core.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(output) = process.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let address = line.trim().parse().map_err(|_| io::Error::other(format!("the {kind} server did not start")))?;
        Ok(Child { process, address, core })
    }

    /// CPU time so far, in nanoseconds.
    pub fn cpu_time_ns(&self) -> io::Result<u64> {
        measure::cpu_time_ns(self.process.id())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
