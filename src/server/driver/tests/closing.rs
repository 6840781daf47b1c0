//! Ends: at once, after the last packet, and with peers that do not play along.

use super::*;

on_every_driver!(
    closing_now_gives_the_batch_back_and_tells_once,
    a_last_packet_reaches_a_peer_that_is_still_sending,
    a_close_after_send_waits_for_the_send,
    a_peer_that_floods_is_cut_off,
    a_peer_that_stays_is_cut_off_in_time,
    a_peer_that_does_not_read_is_cut_off_in_time,
    closing_now_overrides_closing_after_send,
    closing_overrides_detaching,
    a_half_closed_peer_can_still_be_sent_to,
    a_slot_is_used_again_and_again,
);

fn large() -> Vec<u8> {
    pattern(64 << 20)
}

fn closing_now_gives_the_batch_back_and_tells_once<D: Make>() {
    let mut world = World::<D>::new();
    let (mut client, conn) = world.connect(0);
    world.send(conn, batch(&large()));
    world.turn(Wait::Poll);
    world.driver.close(conn, Close::Now);
    world.driver.close(conn, Close::Now);
    world.until_closed(&[conn]);
    assert!(matches!(world.log.sent[..], [(_, len, Err(_))] if len == 64 << 20));
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest);
    assert_same(&rest, &large()[..rest.len()]);
    (0..3).for_each(|_| world.turn(Wait::Poll));
    assert_eq!(world.log.closed.len(), 1);
}

fn a_last_packet_reaches_a_peer_that_is_still_sending<D: Make>() {
    for paused in [false, true] {
        let mut world = World::<D>::new();
        let (mut client, conn) = world.connect(0);
        world.log.pauses = paused;
        client.write_all(&pattern(5_000)).expect("write");
        world.until("some bytes", |log| log.reads > 0);
        client.write_all(&pattern(20_000)).expect("write");
        world.send(conn, batch(b"DISCONNECT"));
        world.driver.close(conn, Close::AfterSend);
        let reads = world.log.reads;
        let reader = std::thread::spawn(move || {
            client.write_all(&pattern(20_000)).expect("the peer still sends");
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).map(|_| rest).expect("no reset")
        });
        world.until_closed(&[conn]);
        assert_eq!(reader.join().expect("reader"), b"DISCONNECT");
        assert_eq!(world.log.reads, reads, "what comes after the close is discarded");
        assert!(world.log.ended.is_empty());
    }
}

fn a_close_after_send_waits_for_the_send<D: Make>() {
    let mut world = World::<D>::new();
    let (mut client, conn) = world.connect(0);
    world.send(conn, batch(&large()));
    world.driver.close(conn, Close::AfterSend);
    world.turn(Wait::Poll);
    let reader = std::thread::spawn(move || {
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).map(|_| rest).expect("read")
    });
    world.until_closed(&[conn]);
    assert_eq!(world.log.sent, [(conn, 64 << 20, Ok(()))]);
    assert_same(&reader.join().expect("reader"), &large());
}

fn a_peer_that_floods_is_cut_off<D: Make>() {
    let mut world = World::<D>::with(&Options { drain_timeout: Duration::from_secs(3_600), ..Options::default() });
    let (mut client, conn) = world.connect(0);
    world.send(conn, batch(b"DISCONNECT"));
    world.driver.close(conn, Close::AfterSend);
    let writer = std::thread::spawn(move || while client.write_all(&[0; 1_000]).is_ok() {});
    world.until_closed(&[conn]);
    writer.join().expect("writer");
}

fn a_peer_that_stays_is_cut_off_in_time<D: Make>() {
    let mut world = World::<D>::with(&Options { drain_timeout: Duration::from_millis(30), ..Options::default() });
    let (mut client, conn) = world.connect(0);
    let start = Instant::now();
    world.driver.close(conn, Close::AfterSend);
    world.turn(Wait::Poll);
    let mut end = [0];
    assert_eq!(client.read(&mut end).ok(), Some(0), "the write side is shut with the first turn");
    while world.log.closed.is_empty() {
        assert!(start.elapsed() < PATIENCE);
        world.turn(Wait::Forever);
    }
    assert!(start.elapsed() >= Duration::from_millis(30));
}

fn a_peer_that_does_not_read_is_cut_off_in_time<D: Make>() {
    let mut world = World::<D>::with(&Options { finish_timeout: Duration::from_millis(30), ..Options::default() });
    let (_client, conn) = world.connect(0);
    world.send(conn, batch(&large()));
    world.driver.close(conn, Close::AfterSend);
    let start = Instant::now();
    while world.log.closed.is_empty() {
        assert!(start.elapsed() < PATIENCE);
        world.turn(Wait::Forever);
    }
    assert!(matches!(world.log.sent[..], [(_, _, Err(_))]));
}

fn closing_now_overrides_closing_after_send<D: Make>() {
    let mut world = World::<D>::with(&Options {
        finish_timeout: Duration::from_secs(3_600),
        drain_timeout: Duration::from_secs(3_600),
        ..Options::default()
    });
    let (_client, sending) = world.connect(0);
    let (_other, idle) = world.connect(1);
    world.send(sending, batch(&large()));
    for conn in [sending, idle] {
        world.driver.close(conn, Close::AfterSend);
    }
    (0..3).for_each(|_| world.turn(Wait::Poll));
    assert!(world.log.closed.is_empty());
    for conn in [sending, idle] {
        world.driver.close(conn, Close::Now);
        world.driver.close(conn, Close::AfterSend);
    }
    world.until("both closed", |log| log.closed.len() == 2);
}

fn closing_overrides_detaching<D: Make>() {
    let mut world = World::<D>::new();
    let (_client, conn) = world.connect(0);
    world.send(conn, batch(&large()));
    let to = World::<D::Neighbour>::new();
    world.driver.detach(conn, &to.bell);
    world.turn(Wait::Poll);
    assert!(world.log.detached.is_empty(), "a send is in flight");
    world.driver.close(conn, Close::Now);
    world.until("closed", |log| log.closed == [conn]);
    (0..3).for_each(|_| world.turn(Wait::Poll));
    assert!(world.log.detached.is_empty());
}

fn a_half_closed_peer_can_still_be_sent_to<D: Make>() {
    let mut world = World::<D>::new();
    let (mut client, conn) = world.connect(0);
    client.write_all(b"last words").expect("write");
    client.shutdown(std::net::Shutdown::Write).expect("shutdown");
    world.until("the end", |log| log.ended == [(conn, None)]);
    assert_eq!(world.log.bytes_of(conn), b"last words");
    world.send(conn, batch(b"answer"));
    world.until("sent", |log| log.sent.len() == 1);
    world.driver.close(conn, Close::AfterSend);
    world.until_closed(&[conn]);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).expect("read");
    assert_eq!(rest, b"answer");
}

fn a_slot_is_used_again_and_again<D: Make>() {
    let mut world = World::<D>::new();
    for generation in 0..200 {
        let (mut client, socket) = pair();
        let conn = ConnId { slot: 0, generation };
        world.attach(conn, socket).expect("the slot is free");
        client.write_all(&generation.to_le_bytes()).expect("write");
        if generation % 3 != 0 {
            world.until("the bytes", |log| log.bytes_of(conn).len() == 4);
        }
        world.driver.close(conn, if generation % 2 == 0 { Close::Now } else { Close::AfterSend });
        drop(client);
        world.until("closed", |log| log.closed.last() == Some(&conn));
    }
    assert_eq!(world.log.closed.len(), 200);
}
