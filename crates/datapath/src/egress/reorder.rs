//! Order: copies from several ports leave for a tool in the order of their times.
//!
//! Stands between route and a tool's queue, for tools with `order window DURATION`. A copy is held until one is seen that is later
//! by the window, or until it has waited for as long; so copies that come to Tapline within the window of each other leave in
//! order. A copy that comes after a later one has left is late: it goes at once, and is counted. What is held is bounded.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Times that go back by more than this, and by more than ten windows, are of a clock that was set: what was is no measure any
/// more.
const STEP_NS: u64 = 1_000_000_000;

/// Holds copies of one tool.
pub struct Order<T> {
    window_ns: u64,
    capacity: usize,
    heap: BinaryHeap<Reverse<Entry<T>>>,
    /// The latest time seen, and the latest that has left.
    newest_ns: u64,
    released_ns: u64,
    pushed: u64,
}

struct Entry<T> {
    ns: u64,
    /// Copies of one time leave as they came.
    place: u64,
    /// When it came here, by any clock that goes forward.
    arrived_ns: u64,
    packet: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.ns, self.place) == (other.ns, other.place)
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.ns, self.place).cmp(&(other.ns, other.place))
    }
}

impl<T> Order<T> {
    /// Holds at most `capacity` copies; nothing is allocated later.
    pub fn new(window_ns: u64, capacity: usize) -> Self {
        let heap = BinaryHeap::with_capacity(capacity + 1);
        Self { window_ns, capacity, heap, newest_ns: 0, released_ns: 0, pushed: 0 }
    }

    pub fn len(&self) -> usize {
        self.heap.len()
    }

    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Takes in a copy of time `ns` at `now_ns`. Gives whether it is late. What has to leave for it goes to `out`.
    #[inline]
    pub fn push(&mut self, ns: u64, now_ns: u64, packet: T, out: &mut impl FnMut(T)) -> bool {
        if ns < self.released_ns {
            if self.released_ns - ns > STEP_NS.max(self.window_ns.saturating_mul(10)) {
                self.release_all(out);
                (self.newest_ns, self.released_ns) = (ns, ns);
            }
            out(packet);
            return true;
        }
        self.newest_ns = self.newest_ns.max(ns);
        self.heap.push(Reverse(Entry { ns, place: self.pushed, arrived_ns: now_ns, packet }));
        self.pushed += 1;
        if self.heap.len() > self.capacity {
            self.pop(out);
        }
        false
    }

    /// Lets go what is earlier than the latest by the window and, where `now_ns` says that nothing older can come, what has waited
    /// for so long.
    #[inline]
    pub fn release(&mut self, now_ns: Option<u64>, out: &mut impl FnMut(T)) {
        let passed_ns = self.newest_ns.saturating_sub(self.window_ns);
        while let Some(Reverse(first)) = self.heap.peek() {
            let has_waited =
                now_ns.is_some_and(|now_ns| now_ns.saturating_sub(first.arrived_ns) >= self.window_ns);
            if first.ns > passed_ns && !has_waited {
                break;
            }
            self.pop(out);
        }
    }

    /// Lets the earliest go.
    pub fn release_first(&mut self, out: &mut impl FnMut(T)) {
        self.pop(out);
    }

    /// Lets everything go.
    pub fn release_all(&mut self, out: &mut impl FnMut(T)) {
        while !self.heap.is_empty() {
            self.pop(out);
        }
    }

    #[inline]
    fn pop(&mut self, out: &mut impl FnMut(T)) {
        if let Some(Reverse(entry)) = self.heap.pop() {
            self.released_ns = self.released_ns.max(entry.ns);
            out(entry.packet);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The obvious version: a list, sorted whenever something is to leave.
    #[derive(Default)]
    struct Model {
        held: Vec<(u64, usize, u64)>,
        newest: u64,
        released: u64,
        out: Vec<usize>,
        late: usize,
    }

    impl Model {
        fn push(&mut self, ns: u64, id: usize, now: u64, capacity: usize) {
            if ns < self.released {
                self.late += 1;
                return self.out.push(id);
            }
            self.newest = self.newest.max(ns);
            self.held.push((ns, id, now));
            if self.held.len() > capacity {
                self.leave();
            }
        }

        fn leave(&mut self) {
            self.held.sort();
            let (ns, id, _) = self.held.remove(0);
            self.released = self.released.max(ns);
            self.out.push(id);
        }

        fn release(&mut self, now: Option<u64>, window: u64) {
            self.held.sort();
            while self.held.first().is_some_and(|&(ns, _, arrived)| {
                ns + window <= self.newest || now.is_some_and(|now| now - arrived >= window)
            }) {
                self.leave();
            }
        }
    }

    proptest! {
        #[test]
        fn copies_leave_as_from_a_list_that_is_sorted(
            steps in prop::collection::vec((0u64..400, 0u64..60, any::<bool>(), any::<bool>()), 1..200), window in 1u64..100, capacity in 1usize..40,
        ) {
            let (mut order, mut model) = (Order::new(window, capacity), Model::default());
            let (mut out, mut late, mut now) = (Vec::new(), 0, 0);
            for (id, &(jitter, step, releases, is_all_seen)) in steps.iter().enumerate() {
                now += step;
                let ns = 1000 + now + jitter;
                late += usize::from(order.push(ns, now, id, &mut |id| out.push(id)));
                model.push(ns, id, now, capacity);
                if releases {
                    let now = is_all_seen.then_some(now);
                    order.release(now, &mut |id| out.push(id));
                    model.release(now, window);
                }
                prop_assert!(order.len() <= capacity);
            }
            order.release_all(&mut |id| out.push(id));
            while !model.held.is_empty() {
                model.leave();
            }
            prop_assert_eq!(out, model.out);
            prop_assert_eq!(late, model.late);
        }

        #[test]
        fn ports_within_the_window_of_each_other_are_merged_without_a_late_one(
            gaps in prop::collection::vec((1u64..50, 0usize..4), 1..300), window in 1u64..1000,
        ) {
            // four ports, each in order, each behind by less than the window
            let mut times: Vec<(u64, usize)> = Vec::new();
            for (gap, port) in gaps {
                times.push((times.last().map_or(5, |last| last.0) + gap, port));
            }
            let mut arrivals: Vec<(u64, u64)> = times.iter().map(|&(ns, port)| (ns + port as u64 * window / 4, ns)).collect();
            arrivals.sort();
            let (mut order, mut out) = (Order::new(window, 1000), Vec::new());
            for (now, ns) in arrivals {
                prop_assert!(!order.push(ns, now, ns, &mut |ns| out.push(ns)));
                order.release(Some(now), &mut |ns| out.push(ns));
            }
            order.release_all(&mut |ns| out.push(ns));
            prop_assert!(out.is_sorted());
        }
    }

    #[test]
    fn a_clock_that_was_set_back_makes_one_copy_late_and_not_all_that_follow() {
        let (mut order, mut out) = (Order::new(1000, 10), Vec::new());
        let hour = 3600 * STEP_NS;
        let late: usize = (0..20u64)
            .map(|at| {
                let ns = if at < 10 { hour + at * 2000 } else { at * 2000 };
                let is_late = order.push(ns, 0, at, &mut |at| out.push(at));
                order.release(None, &mut |at| out.push(at));
                usize::from(is_late)
            })
            .sum();
        order.release_all(&mut |at| out.push(at));
        assert_eq!((late, out), (1, (0..20).collect()));
    }
}
