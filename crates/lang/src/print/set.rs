//! `set KEY VALUE`.

use std::time::Duration;

use super::super::ast::set::{Idle, Lcores, Setting, Tls};
use super::value::{count, duration, lcores};
use super::{Print, Words};

impl Print for Setting {
    fn print(&self, line: &mut Words) {
        match self {
            Setting::Burst(packets) => line.word("burst").word(packets.value),
            Setting::Lcores(placement) => line.word("lcores").print(placement),
            Setting::Mempool(mbufs) => line.word("mempool").word(count(mbufs.value)),
            Setting::Idle(idle) => line.word("idle").print(idle),
            Setting::Flows { entries, idle, max_age } => {
                let written = |time: &Duration| duration(*time);
                line.word("flows").word(count(entries.value));
                line.key("idle", idle, written).key("max-age", max_age, written)
            }
            Setting::Eal(arguments) => line.word("eal").text(&arguments.value),
            Setting::Workers(count) => line.word("workers").word(count.value),
            Setting::Seed(seed) => line.word("seed").word(seed.value),
            Setting::Clock(reference) => line.word("clock").word(reference.value),
            Setting::Tpid(types) => {
                let types: Vec<String> = types.value.iter().map(|tpid| format!("{tpid:#06x}")).collect();
                line.word("tpid").word(types.join(","))
            }
            Setting::PanicDump(folder) => line.word("panic-dump").text(&folder.value),
            Setting::Audit { path, mode } => {
                line.word("audit").text(&path.value);
                mode.iter().fold(line, |line, mode| line.word(mode.value.word()))
            }
            Setting::Metrics { rules } => line.word("metrics").word("rules").word(count(rules.value)),
            Setting::Telemetry(is_on) => {
                line.word("telemetry").word(if is_on.value { "on" } else { "off" })
            }
            Setting::Web { anonymous } => line.word("web").word("anonymous").word(anonymous.value.word()),
            Setting::Tls(Tls { cert, key, client_ca, crl }) => {
                line.word("tls").word("cert").text(&cert.value).word("key").text(&key.value);
                for (word, file) in [("client-ca", client_ca), ("crl", crl)] {
                    file.iter().for_each(|file| {
                        line.word(word).text(&file.value);
                    });
                }
                line
            }
        };
    }
}

impl Print for Lcores {
    fn print(&self, line: &mut Words) {
        match self {
            Lcores::RunToCompletion(list) => {
                line.word(lcores(list));
            }
            Lcores::Staged { receive, work, transmit } => {
                for (stage, list) in [("receive", receive), ("work", work), ("transmit", transmit)] {
                    if !list.is_empty() {
                        line.word(stage).word(lcores(list));
                    }
                }
            }
        }
    }
}

impl Print for Idle {
    fn print(&self, line: &mut Words) {
        match self {
            Idle::Poll => line.word("poll"),
            Idle::Pause => line.word("pause"),
            Idle::Sleep(None) => line.word("sleep"),
            Idle::Sleep(Some(most)) => line.word("sleep").word(duration(*most)),
        };
    }
}
