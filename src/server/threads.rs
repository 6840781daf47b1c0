//! The threads of the shards: made, pinned, asked, stopped.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::driver::{AnyDriver, Backend, Bell, Options, probe, probe_direct_descriptors};
use super::gate::Gates;
use super::shell::{Parcel, Request, Shell};
use super::socket;
use crate::broker::{Admission, Shard, ShardConfig, ShardId};
use crate::config::{self, Config, Switch};
use crate::ring::{Ports, mesh};
use crate::storage::{self, Journal, Recovered, Storage};

/// Parcels that may wait in the ring from one shard to another.
const RING_CAPACITY: usize = 256;
/// Requests of the control thread that may wait for a shard.
const REQUESTS: usize = 16;
/// Below this many file descriptors a broker is soon out of them.
const FEW_FILE_DESCRIPTORS: u64 = 4_096;
/// Below this many, connections are direct descriptors where that is possible and nothing else is said.
const DIRECT_BELOW: u64 = 65_536;

/// The running shards.
pub struct Shards {
    threads: Vec<JoinHandle<std::io::Result<()>>>,
    requests: Vec<Sender<Request>>,
    gates: Arc<Gates>,
    bells: Vec<Arc<Bell>>,
    addresses: Vec<SocketAddr>,
    backend: &'static str,
    options: Options,
    storage: Option<Storage>,
}

/// What one thread is made of; everything here can be sent to it.
struct Plan {
    shard: ShardConfig,
    admission: Arc<Admission>,
    /// For what clients must not foresee.
    entropy: [u8; 32],
    gates: Arc<Gates>,
    sys: Options,
    backend: Backend,
    listeners: Vec<OwnedFd>,
    ports: Ports<Parcel>,
    bells: Vec<Arc<Bell>>,
    requests: Receiver<Request>,
    started: Instant,
    cpu: Option<usize>,
    /// Length that the log may have.
    log_bytes: u64,
    /// The journal of the shard, and what the last run has left.
    storage: Option<(Journal, Arc<Recovered>)>,
    /// Whether the storage keeps what is live, so that the shard need not write it anew.
    keeps_live_only: bool,
}

impl Shards {
    /// Binds the listeners and starts one thread per shard; all of them run when this returns.
    ///
    /// `ended` is told when a shard ends, asked or not.
    ///
    /// # Errors
    /// A sentence for the person who started the broker.
    pub fn start(config: &Config, ended: &Sender<()>) -> Result<Shards, String> {
        let usable: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
        let count = config.shard_count(usable.len());
        let cpus = match &config.cpus {
            Some(list) => list.cpus().iter().map(|&cpu| usize::from(cpu)).collect(),
            None => usable,
        };
        let file_descriptors = socket::raise_file_descriptors();
        socket::enlarge_descriptor_table(file_descriptors);
        let backend = choose_backend(config.io.backend)?;
        let options = Options { direct_descriptors: direct_descriptors(&config.io, backend, file_descriptors)?, ..options(&config.io) };
        if file_descriptors < FEW_FILE_DESCRIPTORS {
            let whose = if options.direct_descriptors > 0 { "a shard takes as many connections" } else { "every connection needs one" };
            tracing::warn!("only {file_descriptors} file descriptors: {whose}; raise `ulimit -n`, or LimitNOFILE in the service's unit");
        }
        let gates = Arc::new(Gates::new(&config.listeners));
        let (addresses, listeners) = socket::listen(&config.listeners, count)?;
        let mut bells = Vec::new();
        for _ in 0..count {
            bells.push(Arc::new(Bell::new().map_err(|error| format!("cannot make an eventfd: {error}; raise `ulimit -n`"))?));
        }
        let storage = config.storage.data_dir.as_deref().map(|path| Storage::open(path, engine(config.storage.engine)?)).transpose()?;
        let backend_name = name(backend);
        let mut shards =
            Shards { threads: Vec::new(), requests: Vec::new(), gates, bells, addresses, backend: backend_name, options, storage };
        shards.spawn_all(config, count, &cpus, backend, listeners, ended)?;
        if let Some(storage) = &mut shards.storage {
            storage.commit_epoch(count)?;
        }
        shards.request(&Request::Listen);
        Ok(shards)
    }

    fn spawn_all(
        &mut self,
        config: &Config,
        count: u16,
        cpus: &[usize],
        backend: Backend,
        listeners: Vec<Vec<OwnedFd>>,
        ended: &Sender<()>,
    ) -> Result<(), String> {
        let limits = Arc::new(config.limits.clone());
        let started = Instant::now();
        let seed = random_seed();
        let entropy = random_key()?;
        let admission = Arc::new(Admission::new(config));
        let (ready, outcome) = bounded(usize::from(count));
        let log_bytes = log_bytes(config, count)?;
        let mut logs = self.start_logs(count, backend)?.into_iter();
        for ((index, ports), listeners) in mesh(usize::from(count), RING_CAPACITY).into_iter().enumerate().zip(listeners) {
            let (sender, requests) = bounded(REQUESTS);
            self.requests.push(sender);
            let id = ShardId(index as u16);
            let plan = Plan {
                shard: ShardConfig { id, shards: count, limits: Arc::clone(&limits), sys_interval_s: config.sys.interval_s, seed },
                admission: Arc::clone(&admission),
                entropy,
                gates: Arc::clone(&self.gates),
                sys: self.options.clone(),
                backend,
                listeners,
                ports,
                bells: self.bells.clone(),
                requests,
                started,
                // More shards than CPUs: the scheduler does better than a pin.
                cpu: (usize::from(count) <= cpus.len()).then(|| cpus[index]),
                log_bytes,
                storage: logs.next(),
                keeps_live_only: self.storage.as_ref().is_some_and(Storage::keeps_live_only),
            };
            let ready = ready.clone();
            let tells = TellsWhenDropped(ended.clone());
            let thread = std::thread::Builder::new().name(format!("shard-{index}"));
            let spawned = thread.spawn(move || {
                let _tells = tells;
                run_shard(plan, &ready)
            });
            self.threads.push(spawned.map_err(|error| format!("cannot start the thread of shard {index}: {error}"))?);
        }
        drop(ready);
        for _ in 0..count {
            outcome.recv().unwrap_or_else(|_| Err("a shard ended while it started".to_owned()))?;
        }
        Ok(())
    }

    /// One log per shard, with what was recovered; none without a data directory.
    fn start_logs(&mut self, count: u16, backend: Backend) -> Result<Vec<(Journal, Arc<Recovered>)>, String> {
        let Some(storage) = &mut self.storage else { return Ok(Vec::new()) };
        let recovered = Arc::new(std::mem::take(&mut storage.recovered));
        for damage in &recovered.damage {
            let place = damage.set_aside.as_ref().map_or("nowhere: it could not be written".to_owned(), |path| path.display().to_string());
            tracing::warn!("{} bytes of the log could not be read and are left out; they are set aside in {place}", damage.bytes);
        }
        let bells = self.bells.clone();
        let backend = if backend == Backend::Epoll { storage::Backend::Blocking } else { storage::Backend::Glommio };
        let journals = storage.start(count, backend, Arc::new(move |shard: usize| bells[shard].ring()))?;
        Ok(journals.into_iter().map(|journal| (journal, Arc::clone(&recovered))).collect())
    }

    /// Where the broker listens, how it runs, and what to try.
    pub fn summary(&self) -> String {
        let addresses: Vec<_> = self.addresses.iter().map(SocketAddr::to_string).collect();
        let count = self.threads.len();
        let port = self.addresses.first().map_or(1883, SocketAddr::port);
        let option = if port == 1883 { String::new() } else { format!(" -p {port}") };
        format!(
            "ringmq {version} listens on {addresses} with {count} shard{s} over {backend}; try: ringmq sub{option} -v -t '#'  and  ringmq pub{option} -t hello -m world",
            version = env!("CARGO_PKG_VERSION"),
            addresses = addresses.join(", "),
            s = if count == 1 { "" } else { "s" },
            backend = self.backend,
        )
    }

    /// Asks every shard the same.
    pub fn request(&self, request: &Request) {
        for (sender, bell) in self.requests.iter().zip(&self.bells) {
            if sender.send(request.clone()).is_ok() {
                bell.ring();
            }
        }
    }

    /// Who is let in from now on, and how many.
    pub fn set_admission(&self, config: &Config) {
        self.gates.set_limits(&config.listeners);
        self.request(&Request::Admission(Arc::new(Admission::new(config))));
    }

    /// Ends all shards, and waits until they have.
    ///
    /// # Errors
    /// Which shard did not end well, and why.
    pub fn stop(self) -> Result<(), String> {
        self.request(&Request::Stop);
        let mut failed = Vec::new();
        for (index, thread) in self.threads.into_iter().enumerate() {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => failed.push(format!("shard {index}: {error}")),
                Err(_) => failed.push(format!("shard {index} broke down")),
            }
        }
        if let Some(storage) = self.storage {
            storage.join();
        }
        if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
    }
}

/// Lets the control thread know that a shard's thread has ended, in whatever way.
struct TellsWhenDropped(Sender<()>);

impl Drop for TellsWhenDropped {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

fn run_shard(plan: Plan, ready: &Sender<Result<(), String>>) -> std::io::Result<()> {
    if let Some(id) = plan.cpu
        && !core_affinity::set_for_current(core_affinity::CoreId { id })
    {
        tracing::warn!("cannot pin a shard to CPU {id}: is it one that the process may use?");
    }
    let own = Arc::clone(&plan.bells[usize::from(plan.shard.id.0)]);
    let driver = match AnyDriver::open(plan.backend, &plan.sys, own) {
        Ok((driver, _)) => driver,
        Err(error) => {
            let _ = ready.send(Err(format!("cannot start the I/O of shard {}: {error}", plan.shard.id.0)));
            return Ok(());
        }
    };
    let now = plan.started.elapsed().as_millis() as u64;
    let mut shard = Shard::new(plan.shard, now);
    shard.set_entropy(plan.entropy);
    shard.set_admission(plan.admission);
    let (journal, recovered) = plan.storage.unzip();
    if journal.is_some() {
        shard.keep_journal(unix_ms().saturating_sub(now));
        shard.limit_journal(plan.log_bytes);
        if plan.keeps_live_only {
            shard.rewrite_journal_after(None);
        }
    }
    let Plan { listeners, ports, bells, requests, gates, started, .. } = plan;
    let mut shell = Shell { shard, driver, ports, bells, requests, journal, listeners, gates, started };
    if let Some(recovered) = recovered {
        shell.restore(&recovered)?;
    }
    let _ = ready.send(Ok(()));
    shell.run()
}

/// Who keeps what is to outlive the process.
fn engine(wanted: config::Engine) -> Result<storage::Engine, String> {
    match wanted {
        config::Engine::Log => Ok(storage::Engine::Log),
        #[cfg(feature = "engine-fjall")]
        config::Engine::Fjall => Ok(storage::Engine::Fjall(super::keyed::changes)),
        #[cfg(not(feature = "engine-fjall"))]
        config::Engine::Fjall => Err("storage.engine = \"fjall\": this ringmq was built without it".to_owned()),
    }
}

/// How long the log of each of `count` shards may get.
fn log_bytes(config: &Config, count: u16) -> Result<u64, String> {
    let (all, least) = (config.storage.max_bytes, 2 * storage::SEGMENT_BYTES);
    match all / u64::from(count) {
        0 if all == 0 => Ok(u64::MAX),
        each if each < least => Err(format!(
            "storage.max_bytes = {all} is too little for {count} shards: the log of each takes room in pieces of {} bytes and needs two; set at least {}, or 0 for no limit",
            storage::SEGMENT_BYTES,
            least * u64::from(count),
        )),
        each => Ok(each),
    }
}

/// Milliseconds since 1970.
fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// The backend for all shards; a fallback from io_uring is said in one line.
fn choose_backend(wanted: config::Backend) -> Result<Backend, String> {
    match wanted {
        config::Backend::Epoll => Ok(Backend::Epoll),
        config::Backend::Uring => probe().map(|()| Backend::Uring).map_err(|why| format!("io.backend = \"uring\": {why}")),
        config::Backend::Auto => Ok(match probe() {
            Ok(()) => Backend::Uring,
            Err(why) => {
                tracing::warn!("no io_uring, epoll does the work instead: {why}");
                Backend::Epoll
            }
        }),
    }
}

/// The entries of each shard's table of direct descriptors; 0 where connections are descriptors of the process.
fn direct_descriptors(io: &config::Io, backend: Backend, file_descriptors: u64) -> Result<u32, String> {
    let entries = io.direct_descriptors_per_shard.min(u32::try_from(file_descriptors).unwrap_or(u32::MAX));
    match (io.direct_descriptors, backend) {
        (Switch::Off, _) | (Switch::Auto, Backend::Epoll) => Ok(0),
        (Switch::Auto, _) if file_descriptors >= DIRECT_BELOW => Ok(0),
        (Switch::On, Backend::Epoll) => Err("io.direct_descriptors = \"on\": epoll has none; they take io_uring".to_owned()),
        (Switch::On, _) => probe_direct_descriptors().map(|()| entries).map_err(|error| {
            format!(
                "io.direct_descriptors = \"on\": this kernel cannot pass them from shard to shard ({error}); it takes Linux 6.3 or newer"
            )
        }),
        (Switch::Auto, _) => Ok(if probe_direct_descriptors().is_ok() { entries } else { 0 }),
    }
}

fn name(backend: Backend) -> &'static str {
    match backend {
        Backend::Epoll => "epoll",
        Backend::Auto | Backend::Uring => "io_uring",
    }
}

fn options(io: &config::Io) -> Options {
    Options {
        receive_buffers: io.recv_buffers,
        receive_buffer_bytes: io.recv_buffer_bytes,
        max_events_per_turn: io.max_events_per_turn,
        ..Options::default()
    }
}

/// A seed that clients cannot know: for hashes of what they choose.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// # Errors
/// The system has no randomness to give.
fn random_key() -> Result<[u8; 32], String> {
    let mut key = [0; 32];
    // Up to 256 bytes come whole (getrandom(2)).
    match rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty()) {
        Ok(length) if length == key.len() => Ok(key),
        Ok(_) => Err("the system gave fewer random bytes than it was asked for".to_owned()),
        Err(error) => Err(format!("the system has no random bytes to give: {error}")),
    }
}
