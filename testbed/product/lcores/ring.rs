//! A ring between two lcores gives every packet once and in order, and says truly when nothing is left and what fits.

use std::collections::VecDeque;

use tapline_dpdk::mbuf::{Frames, Linear, MbufBurst, MbufQueue};
use tapline_dpdk::mempool::Mempool;
use tapline_dpdk::ring;
use tapline_harness::eal::eal;
use tapline_harness::programs::alone;
use tapline_packet::burst::MAX_BURST;
use tapline_packet::frame::Frame;

/// Numbers of which the next seems to have nothing to do with the one before (xorshift).
fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 33) as usize
}

#[test]
fn a_ring_from_one_lcore_to_another_is_a_queue_whatever_the_bursts() {
    // a process has one EAL
    alone(
        module_path!(),
        "a_ring_from_one_lcore_to_another_is_a_queue_whatever_the_bursts",
        send_and_receive,
    );
}

fn send_and_receive() {
    let eal = eal();
    let pool = Mempool::create(&eal, "ring", 1023, None).expect("a pool");
    const ROOM: usize = 127;
    let (mut sender, mut receiver) = ring::create_sole(&eal, ROOM as u32, None).expect("a ring");
    let (mut staged, mut model, mut number, mut state) =
        (MbufQueue::with_capacity(MAX_BURST), VecDeque::new(), 0u32, 7);
    let (mut burst, mut linear) = (MbufBurst::default(), Linear::default());
    let (mut refused, mut empty) = (0, 0);
    for _ in 0..20_000 {
        let count = 1 + next(&mut state) % MAX_BURST;
        if next(&mut state).is_multiple_of(2) {
            let bytes: Vec<[u8; 60]> = (number..)
                .take(count)
                .map(|number| std::array::from_fn(|at| (number >> (at % 4 * 8)) as u8))
                .collect();
            let frames: Vec<Frame<'_>> = bytes.iter().map(|bytes| Frame::whole(bytes)).collect();
            assert_eq!(burst.copy_of(&pool, &frames).packets, count);
            let all = burst.all();
            burst.share([all].into_iter()).take(all, &mut staged);
            let has_room = sender.has_room(count);
            let sent = sender.send(&mut staged);
            assert!(sent == count || !has_room, "{sent} of {count} fitted where all were to");
            refused += staged.clear();
            model.extend((number..).take(sent));
            number += count as u32;
        } else {
            let received = receiver.receive(&mut burst, count);
            assert!(
                received <= count && (received > 0 || model.is_empty()),
                "{received}, {} left",
                model.len()
            );
            empty += usize::from(received == 0);
            let mut frames = Frames::new();
            burst.frames(&mut linear, &mut frames);
            let got: Vec<u32> = frames
                .iter()
                .map(|frame| u32::from_le_bytes(frame.bytes()[..4].try_into().unwrap()))
                .collect();
            assert_eq!(got, model.drain(..received).collect::<Vec<u32>>());
            drop(frames);
            burst.clear();
        }
        // a burst that is on its way out leaves its room in the ring
        assert!(model.len() <= ROOM + MAX_BURST);
    }
    assert!(refused > 0 && empty > 0, "{refused} refused, {empty} polls of an empty ring");
    assert_eq!(receiver.clear(), model.len());
    assert_eq!(pool.in_use(), 0);
}
