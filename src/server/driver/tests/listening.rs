//! Listeners: who came, by which door, and what happens when no descriptor is left.

use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

use super::*;

on_every_driver!(
    a_listener_tells_who_came,
    a_unix_listener_serves_too,
    a_stopped_listener_refuses,
    a_listener_is_gone_with_its_driver,
    a_burst_of_connections_is_accepted,
    a_listener_without_descriptors_rests_and_goes_on_unless_it_needs_none,
);

pub(super) fn listen<D: Make>(world: &mut World<D>, id: u32) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    world.driver.listen(id, listener.into()).expect("listen");
    address
}

fn a_listener_tells_who_came<D: Make>() {
    let mut world = World::<D>::new();
    let (first, second) = (listen(&mut world, 40), listen(&mut world, 41));
    for (address, id) in [(first, 40), (second, 41), (first, 40)] {
        let mut client = TcpStream::connect(address).expect("connect");
        world.until("accepted", |log| !log.accepted.is_empty());
        let (listener, socket, peer) = world.log.accepted.pop().expect("just seen");
        assert_eq!((listener, peer), (id, Some(client.local_addr().expect("address"))));
        let conn = ConnId { slot: 0, generation: world.log.closed.len() as u32 };
        world.driver.attach(conn, socket).expect("attach");
        client.write_all(b"hello").expect("write");
        world.until("bytes", |log| log.bytes_of(conn) == b"hello");
        world.driver.close(conn, Close::Now);
        world.until("closed", |log| log.closed.last() == Some(&conn));
    }
}

fn a_unix_listener_serves_too<D: Make>() {
    let mut world = World::<D>::new();
    let kind = std::any::type_name::<D>().rsplit("::").next().expect("a name");
    let path = std::env::temp_dir().join(format!("ringmq-{}-{kind}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).expect("bind");
    world.driver.listen(1, listener.into()).expect("listen");
    let mut client = UnixStream::connect(&path).expect("connect");
    std::fs::remove_file(&path).expect("remove");
    world.until("accepted", |log| !log.accepted.is_empty());
    let (_, socket, peer) = world.log.accepted.pop().expect("just seen");
    assert_eq!(peer, None);
    let conn = ConnId { slot: 0, generation: 0 };
    world.driver.attach(conn, socket).expect("attach");
    client.write_all(b"hello").expect("write");
    world.until("bytes", |log| log.bytes_of(conn) == b"hello");
    world.send(conn, batch(b"bye"));
    world.driver.close(conn, Close::AfterSend);
    // The send, then the end of it.
    (0..2).for_each(|_| world.turn(Wait::Poll));
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).expect("read");
    assert_eq!(rest, b"bye");
}

fn a_stopped_listener_refuses<D: Make>() {
    let mut world = World::<D>::new();
    let address = listen(&mut world, 1);
    world.turn(Wait::Poll);
    world.driver.stop_listening();
    let start = Instant::now();
    while TcpStream::connect(address).is_ok() {
        assert!(start.elapsed() < PATIENCE);
        world.turn(Wait::Poll);
    }
    assert!(world.log.accept_failures.is_empty());
    let again = listen(&mut world, 2);
    let _client = TcpStream::connect(again).expect("connect");
    world.until("accepted", |log| log.accepted.iter().any(|accepted| accepted.0 == 2));
}

fn a_listener_is_gone_with_its_driver<D: Make>() {
    let mut world = World::<D>::new();
    let address = listen(&mut world, 1);
    world.turn(Wait::Poll);
    let bell = Arc::clone(&world.bell);
    drop(world);
    TcpListener::bind(address).expect("nobody listens there any more");
    drop(bell);
}

fn a_burst_of_connections_is_accepted<D: Make>() {
    let mut world = World::<D>::with(&Options { completion_entries: 16, submission_entries: 8, ..Options::default() });
    let address = listen(&mut world, 1);
    let clients: Vec<TcpStream> = (0..120).map(|_| TcpStream::connect(address).expect("connect")).collect();
    world.until("all accepted", |log| log.accepted.len() == clients.len());
}

/// The limit of descriptors belongs to the whole process, so the test proper runs in a process of its own: this program again, with this
/// test alone.
fn a_listener_without_descriptors_rests_and_goes_on_unless_it_needs_none<D: Make>() {
    const CHILD: &str = "RINGMQ_TEST_WITHOUT_DESCRIPTORS";
    if std::env::var_os(CHILD).is_some() {
        return without_descriptors::<D>();
    }
    let thread = std::thread::current();
    let name = thread.name().expect("a test's thread has its name");
    let child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", name, "--test-threads=1", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("run");
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && output.contains("1 passed"), "{output}\n{}", String::from_utf8_lossy(&child.stderr));
}

fn without_descriptors<D: Make>() {
    const BACKOFF: Duration = Duration::from_millis(20);
    let mut world = World::<D>::with(&Options { accept_backoff: BACKOFF, ..Options::default() });
    let address = listen(&mut world, 9);
    let client = TcpStream::connect(address).expect("connect");
    let mut hoard: Vec<std::fs::File> = Vec::new();
    let used = std::fs::read_dir("/proc/self/fd").expect("proc").count() as u64;
    let limit = libc::rlimit { rlim_cur: used + 8, rlim_max: used + 8 };
    // SAFETY: the structure is alive during the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    while let Ok(file) = std::fs::File::open("/dev/null") {
        hoard.push(file);
    }
    if !D::DESCRIPTORS {
        world.until("accepted all the same", |log| log.accepted.len() == 1);
        return assert!(world.log.accept_failures.is_empty());
    }
    world.until("two failures, a rest between them", |log| log.accept_failures.len() >= 2);
    let start = Instant::now();
    let failures = world.log.accept_failures.len();
    world.until("further failures", |log| log.accept_failures.len() >= failures + 3);
    assert!(start.elapsed() >= 2 * BACKOFF, "it rests");
    assert!(world.log.accept_failures.iter().all(|failure| *failure == (9, Some(libc::EMFILE))));
    hoard.clear();
    world.until("accepted", |log| log.accepted.len() == 1);
    drop(client);
}
