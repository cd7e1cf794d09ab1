//! How a run ends: tools are drained, workers return, and what is left is judged and counted.

use std::time::{Duration, Instant};

use super::recorder::Recorder;
use super::{Broker, DRAIN_LIMIT, Ending, Error, in_words, starvation};
use crate::plan::Run;
use tapline_api::words::DropReason;
use tapline_datapath::receive::Source;
use tapline_datapath::receive::replay::Left;
use tapline_datapath::worker::Phase;
use tapline_dpdk::clock;

/// How long what is left of the replays' files is counted.
const COUNT_LIMIT: Duration = Duration::from_secs(2);

impl Broker {
    /// Drains the tools, for at most [`DRAIN_LIMIT`], and ends the workers. What could not be sent is dropped and counted.
    ///
    /// # Errors
    /// If a worker did not end well.
    pub fn stop(&mut self) -> Result<(), Error> {
        self.finish_retirement();
        self.untie_links();
        self.workers.rest(Phase::Draining, DRAIN_LIMIT);
        let ended = self.workers.end(&self.account.counters);
        self.give_up_retirement();
        if ended.is_ok() {
            self.close_captures();
            self.judge_written();
        }
        ended
    }

    /// Looks a last time at what net_pcap wrote, and counts what is missing. Every worker has stopped.
    fn judge_written(&mut self) {
        self.watch_files(clock::now_ns());
        for (written, device) in self.machine.written.iter_mut().zip(&self.machine.ports) {
            let Some(written) = written.as_mut().filter(|written| written.failure().is_some()) else {
                continue;
            };
            if let Some(count) = written.count(&device.stats()) {
                self.failures.push(format!("port {}: {count}", device.name()));
            }
        }
    }

    /// Ends the captures' files. What a writer could not write in time is counted as congested.
    fn close_captures(&mut self) {
        for recorder in &mut self.recorders {
            recorder.close(DRAIN_LIMIT);
            if recorder.is_stuck() {
                let name = &self.plan.tools[recorder.tool].name;
                self.failures
                    .push(format!("tool {name}: its file takes nothing; what waited for it was dropped"));
            }
        }
        let Some(own) = &self.account.writers else { return };
        for recorder in &self.recorders {
            let (requested, ended) = self.account.copies_of(recorder.tool);
            let unwritten = requested.saturating_sub(ended);
            own.tools[recorder.tool].drop_copies(DropReason::Congested, unwritten);
            if unwritten > 0 && !recorder.is_stuck() && self.plan.is_waited_for(recorder.tool) {
                self.unwritten.push((recorder.tool, unwritten));
            }
        }
        self.watch_files(clock::now_ns());
    }

    /// Looks what the run left of the replays' files, and of their copies to captures. It has failed if something is left, unless
    /// somebody ended it or the replay goes on for ever. Gives lines for the log. Every worker has stopped.
    pub fn judge_replays(&mut self, ending: Ending) -> Vec<String> {
        let mut lines = Vec::new();
        for (tool, copies) in self.unwritten.drain(..) {
            let fact = format!(
                "tool {}: its file did not take {copies} copies within {} s after the end; they are counted as `congested`",
                self.plan.tools[tool].name,
                DRAIN_LIMIT.as_secs()
            );
            match ending {
                Ending::Asked => lines.push(format!("warning: {fact}")),
                Ending::TimeUp | Ending::Idle => self.failures.push(fact),
            }
        }
        let counted_until = Instant::now() + COUNT_LIMIT;
        for intake in self.workers.returned.iter_mut().flat_map(|worker| &mut worker.intakes) {
            let Source::Replay(replay) = &mut intake.source else { continue };
            let left = replay.left(counted_until);
            let (port, device) = (&self.plan.ports[intake.port], &self.machine.ports[intake.port]);
            let (name, path) = (&port.name, port.replay.as_ref().map_or("", |replay| replay.path.as_str()));
            let passed_over = device.replay().map_or(0, |state| state.passed_over);
            if passed_over > 0 {
                lines.push(format!(
                    "warning: port {name}: packets of {path} that are no Ethernet frames, and that none can be made of, were passed over: {passed_over}"
                ));
            }
            let is_long_enough = left.is_endless && ending != Ending::Idle;
            if left.packets == 0 && !left.is_endless || is_long_enough {
                continue;
            }
            let read = device.stats().rx_packets;
            let rest = match left {
                Left { is_endless: true, .. } => "without end".to_owned(),
                Left { packets, is_counted: true, .. } => packets.to_string(),
                Left { packets, .. } => format!("more than {packets}"),
            };
            let fact =
                format!("port {name}: {path} was not read to its end (packets read: {read}, left: {rest})");
            match (ending, left.wait) {
                (Ending::Asked, _) => lines.push(format!("warning: {fact}")),
                (Ending::TimeUp, _) => {
                    self.failures.push(format!("{fact}: the time was up; raise --duration, or say --exit-idle in its place"));
                }
                (Ending::Idle, _) if device.starved().is_some() => {
                    let run = Run { plan: &self.plan, options: &self.options };
                    let starvation = starvation(run, intake.port, read);
                    self.failures.push(format!("{starvation} (packets left: {rest})"));
                }
                (Ending::Idle, Some(wait)) if !wait.is_zero() => self.failures.push(format!(
                    "{fact}: the next is due in {}; say maxgap=1s or speed=max of the replay, or raise --exit-idle",
                    in_words(wait)
                )),
                (Ending::Idle, _) => self.failures.push(format!("{fact}: none came for as long as --exit-idle says; raise it")),
            }
        }
        lines
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // workers poll memory that is about to go
        let _ = self.stop();
        if self.recorders.iter().any(Recorder::is_stuck) {
            // it may wake up, and what it works with must still be there; a worker that is stuck keeps EAL itself
            self.machine.eal.keep();
        }
    }
}
