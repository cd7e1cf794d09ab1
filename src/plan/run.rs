//! How a plan is run: what the command line says beside the pipeline file. A plan is not written to once it was checked.

use super::Plan;
use tapline_datapath::ids::PortId;

/// The options of a run, which stay while plans take each other's place.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RunOptions {
    /// EAL arguments behind those of the plan.
    pub eal: Vec<String>,
    /// Stages of sampled bursts are timed (`--profile`).
    pub is_profiled: bool,
    /// Rules may be changed while the plan runs (`-i`), and find what they then need.
    pub is_changeable: bool,
}

impl RunOptions {
    /// The EAL arguments of one option of the command line.
    pub fn eal_of(words: Option<&str>) -> Vec<String> {
        words.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    }
}

/// A plan, and how it is run.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    pub plan: &'a Plan,
    pub options: &'a RunOptions,
}

impl Run<'_> {
    /// All EAL arguments, in their order.
    pub fn eal(&self) -> Vec<String> {
        let telemetry = self.plan.settings.has_telemetry.then(|| "--telemetry".to_owned());
        [telemetry.as_slice(), &self.plan.settings.eal, &self.options.eal].concat()
    }

    /// Returns whether a port's driver is to be asked for the packets' own times: where some of its packets go to tools that ask
    /// for them, or may do so with other rules.
    pub fn wants_stamps(&self, port: PortId) -> bool {
        let may_go_anywhere = self.may_be_taken_from(port);
        self.plan.work.inputs[port].needs_stamps || may_go_anywhere && self.plan.tools_want_stamps
    }

    /// Returns whether rules, as they are or as they may be changed, go by the times of a port's packets where it has such.
    pub fn may_need_time(&self, port: PortId) -> bool {
        self.plan.work.inputs[port].needs_time || self.may_be_taken_from(port)
    }

    /// Returns whether rules that do not take from a port may do so later.
    fn may_be_taken_from(&self, port: PortId) -> bool {
        self.options.is_changeable && self.plan.ports[port].rxq != Some(0)
    }
}
