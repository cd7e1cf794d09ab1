//! Groups beside Maglev's table and the kernel's hash-threshold: how evenly flows are spread, and how many move when a member
//! fails. `cargo test --test offline groups -- --nocapture` prints the table of docs/reference/groups.md.

use tapline_datapath::route::balance::{Group, GroupSpec, MemberState};
use tapline_packet::mix::mix;

const FLOWS: u64 = 100_000;

/// Populations of flows over which imbalance is averaged.
const DRAWS: u64 = 10;

fn flow_hashes(draw: u64) -> impl Iterator<Item = u64> {
    (0..FLOWS).map(move |flow| mix(flow, 77 + draw))
}

/// Maglev's permutation table (Eisenbud et al., NSDI 2016, section 3.4) of `size` (a prime) for the members that are up.
fn maglev(up: &[usize], size: usize) -> Vec<usize> {
    let permutation = |member: usize, step: usize| {
        let offset = mix(member as u64, 1) as usize % size;
        let skip = mix(member as u64, 2) as usize % (size - 1) + 1;
        (offset + step * skip) % size
    };
    let mut table = vec![usize::MAX; size];
    let mut next = vec![0; up.len()];
    let mut filled = 0;
    loop {
        for (turn, &member) in up.iter().enumerate() {
            let mut at = permutation(member, next[turn]);
            while table[at] != usize::MAX {
                next[turn] += 1;
                at = permutation(member, next[turn]);
            }
            table[at] = member;
            next[turn] += 1;
            filled += 1;
            if filled == size {
                return table;
            }
        }
    }
}

/// RFC 2992: each member has an equal range of hashes.
fn hash_threshold(up: &[usize], hash: u64) -> usize {
    up[((u128::from(hash) * up.len() as u128) >> 64) as usize]
}

struct Figures {
    /// How far the flows of the member that is off most are from an equal share, in percent; the mean of all draws.
    imbalance: f64,
    /// Flows that move when one member fails, in percent of that member's flows: 100 is the least possible.
    moved: f64,
    /// The same imbalance among those that are left.
    imbalance_after: f64,
}

fn figures(
    members: usize,
    before: impl Fn(u64) -> usize,
    after: impl Fn(u64) -> usize,
    failed: usize,
) -> Figures {
    let imbalance = |lookup: &dyn Fn(u64) -> usize, up: usize| {
        let fair = FLOWS as f64 / up as f64;
        let worst = |draw| {
            let mut flows = vec![0u64; members];
            flow_hashes(draw).for_each(|hash| flows[lookup(hash)] += 1);
            flows
                .iter()
                .filter(|&&count| count > 0)
                .map(|&count| (count as f64 / fair - 1.0).abs() * 100.0)
                .fold(0.0, f64::max)
        };
        (0..DRAWS).map(worst).sum::<f64>() / DRAWS as f64
    };
    let was_failed = flow_hashes(0).filter(|&hash| before(hash) == failed).count();
    let moved = flow_hashes(0).filter(|&hash| before(hash) != after(hash)).count();
    Figures {
        imbalance: imbalance(&before, members),
        moved: moved as f64 / was_failed as f64 * 100.0,
        imbalance_after: imbalance(&after, members - 1),
    }
}

#[test]
fn groups_move_only_the_failed_share_and_spread_as_evenly_as_maglev() {
    println!(
        "members | buckets | ours: imbalance, moved, after | Maglev 65537: imbalance, moved, after | hash-threshold: imbalance, moved, after"
    );
    for members in [2, 3, 4, 8, 16, 32, 64] {
        let failed = members / 2;
        let up: Vec<usize> = (0..members).collect();
        let left: Vec<usize> = (0..members).filter(|&member| member != failed).collect();

        let mut group = Group::new(GroupSpec::equal(members)).expect("equal members are a group");
        let before = group.table().clone();
        let mut states = vec![MemberState::Up; members];
        states[failed] = MemberState::Down;
        group.update(&states, |_| false);
        let member = |slot: tapline_datapath::route::balance::Slot| slot.member().expect("members are up");
        let ours = figures(
            members,
            |hash| member(before.lookup(hash)),
            |hash| member(group.table().lookup(hash)),
            failed,
        );

        let (full, reduced) = (maglev(&up, 65_537), maglev(&left, 65_537));
        let theirs = figures(
            members,
            |hash| full[hash as usize % 65_537],
            |hash| reduced[hash as usize % 65_537],
            failed,
        );
        let ranges =
            figures(members, |hash| hash_threshold(&up, hash), |hash| hash_threshold(&left, hash), failed);

        let show = |figures: &Figures| {
            format!("{:5.2} % {:6.1} % {:5.2} %", figures.imbalance, figures.moved, figures.imbalance_after)
        };
        println!(
            "{members:7} | {:7} | {} | {} | {}",
            before.bucket_count(),
            show(&ours),
            show(&theirs),
            show(&ranges)
        );
        assert_eq!(ours.moved, 100.0, "{members} members: the failed member's flows and none other");
        assert!(theirs.moved >= 100.0 && ranges.moved >= 100.0);
        if members == 8 {
            assert!(ours.imbalance <= 3.0 && ours.imbalance_after <= 3.0);
        }
    }
}
