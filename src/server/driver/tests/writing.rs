//! Bytes out: whole batches, in order, however slow the reader.

use super::*;

on_every_driver!(
    a_batch_of_thousands_of_slices_arrives_whole_at_a_slow_reader,
    an_empty_batch_is_sent_at_once,
    a_second_batch_in_flight_is_refused,
    a_connection_reads_while_its_send_waits,
    the_bell_ends_a_wait,
    a_wait_ends_in_time,
);

fn a_batch_of_thousands_of_slices_arrives_whole_at_a_slow_reader<D: Make>() {
    let mut world = World::<D>::new();
    let (mut client, conn) = world.connect(0);
    let chunk = Rc::new(pattern(1 << 20));
    let (mut batch, mut expected) = (OutBatch::default(), Vec::new());
    for n in 0..12_000_u32 {
        let start = n * 37 % 1_000_000;
        let end = start + 1 + n % 3_000;
        if n % 5 == 0 {
            batch.own().extend_from_slice(&n.to_le_bytes());
            expected.extend_from_slice(&n.to_le_bytes());
        }
        batch.push_shared(&chunk, start, end);
        expected.extend_from_slice(&chunk[start as usize..end as usize]);
    }
    let total = expected.len();
    world.send(conn, batch);
    world.turn(Wait::Poll);
    assert!(world.log.sent.is_empty(), "the reader has not begun");
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        let mut part = [0; 10_007];
        while got.len() < total {
            let count = client.read(&mut part).expect("read");
            assert!(count > 0);
            got.extend_from_slice(&part[..count]);
        }
        got
    });
    world.until("sent", |log| log.sent.len() == 1);
    assert_eq!(world.log.sent, [(conn, total, Ok(()))]);
    assert_same(&reader.join().expect("reader"), &expected);
}

fn an_empty_batch_is_sent_at_once<D: Make>() {
    let mut world = World::<D>::new();
    let (_client, conn) = world.connect(0);
    assert!(matches!(world.driver.send(conn, OutBatch::default()), Some((_, Ok(())))));
}

fn a_second_batch_in_flight_is_refused<D: Make>() {
    let mut world = World::<D>::new();
    let (client, conn) = world.connect(0);
    let large = 64 << 20;
    assert!(world.driver.send(conn, batch(&vec![0; large])).is_none(), "more than the kernel takes at once");
    assert!(matches!(world.driver.send(conn, batch(b"more")), Some((_, Err(_)))));
    drop(client);
    world.until("the failure", |log| log.sent.len() == 1);
    assert_eq!(world.log.sent[0].1, large);
}

fn a_connection_reads_while_its_send_waits<D: Make>() {
    let mut world = World::<D>::new();
    let (mut client, conn) = world.connect(0);
    let data = pattern(32 << 20);
    world.send(conn, batch(&data));
    world.turn(Wait::Poll);
    client.write_all(b"still here").expect("write");
    world.until("bytes", |log| log.bytes_of(conn) == b"still here");
    assert!(world.log.sent.is_empty());
    let reader = std::thread::spawn(move || {
        let mut got = vec![0; 32 << 20];
        client.read_exact(&mut got).map(|()| got).expect("read")
    });
    world.until("sent", |log| log.sent.len() == 1);
    assert_same(&reader.join().expect("reader"), &data);
}

fn the_bell_ends_a_wait<D: Make>() {
    let mut world = World::<D>::new();
    (0..3).for_each(|_| world.turn(Wait::Poll));
    for round in 1..=50 {
        let before = world.log.rung;
        assert!(!world.bell.prepare_to_sleep(|| true), "there is work");
        world.turn(Wait::Poll);
        assert_eq!(world.log.rung, before, "nobody rings a shard that is awake");
        assert!(world.bell.prepare_to_sleep(|| false));
        let bell = Arc::clone(&world.bell);
        let ringer = std::thread::spawn(move || bell.ring());
        world.turn(Wait::Forever);
        ringer.join().expect("ringer");
        assert_eq!(world.log.rung, before + 1, "round {round}");
        world.bell.ring();
    }
}

fn a_wait_ends_in_time<D: Make>() {
    let mut world = World::<D>::new();
    (0..3).for_each(|_| world.turn(Wait::Poll));
    let start = Instant::now();
    world.turn(Wait::For(Duration::from_millis(15)));
    assert!(start.elapsed() >= Duration::from_millis(15));
    assert!(start.elapsed() < PATIENCE);
    world.bell.ring();
    assert!(world.bell.prepare_to_sleep(|| false));
    world.bell.ring();
    world.turn(Wait::For(Duration::MAX));
    assert_eq!(world.log.rung, 1, "even the longest wait is a valid one");
}

#[test]
fn a_turn_of_the_ring_is_one_system_call() {
    let mut world = World::<Uring>::new();
    let mut clients: Vec<(TcpStream, ConnId)> = (0..50).map(|slot| world.connect(slot)).collect();
    for _ in 0..20 {
        for (client, _) in &mut clients {
            client.write_all(b"ping").expect("write");
        }
        let mut turns = 0;
        let calls = world.driver.system_calls();
        world.log.received.clear();
        world.until("all", |log| {
            turns += 1;
            log.received.values().map(Vec::len).sum::<usize>() == 50 * 4
        });
        assert!(world.driver.system_calls() - calls < turns);
        for (_, conn) in &clients {
            world.send(*conn, batch(b"pong"));
        }
        let calls = world.driver.system_calls();
        world.turn(Wait::Poll);
        assert_eq!(world.driver.system_calls(), calls + 1, "fifty sends are one call");
        let sent = world.log.sent.len();
        assert_eq!(sent % 50, 0);
    }
    let calls = world.driver.system_calls();
    world.turn(Wait::Poll);
    world.turn(Wait::Poll);
    assert!(world.driver.system_calls() <= calls + 1, "a turn with nothing to do makes no call");
}

#[test]
fn a_driver_goes_while_everything_is_in_flight() {
    let mut world = World::<Uring>::new();
    let clients: Vec<(TcpStream, ConnId)> = (0..20).map(|slot| world.connect(slot)).collect();
    for (_, conn) in &clients {
        world.send(*conn, batch(&vec![1; 16 << 20]));
    }
    world.turn(Wait::Poll);
    drop(world);
    for (mut client, _) in clients {
        let mut rest = Vec::new();
        let _ = client.read_to_end(&mut rest);
        assert!(rest.len() < 16 << 20 && rest.iter().all(|byte| *byte == 1));
    }
}
