//! `set KEY VALUE`.

use super::super::ast::Command;
use super::super::ast::set::{Idle, Lcores, Setting, Tls};
use super::super::diagnostic::Diagnostic;
use super::super::source::Spanned;
use super::super::suggest::nearest;
use super::super::value::{Misread, Value, count, duration, lcores, number, text, tpid};
use super::line::{Line, Read};
use tapline_api::words::{ClockQuality, Vocabulary};
use tapline_packet::headers::vlan;

pub(super) type Key = fn(&mut Line<'_>) -> Read<Setting>;

pub(super) const KEYS: &[(&str, Key)] = &[
    ("burst", |line| Ok(Setting::Burst(line.value("burst", number(1..=64))?))),
    ("lcores", |line| Ok(Setting::Lcores(placement(line)?))),
    ("workers", |line| Ok(Setting::Workers(line.value("workers", number(1..=1023))?))),
    ("mempool", |line| Ok(Setting::Mempool(line.value("mempool", count(1..=u32::MAX.into()))?))),
    ("idle", |line| {
        let idle = line.choice(
            "idle",
            &[("poll", Idle::Poll), ("pause", Idle::Pause), ("sleep", Idle::Sleep(None))],
        )?;
        if matches!(idle.value, Idle::Sleep(_)) {
            line.may_have_value("idle sleep");
        }
        let most = match idle.value {
            Idle::Sleep(_) if line.peek().is_some() => Some(line.value("idle sleep", duration)?),
            _ => None,
        };
        Ok(Setting::Idle(match most {
            Some(most) => Spanned::new(Idle::Sleep(Some(most.value)), idle.span.to(most.span)),
            None => idle,
        }))
    }),
    ("flows", |line| {
        let entries = line.value("flows", count(1..=u32::MAX.into()))?;
        let idle = line.optional("idle", |line| line.value("idle", duration))?;
        let max_age = line.optional("max-age", |line| line.value("max-age", duration))?;
        Ok(Setting::Flows { entries, idle, max_age })
    }),
    ("eal", |line| Ok(Setting::Eal(line.value("eal", text("EAL arguments in double quotes"))?))),
    ("seed", |line| Ok(Setting::Seed(line.value("seed", number(0..=u64::MAX))?))),
    ("clock", |line| {
        Ok(Setting::Clock(line.choice("clock", &REFERENCES.map(|clock| (clock.word(), clock)))?))
    }),
    ("tpid", |line| Ok(Setting::Tpid(tpids(line)?))),
    ("panic-dump", |line| Ok(Setting::PanicDump(line.value("panic-dump", text("a folder"))?))),
    ("audit", |line| {
        let path = line.value("audit", text("a file's path"))?;
        line.may_be(tapline_api::words::AuditMode::WORDS.iter().copied());
        let mode = line.peek().map(|_| line.word_of("audit")).transpose()?;
        Ok(Setting::Audit { path, mode })
    }),
    ("metrics", |line| {
        line.expect("rules")?;
        Ok(Setting::Metrics { rules: line.value("metrics", count(0..=1_000_000))? })
    }),
    ("telemetry", |line| {
        Ok(Setting::Telemetry(line.choice("telemetry", &[("on", true), ("off", false)])?))
    }),
    ("web", |line| {
        line.expect("anonymous")?;
        Ok(Setting::Web { anonymous: line.word_of("web anonymous")? })
    }),
    ("tls", |line| {
        let pem = |line: &mut Line<'_>, key| line.value(key, text("a PEM file's path"));
        line.expect("cert")?;
        let cert = pem(line, "cert")?;
        line.expect("key")?;
        let key = pem(line, "tls key")?;
        let client_ca = line.optional("client-ca", |line| pem(line, "client-ca"))?;
        let crl = line.optional("crl", |line| pem(line, "crl"))?;
        Ok(Setting::Tls(Tls { cert, key, client_ca, crl }))
    }),
];

/// The references that a clock daemon may follow.
const REFERENCES: [ClockQuality; 3] = [ClockQuality::Ntp, ClockQuality::Gps, ClockQuality::Ptp];

pub(super) fn command(line: &mut Line<'_>) -> Read<Command> {
    line.keyword("setting", KEYS)?(line).map(Command::Set)
}

/// `0x8200,0x9300`: types that announce VLAN tags.
fn tpids(line: &mut Line<'_>) -> Read<Spanned<Vec<u16>>> {
    let list = line.list("tpid", tpid)?;
    let (Some(first), Some(last)) = (list.first(), list.last()) else {
        return Ok(Spanned::new(Vec::new(), line.last_span()));
    };
    let span = first.span.to(last.span);
    let repeated =
        list.iter().enumerate().find(|(at, tpid)| list[..*at].iter().any(|t| t.value == tpid.value));
    if let Some((_, tpid)) = repeated {
        let error = Diagnostic::error(tpid.span, format!("{:#06x} is given twice for `tpid`", tpid.value));
        return Err(line.report(error.label("expected each one once")));
    }
    if list.len() > vlan::MAX_ADDED_TPIDS {
        let error = Diagnostic::error(span, format!("{} types for `tpid`", list.len()));
        return Err(line.report(error.label(format!("expected at most {}", vlan::MAX_ADDED_TPIDS))));
    }
    Ok(Spanned::new(list.into_iter().map(|tpid| tpid.value).collect(), span))
}

const STAGES: [&str; 3] = ["receive", "work", "transmit"];

/// `1-3`, or `[receive LIST] [work LIST] [transmit LIST]` in this order.
fn placement(line: &mut Line<'_>) -> Read<Spanned<Lcores>> {
    let mut stages: [Vec<u32>; 3] = Default::default();
    let mut first = None;
    for (stage, word) in stages.iter_mut().zip(STAGES) {
        if let Some(span) = line.accept(word) {
            first.get_or_insert(span);
            *stage = line.value(word, lcores)?.value;
        }
    }
    let Some(first) = first else {
        return Ok(line.value("lcores", lcores_or_stages)?.map(Lcores::RunToCompletion));
    };
    let [receive, work, transmit] = stages;
    Ok(Spanned::new(Lcores::Staged { receive, work, transmit }, line.since(first)))
}

fn lcores_or_stages(text: &str) -> Value<Vec<u32>> {
    lcores(text).map_err(|misread| match text.starts_with(|c: char| c.is_ascii_digit()) {
        true => misread,
        false => Misread {
            expected: "lcores such as 1-3, or receive LIST work LIST transmit LIST".into(),
            part: None,
            help: nearest(text, STAGES).map(|near| format!("did you mean `{near}`?")),
        },
    })
}
