//! The system's clock: whether something keeps it, and clocks of NICs that could.

use super::{Finding, Roots};
use tapline_kernel::clock;

const AREA: &str = "clock";

/// Looks at who keeps the clock.
pub(super) fn look(roots: &Roots) -> Vec<Finding> {
    let names = roots.names("sys/class/ptp");
    let named = |name: &String| {
        let clock = roots.read(&format!("sys/class/ptp/{name}/clock_name"));
        clock.map_or_else(|| name.clone(), |clock| format!("{name} ({clock})"))
    };
    let ptp: Vec<String> = names.iter().map(named).collect();
    let ptp = if ptp.is_empty() {
        "no PTP device".to_owned()
    } else {
        format!("PTP devices: {}", ptp.join(", "))
    };
    vec![if clock::is_disciplined() {
        Finding::fine(AREA, format!("it is disciplined; {ptp}"))
    } else {
        Finding::advice(AREA, format!("nothing disciplines it: times of packets drift; {ptp}"))
            .mended_by("apt-get install chrony")
    }]
}
