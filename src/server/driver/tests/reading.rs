//! Bytes in: nothing is lost or reordered by pauses, by moving to another driver, or for want of buffers.

use super::*;

on_every_driver!(
    bytes_arrive_in_order_and_the_end_is_told_once,
    many_connections_are_served,
    a_turn_that_handles_one_event_serves_all,
    tiny_queues_lose_nothing,
    a_shortage_of_buffers_loses_nothing,
    a_pause_holds_the_peer_back_and_loses_nothing,
    a_pause_that_is_taken_back_at_once_loses_nothing,
    every_read_answered_with_a_pause_loses_nothing,
    a_connection_moves_with_bytes_in_flight,
    a_connection_moves_after_its_first_packet,
    a_reset_is_told_as_an_error,
    a_socket_in_non_blocking_mode_serves_too,
    a_slot_is_taken_once,
    an_id_of_an_earlier_generation_does_nothing,
);

fn bytes_arrive_in_order_and_the_end_is_told_once<D: Make>() {
    let mut world = World::<D>::new();
    let (mut client, conn) = world.connect(3);
    let data = pattern(300_000);
    let expected = data.clone();
    let writer = std::thread::spawn(move || client.write_all(&data).expect("write"));
    world.until("the end", |log| !log.ended.is_empty());
    writer.join().expect("writer");
    assert_same(world.log.bytes_of(conn), &expected);
    assert_eq!(world.log.ended, [(conn, None)]);
    world.driver.close(conn, Close::Now);
    world.until("closed", |log| log.closed == [conn]);
}

fn many_connections_are_served<D: Make>() {
    serve_many(World::<D>::new(), 200, 1_000);
}

fn a_turn_that_handles_one_event_serves_all<D: Make>() {
    serve_many(World::<D>::with(&Options { max_events_per_turn: 1, ..Options::default() }), 20, 1_000);
}

fn tiny_queues_lose_nothing<D: Make>() {
    serve_many(World::<D>::with(&Options { submission_entries: 2, completion_entries: 4, ..Options::default() }), 200, 10_000);
}

fn a_shortage_of_buffers_loses_nothing<D: Make>() {
    serve_many(World::<D>::with(&Options { receive_buffers: 2, receive_buffer_bytes: 512, ..Options::default() }), 100, 20_000);
}

/// Every client sends its own bytes, gets them back, and closes.
fn serve_many<D: Make>(mut world: World<D>, count: u32, bytes: usize) {
    let mut clients: Vec<(TcpStream, ConnId)> = (0..count).map(|slot| world.connect(slot)).collect();
    let data_of = |slot: u32| -> Vec<u8> { pattern(bytes).iter().map(|byte| byte ^ slot as u8).collect() };
    for (client, conn) in &mut clients {
        client.write_all(&data_of(conn.slot)).expect("fits into the socket's buffers");
    }
    world.until("all bytes", |log| log.received.values().map(Vec::len).sum::<usize>() == count as usize * bytes);
    for (_, conn) in &clients {
        let received = world.log.bytes_of(*conn).to_vec();
        assert_same(&received, &data_of(conn.slot));
        world.send(*conn, batch(&received));
    }
    world.until("all sent", |log| log.sent.len() == count as usize);
    for (client, conn) in &mut clients {
        let mut echo = vec![0; bytes];
        client.read_exact(&mut echo).expect("echo");
        assert_same(&echo, &data_of(conn.slot));
    }
    let conns: Vec<ConnId> = clients.iter().map(|(_, conn)| *conn).collect();
    drop(clients);
    world.until("all ended", |log| log.ended.len() == count as usize);
    for conn in conns {
        world.driver.close(conn, Close::Now);
    }
    world.until("all closed", |log| log.closed.len() == count as usize);
    assert!(world.log.sent.iter().all(|sent| sent.1 == bytes && sent.2.is_ok()));
}

/// Writes as much as the kernel takes without waiting for the reader.
fn fill(client: &mut TcpStream, data: &[u8]) -> usize {
    client.set_nonblocking(true).expect("mode");
    let mut written = 0;
    while let Ok(count) = client.write(&data[written..]) {
        written += count;
    }
    client.set_nonblocking(false).expect("mode");
    written
}

fn a_pause_holds_the_peer_back_and_loses_nothing<D: Make>() {
    let mut world = World::<D>::new();
    let (mut client, conn) = world.connect(0);
    client.write_all(b"x").expect("write");
    world.until("the first byte", |log| log.bytes_of(conn).len() == 1);
    world.driver.pause(conn);
    // Nothing is in flight any more once turns bring nothing: what the kernel had read before comes first.
    (0..5).for_each(|_| world.turn(Wait::Poll));
    let data = pattern(32 << 20);
    let written = fill(&mut client, &data);
    assert!(written < data.len(), "somebody reads on");
    for _ in 0..5 {
        world.turn(Wait::For(Duration::from_millis(1)));
    }
    assert_eq!(world.log.bytes_of(conn).len(), 1);
    world.driver.resume(conn);
    world.until("what was written meanwhile", |log| log.bytes_of(conn).len() == 1 + written);
    assert_same(&world.log.bytes_of(conn)[1..], &data[..written]);
}

fn a_pause_that_is_taken_back_at_once_loses_nothing<D: Make>() {
    let mut world = World::<D>::new();
    let (mut client, conn) = world.connect(0);
    let data = pattern(4 << 20);
    let expected = data.clone();
    let writer = std::thread::spawn(move || client.write_all(&data).map(|()| client).expect("write"));
    let mut turns = 0;
    while world.log.bytes_of(conn).len() < expected.len() {
        match turns % 4 {
            0 => world.driver.pause(conn),
            1 => world.driver.resume(conn),
            2 => {
                world.driver.pause(conn);
                world.driver.resume(conn);
            }
            _ => {
                world.driver.pause(conn);
                world.driver.resume(conn);
                world.driver.pause(conn);
            }
        }
        turns += 1;
        if turns % 4 == 0 {
            world.driver.resume(conn);
        }
        world.turn(Wait::Poll);
        assert!(world.log.ended.is_empty());
    }
    assert_same(world.log.bytes_of(conn), &expected);
    drop(writer.join().expect("writer"));
}

fn every_read_answered_with_a_pause_loses_nothing<D: Make>() {
    let mut world = World::<D>::new();
    world.log.pauses = true;
    let (mut client, conn) = world.connect(0);
    let data = pattern(2 << 20);
    let expected = data.clone();
    let writer = std::thread::spawn(move || client.write_all(&data).expect("write"));
    while world.log.ended.is_empty() {
        let reads = world.log.reads;
        world.until("a read or the end", |log| log.reads > reads || !log.ended.is_empty());
        world.driver.resume(conn);
    }
    writer.join().expect("writer");
    assert_same(world.log.bytes_of(conn), &expected);
}

fn a_connection_moves_with_bytes_in_flight<D: Make>() {
    let (mut from, mut to) = (World::<D>::new(), World::<D::Neighbour>::new());
    let (mut client, conn) = from.connect(5);
    let data = pattern(6 << 20);
    let expected = data.clone();
    let writer = std::thread::spawn(move || client.write_all(&data).map(|()| client).expect("write"));
    from.until("some reads", |log| log.reads >= 3);
    from.driver.detach(conn, &to.bell);
    from.until("the socket", |log| !log.detached.is_empty());
    let (id, socket) = from.log.detached.pop().expect("just seen");
    assert_eq!(id, conn);
    let moved = ConnId { slot: 9, generation: 4 };
    to.driver.attach(moved, socket).expect("attach");
    let before = from.log.bytes_of(conn).len();
    to.until("the rest", |log| before + log.bytes_of(moved).len() >= expected.len());
    let together: Vec<u8> = from.log.bytes_of(conn).iter().chain(to.log.bytes_of(moved)).copied().collect();
    assert_same(&together, &expected);

    // And back again: what the one driver leaves behind suits the other.
    let mut client = writer.join().expect("writer");
    to.driver.detach(moved, &from.bell);
    to.until("the socket", |log| !log.detached.is_empty());
    let (_, socket) = to.log.detached.pop().expect("just seen");
    let back = ConnId { slot: 5, generation: 2 };
    from.driver.attach(back, socket).expect("the slot is free");
    client.write_all(b"home").expect("write");
    from.until("the last bytes", |log| log.bytes_of(back) == b"home");
    from.send(back, batch(b"echo"));
    from.until("sent", |log| log.sent.len() == 1);
    let mut echo = [0; 4];
    client.read_exact(&mut echo).expect("read");
    assert_eq!(&echo, b"echo");
}

fn a_connection_moves_after_its_first_packet<D: Make>() {
    let (mut world, mut to) = (World::<D>::new(), World::<D>::new());
    let (mut client, conn) = world.connect(0);
    client.write_all(b"CONNECT").expect("write");
    world.log.pauses = true;
    world.until("the packet", |log| log.bytes_of(conn) == b"CONNECT");
    client.write_all(b" and more").expect("write");
    world.driver.detach(conn, &to.bell);
    world.until("the socket", |log| log.detached.len() == 1);
    let (_, socket) = world.log.detached.pop().expect("just seen");
    let next = ConnId { slot: 0, generation: 2 };
    to.driver.attach(next, socket).expect("the slot is free");
    to.until("all bytes", |log| world.log.bytes_of(conn).len() + log.bytes_of(next).len() == 16);
    assert_eq!([world.log.bytes_of(conn), to.log.bytes_of(next)].concat(), b"CONNECT and more");
}

fn a_reset_is_told_as_an_error<D: Make>() {
    let mut world = World::<D>::new();
    let (client, conn) = world.connect(0);
    world.turn(Wait::Poll);
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("linger");
    drop(client);
    world.until("the end", |log| !log.ended.is_empty());
    assert_eq!(world.log.ended, [(conn, Some(io::ErrorKind::ConnectionReset))]);
    world.send(conn, batch(b"too late"));
    world.until("the failure", |log| log.sent.len() == 1);
    assert!(world.log.sent[0].2.is_err());
    world.driver.close(conn, Close::AfterSend);
    world.until("closed", |log| log.closed == [conn]);
}

fn a_socket_in_non_blocking_mode_serves_too<D: Make>() {
    let mut world = World::<D>::new();
    let (mut client, socket) = pair();
    socket2::SockRef::from(&socket).set_nonblocking(true).expect("mode");
    let conn = ConnId { slot: 0, generation: 1 };
    world.attach(conn, socket).expect("attach");
    (0..3).for_each(|_| world.turn(Wait::Poll));
    client.write_all(b"hello").expect("write");
    world.until("the bytes", |log| log.bytes_of(conn) == b"hello");
    let data = pattern(8 << 20);
    world.send(conn, batch(&data));
    let reader = std::thread::spawn(move || {
        let mut got = vec![0; 8 << 20];
        client.read_exact(&mut got).map(|()| got).expect("read")
    });
    world.until("sent", |log| log.sent.len() == 1);
    assert_eq!(world.log.sent[0].2, Ok(()));
    assert_same(&reader.join().expect("reader"), &data);
}

fn a_slot_is_taken_once<D: Make>() {
    let mut world = World::<D>::new();
    let (_client, conn) = world.connect(0);
    let (_other, socket) = pair();
    let again = world.attach(ConnId { generation: 2, ..conn }, socket);
    assert_eq!(again.map_err(|error| error.kind()), Err(io::ErrorKind::AlreadyExists));
    let (_other, socket) = pair();
    let far = world.attach(ConnId { slot: u32::MAX, generation: 1 }, socket);
    assert_eq!(far.map_err(|error| error.kind()), Err(io::ErrorKind::InvalidInput));
}

fn an_id_of_an_earlier_generation_does_nothing<D: Make>() {
    let mut world = World::<D>::new();
    let (_client, old) = world.connect(7);
    world.driver.close(old, Close::Now);
    world.until("closed", |log| log.closed == [old]);
    let (mut client, socket) = pair();
    let new = ConnId { generation: 2, ..old };
    world.attach(new, socket).expect("the slot is free");
    world.driver.pause(old);
    let bell = Arc::clone(&world.bell);
    world.driver.detach(old, &bell);
    world.driver.close(old, Close::Now);
    let refused = world.driver.send(old, batch(b"lost"));
    assert!(matches!(refused, Some((back, Err(_))) if back.len() == 4), "the batch comes back at once");
    client.write_all(b"alive").expect("write");
    world.until("the bytes", |log| log.bytes_of(new) == b"alive");
    assert_eq!((world.log.closed.len(), world.log.detached.len(), world.log.sent.len()), (1, 0, 0));
}

/// Only on the ring: with epoll all connections share one buffer.
#[test]
fn receive_buffers_give_their_memory_back_and_serve_on() {
    let mut world = World::<Uring>::new();
    let (mut client, conn) = world.connect(0);
    assert!(!world.driver.holds_receive_memory());
    let mut expected = Vec::new();
    for round in 1..3u8 {
        let data: Vec<u8> = pattern(100_000).iter().map(|byte| byte ^ round).collect();
        expected.extend_from_slice(&data);
        client.write_all(&data).expect("write");
        world.until("the bytes of this round", |log| log.bytes_of(conn).len() == expected.len());
        assert_same(world.log.bytes_of(conn), &expected);
        assert!(world.driver.holds_receive_memory());
        world.driver.trim();
        assert!(!world.driver.holds_receive_memory());
    }
}
