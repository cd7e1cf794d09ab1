//! How a run ends: tools are drained, workers return, and what is left is judged and counted.

use std::time::{Duration, Instant};

use super::recorder::Recorder;
use super::{Broker, DRAIN_LIMIT, Ending, Error};
use crate::plan::Run;
use crate::plan::memory;
use tapline_api::event::Event;
use tapline_api::words::{DropReason, Level, Unfinished};
use tapline_datapath::receive::Source;
use tapline_datapath::worker::Phase;
use tapline_dpdk::clock;

/// How long what is left of the replays' files is counted.
const COUNT_LIMIT: Duration = Duration::from_secs(2);

impl Broker {
    /// Drains the tools, for at most [`DRAIN_LIMIT`], and ends the workers. What could not be sent is dropped and counted.
    ///
    /// Events that came too late for the last look are among the [`events`](Self::events) afterwards.
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
        self.is_at_rest = true;
        self.look_once_more();
        ended
    }

    /// Looks a last time at what net_pcap wrote, and counts what is missing. Every worker has stopped.
    fn judge_written(&mut self) {
        let now_ns = clock::now_ns();
        self.watch_files(now_ns);
        let short =
            self.machine.written.iter_mut().zip(&self.machine.ports).filter_map(|(written, device)| {
                let written = written.as_mut().filter(|written| written.failure().is_some())?;
                let (port, stats) = (device.name().to_owned(), device.stats());
                let whole = written.count(&stats)?;
                Some(Event::OutputShort { port, path: written.paths(), sent: stats.tx_packets, whole })
            });
        let short: Vec<Event> = short.collect();
        short.into_iter().for_each(|event| self.fail(now_ns, event));
    }

    /// Ends the captures' files. What a writer could not write in time is counted as congested.
    fn close_captures(&mut self) {
        self.tally_ports();
        for recorder in &mut self.recorders {
            recorder.close(DRAIN_LIMIT);
        }
        let stuck = self.recorders.iter().filter(|recorder| recorder.is_stuck());
        let stuck: Vec<Event> = stuck
            .map(|recorder| Event::CaptureStuck { tool: self.plan.tools[recorder.tool].name.clone() })
            .collect();
        stuck.into_iter().for_each(|event| self.fail(clock::now_ns(), event));
        let Some(own) = &self.account.writers else { return };
        for recorder in &self.recorders {
            let (requested, ended) = self.account.copies_of(recorder.tool);
            let unwritten = requested.saturating_sub(ended);
            let reason = match recorder.store() {
                Some(_) => DropReason::DiskSlow,
                None => DropReason::Congested,
            };
            own.tools[recorder.tool].drop_copies(reason, unwritten);
            if unwritten > 0 && !recorder.is_stuck() && self.plan.is_waited_for(recorder.tool) {
                self.unwritten.push((recorder.tool, unwritten));
            }
        }
        self.watch_files(clock::now_ns());
        self.watch_stores(clock::now_ns());
    }

    /// Looks what the run left of the replays' files, and of their copies to captures. It has failed if something is left, unless
    /// somebody ended it or the replay goes on for ever. Every worker has stopped.
    pub fn judge_replays(&mut self, ending: Ending) {
        let (now_ns, mut judged) = (clock::now_ns(), Vec::new());
        for (tool, copies) in self.unwritten.drain(..) {
            let (tool, seconds) = (self.plan.tools[tool].name.clone(), DRAIN_LIMIT.as_secs());
            let is_asked = ending == Ending::Asked;
            judged.push(Event::CopiesUnwritten { tool, copies, seconds, is_asked });
        }
        let counted_until = Instant::now() + COUNT_LIMIT;
        for intake in self.workers.returned.iter_mut().flat_map(|worker| &mut worker.intakes) {
            let Source::Replay(replay) = &mut intake.source else { continue };
            let left = replay.left(counted_until);
            let (port, device) = (&self.plan.ports[intake.port], &self.machine.ports[intake.port]);
            let (port, path) = (
                port.name.clone(),
                port.replay.as_ref().map_or(String::new(), |replay| replay.path.clone()),
            );
            let passed_over = device.replay().map_or(0, |state| state.passed_over);
            if passed_over > 0 {
                let (port, path) = (port.clone(), path.clone());
                judged.push(Event::PacketsPassedOver { port, path, packets: passed_over });
            }
            let is_long_enough = left.is_endless && ending != Ending::Idle;
            if left.packets == 0 && !left.is_endless || is_long_enough {
                continue;
            }
            let is_starved = device.starved().is_some();
            let due_ns = left.wait.filter(|wait| !wait.is_zero()).map(clock::nanoseconds);
            let because = match (ending, due_ns) {
                (Ending::Asked, _) => Unfinished::Asked,
                (Ending::TimeUp, _) => Unfinished::TimeUp,
                (Ending::Idle, _) if is_starved => Unfinished::Starved,
                (Ending::Idle, Some(_)) => Unfinished::Early,
                (Ending::Idle, None) => Unfinished::Idle,
            };
            let run = Run { plan: &self.plan, options: &self.options };
            judged.push(Event::ReplayUnfinished {
                port,
                path,
                read: device.stats().rx_packets,
                left: (!left.is_endless).then_some(left.packets),
                is_least: !left.is_counted,
                because,
                due_ns: due_ns.filter(|_| because == Unfinished::Early),
                mbufs: (because == Unfinished::Starved).then(|| memory::port_pool(run, intake.port)),
            });
        }
        for event in judged {
            match event.level() {
                Level::Error => self.fail(now_ns, event),
                _ => self.events.record(now_ns, event),
            }
        }
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
