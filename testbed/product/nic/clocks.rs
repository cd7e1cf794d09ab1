//! Counters and stamps as NICs have them, good and bad: the times of copies are true within the bound that the statistics state, or
//! marked as degraded.

use serde_json::Value;
use tapline_harness::bench::{Bench, Prompt, now};
use tapline_harness::frames::numbered;
use tapline_harness::judges::number;
use tapline_harness::lab::Account;
use tapline_harness::programs::has_program;
use tapline_harness::simnic::{Arrived, Simnic, Word};

use super::formats::{captured, metamako};
use super::{Carried, NIC, Said, assert_true, clock, is_fitted, wait_for};

/// A run of numbered frames through one NIC to a tool whose copies have metamako trailers, and to a capture.
struct Run<'a> {
    bench: &'a Bench,
    nic: Simnic,
    prompt: Prompt<'a>,
    released: usize,
}

/// The results of a run.
struct Left {
    account: Account,
    arrived: Vec<Arrived>,
    stamped: Vec<Carried>,
    said: Said,
    /// Copies that are marked as degraded.
    marked: usize,
}

const MOST_FRAMES: usize = 1000;

impl<'a> Run<'a> {
    /// A NIC of these words; `None`, after saying so, where there is no tshark or no compiler.
    fn of(bench: &'a Bench, words: &str) -> Option<Self> {
        Self::placed(bench, words, "set idle sleep\n")
    }

    /// The same, with settings.
    fn placed(bench: &'a Bench, words: &str, settings: &str) -> Option<Self> {
        if !has_program("tshark") {
            return None;
        }
        let nic = Simnic::new(bench, &[(NIC, &format!("stamps=1 {words}"))])?;
        nic.bring(NIC, &numbered(MOST_FRAMES, 120, &[40_000]));
        let pipeline = format!(
            "{settings}port attach nic0 {NIC} txq 0
            port attach stamped0 net_pcap1,tx_pcap=@/stamped.pcap rxq 0
            tool create stamped port stamped0 timestamp metamako
            tool create store capture @/store.pcapng
            rule create 10 from nic0 to stamped,store
            start"
        );
        let prompt = bench.start_with(&pipeline, &nic.variables());
        Some(Self { bench, nic, prompt, released: 0 })
    }

    fn until_fitted(&mut self) -> Value {
        self.prompt.wait("the clock is fitted", is_fitted)
    }

    /// Waits for a reading of the counter that begins from now on.
    fn until_read(&mut self) {
        let now = now();
        let seen = self.prompt.wait("statistics", |stats| stats["time"].as_f64() > Some(now));
        let readings = |stats: &Value| clock(stats)["readings"].as_u64();
        self.prompt.wait("a reading", |stats| readings(stats) > readings(&seen));
    }

    fn until_degraded(&mut self) -> Value {
        self.prompt.wait("the clock is degraded", |stats| clock(stats)["degraded"] == true)
    }

    /// So many more frames arrive; the statistics behind the last one.
    fn release(&mut self, count: usize) -> Value {
        self.released += count;
        assert!(self.released <= MOST_FRAMES);
        self.nic.set(NIC, Word::Released, self.released as u64);
        wait_for(&mut self.prompt, self.released)
    }

    /// Ends the run, and demands that all of its times are true, or marked where the statistics say so.
    fn judged(self) -> Left {
        let account = self.prompt.quit();
        let (arrived, said) = (self.nic.arrived(NIC), Said::new(&account.lines));
        assert_eq!(arrived.len(), self.released);
        let stamped = metamako(&self.bench.path("stamped.pcap"));
        let marked = assert_true("stamped", &arrived, &stamped, &said);
        assert_true("captured", &arrived, &captured(&self.bench.path("store.pcapng")), &said);
        Left { account, arrived, stamped, said, marked }
    }
}

impl Left {
    fn steps(&self) -> u64 {
        number(self.account.last(), "ports/nic0/clock/steps")
    }

    /// Counts the copies of these frames that are marked.
    fn marked_of(&self, frames: std::ops::Range<usize>) -> usize {
        let of = self.stamped.iter().filter(|copy| frames.contains(&copy.number));
        of.filter(|copy| copy.is_degraded == Some(true)).count()
    }
}

/// Frames arrive one by one until a counter that begins at `start` has come around.
fn comes_around(words: &str, start: u64) {
    let bench = Bench::new();
    let Some(mut run) = Run::of(&bench, &format!("hz=312500000 {words} start={start}")) else { return };
    run.until_fitted();
    run.release(5);
    let before = run.nic.arrived(NIC);
    assert!(
        before.iter().all(|frame| frame.ticks >= start),
        "the counter came around before it was fitted"
    );
    while run.nic.arrived(NIC).last().is_some_and(|frame| frame.ticks >= start) {
        run.release(1);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    run.release(20);
    run.until_fitted();
    let left = run.judged();
    assert_eq!((left.marked, left.steps()), (0, 0), "a counter that comes around is no step");
}

#[test]
fn a_counter_of_32_bits_that_comes_around_is_followed() {
    comes_around("bits=32", (1 << 32) - 8 * 312_500_000);
}

#[test]
fn a_counter_of_64_bits_that_comes_around_is_followed() {
    comes_around("bits=64", u64::MAX - 8 * 312_500_000);
}

#[test]
fn a_counter_that_jumps_is_marked_once_that_is_seen_until_it_is_fitted_again() {
    let bench = Bench::new();
    let Some(mut run) = Run::of(&bench, "hz=2500000000 ppm=-80 start=77000000000") else { return };
    run.until_fitted();
    run.release(20);
    run.nic.set(NIC, Word::StepTicks, 5_000_000_000);
    run.until_read();
    // the reading contradicts the line, and nothing more is known yet
    let after = run.release(20);
    let is_still_degraded = clock(&after)["degraded"] == true;
    run.until_fitted();
    run.release(20);
    let left = run.judged();
    assert_eq!(left.steps(), 1);
    assert_eq!((left.marked_of(0..20), left.marked_of(40..60)), (0, 0));
    if is_still_degraded {
        assert_eq!(left.marked_of(20..40), 20);
    }
    let said: Vec<&str> = left
        .account
        .stderr
        .lines()
        .filter(|line| line.contains("nic0") && line.contains("clock"))
        .collect();
    assert!(said.iter().any(|line| line.contains("stepped by -")), "{said:?}");
}

#[test]
fn stamps_are_marked_when_a_counter_could_not_be_read_for_too_long() {
    let bench = Bench::new();
    // a period takes less time than the counter cannot be read
    let Some(mut run) = Run::of(&bench, "hz=4000000000 ppm=55 bits=32 start=1") else { return };
    run.until_fitted();
    run.release(20);
    run.nic.set(NIC, Word::Unreadable, 1);
    let degraded = run.until_degraded();
    assert!(number(&degraded, "ports/nic0/clock/error_ns") > 10_000, "{}", clock(&degraded));
    run.release(20);
    run.nic.set(NIC, Word::Unreadable, 0);
    run.until_fitted();
    run.release(20);
    let left = run.judged();
    assert_eq!((left.marked_of(0..20), left.marked_of(20..40), left.marked_of(40..60)), (0, 20, 0));
    assert_eq!(left.steps(), 0);
    // marked or not, a counter of one rate is where the statistics say
    for copy in left.stamped.iter().filter(|copy| copy.number >= 20) {
        let true_ns = left.arrived[copy.number].true_ns;
        assert!(copy.ns.abs_diff(true_ns) <= left.said.bound_ns(true_ns), "frame {}", copy.number);
    }
}

/// Frames before the clock is fitted, and many behind that.
fn goes_on(run: &mut Run<'_>) {
    run.release(10);
    run.until_fitted();
    (0..20).for_each(|_| drop(run.release(10)));
}

#[test]
fn a_counter_that_wanders_is_as_exact_as_is_stated() {
    let bench = Bench::new();
    let words = "hz=1000000000 ppm=12 wander_ns=2500 wander_period_ns=1700000000 start=5000000000";
    let Some(mut run) = Run::of(&bench, words) else { return };
    goes_on(&mut run);
    run.judged();
}

#[test]
fn a_ptp_clock_that_alone_can_be_read_gives_the_times() {
    let bench = Bench::new();
    let Some(mut run) = Run::of(&bench, "ptp=1 start=1700000000000000000 ppm=3") else { return };
    goes_on(&mut run);
    assert!(run.judged().marked <= 10);
}

/// One stamp in five is not there, and one in seven zero.
const HOLES: &str = "hz=312500000 missing=5 zero=7 start=123456789012";

/// Demands that packets without a stamp are marked and have about the time of the poll.
fn has_holes(left: &Left) {
    let unstamped = left.arrived.iter().filter(|frame| !frame.is_stamped).count();
    assert!(unstamped > 50 && left.marked >= unstamped && left.marked <= unstamped + 10, "{}", left.marked);
    for copy in &left.stamped {
        let frame = left.arrived[copy.number];
        // longer than a loaded machine lets a poll wait, and shorter than what a zero would give
        assert!(copy.ns.abs_diff(frame.true_ns) < 20_000_000_000, "frame {}: {copy:?}", copy.number);
    }
}

#[test]
fn packets_that_the_nic_did_not_stamp_have_the_polls_time_and_are_marked() {
    let bench = Bench::new();
    let Some(mut run) = Run::of(&bench, HOLES) else { return };
    goes_on(&mut run);
    has_holes(&run.judged());
}

#[test]
fn work_lcores_know_which_packets_the_nic_stamped() {
    let bench = Bench::new();
    let settings = "set eal \"--no-huge --no-pci --no-telemetry -m 256 --lcores 9@0,(1-4)@0 --main-lcore 9\"\n\
                    set idle sleep\nset lcores receive 1 work 2-3 transmit 4\n";
    let Some(mut run) = Run::placed(&bench, HOLES, settings) else { return };
    goes_on(&mut run);
    has_holes(&run.judged());
}

#[test]
fn stamps_out_of_order_stay_as_they_are_and_latency_begins_at_them() {
    let bench = Bench::new();
    let Some(mut run) =
        Run::of(&bench, "hz=312500000 wait_ns=2000000 disorder_ns=5000000 start=55555555555")
    else {
        return;
    };
    run.until_fitted();
    (0..20).for_each(|_| drop(run.release(10)));
    let left = run.judged();
    let is_sorted = left.stamped.is_sorted_by_key(|copy| copy.ns);
    assert!(!is_sorted && left.stamped.is_sorted_by_key(|copy| copy.number));
    assert_eq!(left.account.last()["ports"]["nic0"]["clock"]["latency_from"], "nic");
    let latency = &left.account.last()["tools"]["stamped"]["latency_ns"];
    assert!(number(latency, "samples") > 0 && number(latency, "max") >= 2_000_000, "{latency}");
}

#[test]
fn stamps_behind_the_poll_are_taken_and_make_no_latency() {
    let bench = Bench::new();
    let Some(mut run) = Run::of(&bench, "hz=312500000 wait_ns=-100000000 start=55555555555") else {
        return;
    };
    run.until_fitted();
    (0..20).for_each(|_| drop(run.release(10)));
    let left = run.judged();
    let latency = &left.account.last()["tools"]["stamped"]["latency_ns"];
    assert!(number(latency, "samples") > 0 && number(latency, "max") < 10_000_000_000, "{latency}");
}
