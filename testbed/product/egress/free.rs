//! Packets that no tool gets go back to their pool, each once, whatever they are made of.

use std::collections::HashSet;

use tapline_dpdk::mbuf::{Frames, Linear, MbufBurst, MbufQueue};
use tapline_dpdk::mempool::Mempool;
use tapline_harness::eal::eal;
use tapline_harness::programs::alone;
use tapline_packet::burst::{MAX_BURST, Selection};
use tapline_packet::frame::Frame;

#[test]
fn every_reference_that_is_given_up_frees_its_packet_once() {
    // a process has one EAL
    alone(module_path!(), "every_reference_that_is_given_up_frees_its_packet_once", free_all);
}

fn free_all() {
    let eal = eal();
    let pool = Mempool::create(&eal, "free", 1023, None).expect("a pool");
    // one segment, and chains of two and three mbufs
    let bytes = [vec![1; 60], vec![2; 3000], vec![3; 1514], vec![4; 5000]];
    let frames: Vec<Frame<'_>> =
        (0..MAX_BURST).map(|index| Frame::whole(&bytes[index % bytes.len()])).collect();
    let mut burst = MbufBurst::default();
    let mut queue = MbufQueue::with_capacity(MAX_BURST / 2);
    // by tool: none of them, some, all; some packets to several tools, and to queues that have no room for all
    let halves = [Selection::from_bits(0x5555_5555_5555_5555), Selection::from_bits(0xffff_0000_ffff_0000)];
    let wishes: [&[Selection]; 6] = [
        &[],
        &[Selection::from_bits(0xf0f)],
        &halves,
        &[Selection::ALL],
        &[Selection::ALL; 3],
        &[halves[0], halves[1], halves[1]],
    ];
    for wishes in wishes {
        for taken in 0..=wishes.len() {
            assert_eq!(burst.copy_of(&pool, &frames).packets, MAX_BURST);
            let mut shared = burst.share(wishes.iter().copied());
            for (index, &wish) in wishes.iter().enumerate().take(taken) {
                if index == 1 {
                    shared.discard(wish);
                } else {
                    shared.take(wish, &mut queue);
                }
            }
            drop(shared);
            queue.clear();
            assert_eq!(pool.in_use(), 0, "{wishes:x?}, {taken} of them taken");
        }
    }
    // a packet that was freed twice would be given out twice
    let mut all = Vec::new();
    let mut places = HashSet::new();
    while all.len() < pool.count() as usize / MAX_BURST {
        let mut burst = MbufBurst::default();
        let lone = [Frame::whole(&bytes[0]); MAX_BURST];
        assert_eq!(burst.copy_of(&pool, &lone).packets, MAX_BURST);
        let (mut linear, mut frames) = (Linear::default(), Frames::new());
        burst.frames(&mut linear, &mut frames);
        assert!(
            frames.iter().all(|frame| places.insert(frame.bytes().as_ptr() as usize)),
            "an mbuf that is in use"
        );
        drop(frames);
        all.push(burst);
    }
}
