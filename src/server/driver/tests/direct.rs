//! What only direct descriptors have: a table that can be full.

use super::listening::listen;
use super::*;

fn small(entries: u32) -> World<Direct> {
    let accept_backoff = Duration::from_millis(10);
    World::with(&Options { direct_descriptors: entries, accept_backoff, ..Options::default() })
}

/// A connection that `world` has accepted, attached under `slot`.
fn accept(world: &mut World<Direct>, address: SocketAddr, slot: u32) -> (TcpStream, ConnId) {
    let client = TcpStream::connect(address).expect("connect");
    world.until("accepted", |log| !log.accepted.is_empty());
    let (_, socket, _) = world.log.accepted.pop().expect("just seen");
    let conn = ConnId { slot, generation: 1 };
    world.driver.attach(conn, socket).expect("attach");
    (client, conn)
}

#[test]
fn a_full_table_makes_a_listener_rest_and_no_client_is_lost() {
    let mut world = small(8);
    let address = listen(&mut world, 7);
    let mut clients: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(address).expect("connect")).collect();
    let mut served = Vec::new();
    while served.len() < clients.len() {
        let failures = world.log.accept_failures.len();
        world.until("a full table, twice", |log| {
            log.accept_failures.len() >= failures + 2 || served.len() + log.accepted.len() == clients.len()
        });
        assert!(world.log.accepted.len() <= 8);
        for (_, socket, peer) in std::mem::take(&mut world.log.accepted) {
            let conn = ConnId { slot: served.len() as u32, generation: 0 };
            served.push(peer.expect("an address"));
            world.driver.attach(conn, socket).expect("attach");
            world.driver.close(conn, Close::Now);
        }
    }
    assert!(world.log.accept_failures.iter().all(|failure| *failure == (7, Some(libc::ENFILE))));
    let mut expected: Vec<SocketAddr> = clients.iter().map(|client| client.local_addr().expect("address")).collect();
    expected.sort_unstable();
    served.sort_unstable();
    assert_eq!(served, expected);
    world.until("all closed", |log| log.closed.len() == clients.len());
    world.turn(Wait::Poll);
    for client in &mut clients {
        assert_eq!(client.read(&mut [0]).expect("the end"), 0);
    }
}

#[test]
fn sockets_that_are_not_wanted_make_room_again() {
    let mut world = small(2);
    let address = listen(&mut world, 0);
    for _ in 0..50 {
        let mut client = TcpStream::connect(address).expect("connect");
        world.until("accepted", |log| !log.accepted.is_empty());
        let (_, socket, _) = world.log.accepted.pop().expect("just seen");
        world.driver.discard(socket);
        world.turn(Wait::Poll);
        assert_eq!(client.read(&mut [0]).expect("the end"), 0);
    }
    assert_eq!(world.log.accept_failures, []);
}

#[test]
fn a_connection_that_finds_the_other_table_full_is_closed() {
    let (mut from, mut to) = (small(8), small(1));
    let (there, here) = (listen(&mut to, 0), listen(&mut from, 0));
    let (_held, _) = accept(&mut to, there, 0);
    let (mut client, conn) = accept(&mut from, here, 3);
    from.driver.detach(conn, &to.bell);
    from.until_closed(&[conn]);
    assert_eq!(from.log.ended.len(), 1);
    assert!(from.log.detached.is_empty());
    assert_eq!(client.read(&mut [0]).expect("the end"), 0);
}

#[test]
fn connections_move_to_and_fro_for_ever() {
    let (mut one, mut two) = (small(4), small(4));
    let address = listen(&mut one, 0);
    let (mut client, mut conn) = accept(&mut one, address, 0);
    for round in 0..100_u32 {
        let (from, to) = if round % 2 == 0 { (&mut one, &mut two) } else { (&mut two, &mut one) };
        from.driver.detach(conn, &to.bell);
        from.until("the socket", |log| !log.detached.is_empty());
        let (_, socket) = from.log.detached.pop().expect("just seen");
        conn = ConnId { slot: 0, generation: 10 + round };
        to.driver.attach(conn, socket).expect("attach");
        client.write_all(&round.to_le_bytes()).expect("write");
        to.until("the bytes", |log| log.bytes_of(conn) == round.to_le_bytes());
    }
    assert_eq!((one.log.accept_failures.len(), two.log.accept_failures.len()), (0, 0));
}

#[test]
fn what_is_left_in_a_table_is_closed_with_its_driver() {
    let mut world = small(8);
    let address = listen(&mut world, 0);
    let (mut attached, _) = accept(&mut world, address, 0);
    let mut accepted = TcpStream::connect(address).expect("connect");
    world.until("accepted", |log| log.accepted.len() == 1);
    // The bell has a descriptor of the ring, and outlives it.
    let bell = Arc::clone(&world.bell);
    drop(world);
    assert_eq!((attached.read(&mut [0]).ok(), accepted.read(&mut [0]).ok()), (Some(0), Some(0)));
    drop(bell);
}
