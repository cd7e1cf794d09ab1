//! The two texts: classic, version 0.0.4, and OpenMetrics 1.0.0.

use std::fmt::Write;

use super::table::families;
use super::{Family, Kind, Number, Samples, Scene};
use tapline_api::snapshot::{WayEntry, WireEntry};
use tapline_datapath::counters::latency::{BOUNDS_NS, Spread};

/// The directions of a wire.
pub(super) const DIRECTIONS: [&str; 2] = ["a-to-b", "b-to-a"];
/// The bounds of latency in seconds, as OpenMetrics wants floats to be written.
const BOUNDS: [&str; BOUNDS_NS.len()] = [
    "1e-07", "2e-07", "5e-07", "1e-06", "2e-06", "5e-06", "1e-05", "2e-05", "5e-05", "0.0001", "0.0002",
    "0.0005", "0.001", "0.002", "0.005", "0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1.0",
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    Classic,
    OpenMetrics,
}

impl Form {
    /// Chooses by what a client accepts (RFC 9110, section 12.5.1); classic unless OpenMetrics is wanted more.
    pub(super) fn accepted(accept: &str) -> Self {
        let (mut open, mut classic) = (0.0, 0.0);
        for part in accept.split(',') {
            let mut fields = part.split(';').map(str::trim);
            let kind = fields.next().unwrap_or_default().to_ascii_lowercase();
            let (mut weight, mut is_version) = (1.0, true);
            for (key, value) in fields.filter_map(|field| field.split_once('=')) {
                match key.trim().to_ascii_lowercase().as_str() {
                    "q" => weight = value.trim().parse::<f64>().unwrap_or(0.0),
                    "version" => is_version = value.trim().trim_matches('"') == "1.0.0",
                    _ => {}
                }
            }
            match kind.as_str() {
                "application/openmetrics-text" if is_version => open = f64::max(open, weight),
                "text/plain" => classic = f64::max(classic, weight),
                _ => {}
            }
        }
        if open > 0.0 && open >= classic { Self::OpenMetrics } else { Self::Classic }
    }

    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Writes all families.
pub(super) fn encode(scene: &Scene<'_>, form: Form) -> String {
    let rules = scene.stats.rules.len().min(scene.most_rules);
    let mut text = Text { out: String::with_capacity(64 * 1024 + rules * 1024), left_out: 0 };
    for family in families() {
        text.head(family, form);
        text.family(family, scene);
    }
    if form == Form::OpenMetrics {
        text.out.push_str("# EOF\n");
    }
    text.out
}

struct Text {
    out: String,
    /// Series that were left out.
    left_out: u64,
}

impl Text {
    /// Writes what is said of a family before its series.
    fn head(&mut self, family: &Family, form: Form) {
        let Family { name, kind, help, .. } = family;
        let (name, kind) = match (form, kind) {
            (_, Kind::Gauge) => (*name, "gauge"),
            (_, Kind::Histogram) => (*name, "histogram"),
            (Form::Classic, Kind::Info) => (*name, "gauge"),
            (Form::Classic, Kind::Counter) => (*name, "counter"),
            (Form::OpenMetrics, Kind::Info) => (name.strip_suffix("_info").unwrap_or(name), "info"),
            (Form::OpenMetrics, Kind::Counter) => (name.strip_suffix("_total").unwrap_or(name), "counter"),
        };
        let unit = family.unit().filter(|_| form == Form::OpenMetrics);
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        if let Some(unit) = unit {
            self.write(format_args!("# UNIT {name} {unit}\n"));
        }
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        // a string takes everything
        let _ = self.out.write_fmt(text);
    }

    /// Writes the series of a family.
    fn family(&mut self, family: &Family, scene: &Scene<'_>) {
        let Family { name, samples, .. } = family;
        let labels = samples.labels();
        let stats = scene.stats;
        match samples {
            Samples::One(value) => self.put(name, labels, &[], value(scene)),
            Samples::Ports(value) => {
                stats.ports.iter().for_each(|(port, entry)| self.put(name, labels, &[port], value(entry)));
            }
            Samples::Tools(value) => {
                stats.tools.iter().for_each(|(tool, entry)| self.put(name, labels, &[tool], value(entry)));
            }
            Samples::Groups(value) => {
                stats
                    .groups
                    .iter()
                    .for_each(|(group, entry)| self.put(name, labels, &[group], value(entry)));
            }
            Samples::Lcores(value) => {
                stats
                    .lcores
                    .iter()
                    .for_each(|(lcore, entry)| self.put(name, labels, &[lcore], value(entry)));
            }
            Samples::Rules(value) => {
                for (place, (rule, entry)) in stats.rules.iter().enumerate() {
                    self.put_rule(place < scene.most_rules, name, rule, value(entry));
                }
            }
            Samples::Dedups(value) => {
                for (place, (rule, entry)) in stats.dedup.iter().enumerate() {
                    self.put_rule(place < scene.most_rules, name, rule, value(entry));
                }
            }
            Samples::Ways(value) => {
                for (wire, WireEntry { a_to_b, b_to_a, .. }) in &stats.wires {
                    let ways: [&WayEntry; 2] = [a_to_b, b_to_a];
                    for (direction, way) in DIRECTIONS.into_iter().zip(ways) {
                        self.put(name, labels, &[wire, direction], value(way));
                    }
                }
            }
            Samples::Many(labels, all) => {
                all(scene, &mut |values, number| self.put(name, labels, values, Some(number)));
            }
            Samples::ToolLatency => {
                for ((tool, _), spread) in stats.tools.iter().zip(&scene.published.counted.tools) {
                    self.histogram(name, labels, &[tool], spread);
                }
            }
            Samples::WayLatency => {
                for ((wire, _), spreads) in stats.wires.iter().zip(&scene.published.counted.wires) {
                    for (direction, spread) in DIRECTIONS.into_iter().zip(spreads) {
                        self.histogram(name, labels, &[wire, direction], spread);
                    }
                }
            }
            Samples::LeftOut => self.put(name, labels, &[], Some(self.left_out.into())),
        }
    }

    /// Writes a series of a rule, or counts that it is left out.
    fn put_rule(&mut self, is_shown: bool, name: &str, rule: &str, number: Option<Number>) {
        match is_shown {
            true => self.put(name, &["rule"], &[rule], number),
            false => self.left_out += u64::from(number.is_some()),
        }
    }

    fn put(&mut self, name: &str, labels: &[&str], values: &[&str], number: Option<Number>) {
        let Some(number) = number else { return };
        self.out.push_str(name);
        self.labels(labels, values, None);
        self.number(number);
    }

    fn number(&mut self, number: Number) {
        match number {
            Number::Whole(value) => self.write(format_args!(" {value}\n")),
            Number::Real(value) => self.write(format_args!(" {value}\n")),
        }
    }

    /// Writes labels, and the bound of a histogram behind them.
    fn labels(&mut self, labels: &[&str], values: &[&str], bound: Option<&str>) {
        let pairs = labels.iter().zip(values).map(|(label, value)| (*label, *value));
        for (place, (label, value)) in pairs.chain(bound.map(|bound| ("le", bound))).enumerate() {
            self.out.push(if place == 0 { '{' } else { ',' });
            self.out.push_str(label);
            self.out.push_str("=\"");
            for letter in value.chars() {
                match letter {
                    '\\' => self.out.push_str("\\\\"),
                    '"' => self.out.push_str("\\\""),
                    '\n' => self.out.push_str("\\n"),
                    letter => self.out.push(letter),
                }
            }
            self.out.push('"');
        }
        if !labels.is_empty() || bound.is_some() {
            self.out.push('}');
        }
    }

    fn histogram(&mut self, name: &str, labels: &[&str], values: &[&str], spread: &Spread) {
        let buckets = BOUNDS.into_iter().zip(spread.up_to).chain([("+Inf", spread.count)]);
        for (bound, count) in buckets {
            self.write(format_args!("{name}_bucket"));
            self.labels(labels, values, Some(bound));
            self.number(count.into());
        }
        self.write(format_args!("{name}_sum"));
        self.labels(labels, values, None);
        self.number((spread.sum_ns as f64 / 1e9).into());
        self.write(format_args!("{name}_count"));
        self.labels(labels, values, None);
        self.number(spread.count.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_that_are_counted() {
        for (text, ns) in BOUNDS.into_iter().zip(BOUNDS_NS) {
            assert_eq!((text.parse::<f64>().expect("a number") * 1e9).round() as u64, ns, "{text}");
        }
    }

    #[test]
    fn open_metrics_is_sent_to_those_who_want_it() {
        use Form::{Classic, OpenMetrics};
        for (accept, form) in [
            ("", Classic),
            ("*/*", Classic),
            ("text/plain", Classic),
            ("application/openmetrics-text", OpenMetrics),
            // Prometheus 2.42
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                OpenMetrics,
            ),
            ("application/openmetrics-text; version=0.0.1, text/plain;q=0.5", Classic),
            ("application/openmetrics-text; version=1.0.0; q=0, text/plain;q=0.5", Classic),
            ("application/openmetrics-text;version=1.0.0;q=0.4,text/plain;version=0.0.4;q=0.5", Classic),
            ("Application/OpenMetrics-Text;Version=\"1.0.0\";charset=utf-8", OpenMetrics),
            ("application/openmetrics-textual, application/json", Classic),
            ("application/openmetrics-text;q=x", Classic),
        ] {
            assert_eq!(Form::accepted(accept), form, "{accept}");
        }
    }
}
