//! `set KEY VALUE`: settings of the whole broker.

use std::path::PathBuf;
use std::time::Duration;

use super::Resolver;
use super::definitions::Tables;
use crate::plan::access::AuditPlan;
use crate::plan::value::{Stages, TlsPlan};
use tapline_datapath::work_plan::Idle;
use tapline_dpdk::clock::nanoseconds;
use tapline_lang::ast;
use tapline_lang::ast::set::Setting;
use tapline_lang::diagnostic::Diagnostic;
use tapline_lang::source::Spanned;

/// The largest flow table: 36 GB.
const MOST_FLOWS: usize = 1_000_000_000;

impl<'a> Resolver<'a> {
    /// Lcores are named or chosen, not both.
    fn check_placement(&mut self, setting: &Setting, tables: &mut Tables<'a>) {
        let (span, key) = match setting {
            Setting::Lcores(lcores) => (lcores.span, "lcores"),
            Setting::Workers(workers) => (workers.span, "workers"),
            _ => return,
        };
        let (first, other) = *tables.placement.get_or_insert((span, key));
        if other != key {
            let line = self.sources().position(first).line;
            let message = format!("`set {key}` beside `set {other}`: lcores are named or chosen, not both");
            self.error(
                Diagnostic::error(span, message)
                    .label(format!("expected one of the two; line {line} has `set {other}`")),
            );
        }
    }

    pub(super) fn set(&mut self, setting: &'a Setting, tables: &mut Tables<'a>) {
        self.check_placement(setting, tables);
        let settings = &mut tables.settings;
        match setting {
            Setting::Burst(burst) => settings.burst = burst.value as usize,
            Setting::Workers(workers) => settings.workers = workers.value as usize,
            Setting::Lcores(lcores) => match &lcores.value {
                ast::set::Lcores::RunToCompletion(list) => {
                    (settings.lcores, settings.stages) = (Some(list.clone()), None)
                }
                ast::set::Lcores::Staged { receive, work, transmit } => {
                    let stages = stages(receive, work, transmit);
                    settings.lcores = Some(stages.lcores());
                    let is_whole = stages.receive == stages.work && stages.work == stages.transmit;
                    settings.stages = (!is_whole).then_some(stages);
                }
            },
            Setting::Mempool(count) => match u32::try_from(count.value) {
                Ok(value) => settings.mempool = Some(value),
                Err(_) => {
                    let message = format!("a mempool of {} mbufs is too large", count.value);
                    self.error(Diagnostic::error(count.span, message).label("expected at most 4294967295"));
                }
            },
            Setting::Idle(idle) => {
                settings.idle = match idle.value {
                    ast::set::Idle::Poll => Idle::Poll,
                    ast::set::Idle::Pause => Idle::Pause,
                    ast::set::Idle::Sleep(longest) => {
                        Idle::Sleep { longest: longest.unwrap_or(Duration::from_micros(100)) }
                    }
                }
            }
            Setting::Flows { entries, idle, max_age } => {
                match usize::try_from(entries.value) {
                    Ok(flows) if flows <= MOST_FLOWS => settings.flows = flows,
                    _ => {
                        let message = format!("a table of {} flows is too large", entries.value);
                        self.error(
                            Diagnostic::error(entries.span, message)
                                .label(format!("expected at most {MOST_FLOWS}")),
                        );
                    }
                }
                let ns = |duration: &Spanned<Duration>| nanoseconds(duration.value);
                settings.timeouts.idle_ns = idle.as_ref().map_or(settings.timeouts.idle_ns, ns);
                settings.timeouts.absolute_ns = max_age.as_ref().map_or(settings.timeouts.absolute_ns, ns);
            }
            Setting::Eal(args) => settings.eal = args.value.split_whitespace().map(str::to_owned).collect(),
            Setting::Seed(seed) => settings.seed = seed.value,
            Setting::Tpid(tpids) => settings.tpids.clone_from(&tpids.value),
            Setting::PanicDump(folder) => {
                let path = PathBuf::from(&folder.value);
                if let Err(reason) = self.surroundings.files.permit(&path) {
                    self.error(Diagnostic::error(folder.span, format!("`{}`: {reason}", folder.value)));
                }
                tables.settings.panic_dump = Some(path);
            }
            Setting::Clock(reference) => settings.clock = reference.value,
            Setting::Audit { path, mode } => {
                let mode = mode.as_ref().map(|mode| mode.value);
                settings.audit = Some(AuditPlan { path: PathBuf::from(&path.value), mode });
                tables.audit = Some(path);
            }
            Setting::Metrics { rules } => {
                settings.metrics_rules = usize::try_from(rules.value).unwrap_or(usize::MAX);
            }
            Setting::Telemetry(is_on) => settings.has_telemetry = is_on.value,
            Setting::Web { anonymous } => settings.web_anonymous = Some(anonymous.value),
            Setting::Tls(tls) => {
                let path = |file: &Spanned<String>| PathBuf::from(&file.value);
                let ast::set::Tls { cert, key, client_ca, crl } = tls;
                tables.settings.tls = Some(TlsPlan {
                    cert: path(cert),
                    key: path(key),
                    client_ca: client_ca.as_ref().map(path),
                    crl: crl.as_ref().map(path),
                });
                tables.tls = Some(tls);
            }
        }
    }
}

/// A stage that is left out runs on its neighbour's lcores: those of work, and for work those of receive or else transmit.
fn stages(receive: &[u32], work: &[u32], transmit: &[u32]) -> Stages {
    let first =
        |lists: [&[u32]; 3]| lists.into_iter().find(|list| !list.is_empty()).unwrap_or_default().to_vec();
    Stages {
        receive: first([receive, work, transmit]),
        work: first([work, receive, transmit]),
        transmit: first([transmit, work, receive]),
    }
}
