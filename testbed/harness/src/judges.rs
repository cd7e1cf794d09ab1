//! What is demanded of statistics and of packets.

use serde_json::Value;

use crate::programs::repository;

/// A number of a line of statistics by its path, such as `tools/ids/sent`.
pub fn number(line: &Value, path: &str) -> u64 {
    let found = line.pointer(&format!("/{}", path.trim_start_matches('/')));
    found.and_then(Value::as_u64).unwrap_or_else(|| panic!("no number {path} in {line}"))
}

/// What has to be a number.
pub fn u64_of(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("a number expected, got {value}"))
}

/// The text is that of a file of the repository. `TAPLINE_BLESS=1` writes the file anew: read the difference before you keep it.
pub fn assert_expected(path: &str, found: &str) {
    let path = repository().join(path);
    if std::env::var_os("TAPLINE_BLESS").is_some() {
        std::fs::write(&path, found).expect("a writable folder");
    }
    let expected = std::fs::read_to_string(&path).expect("an expected text");
    assert!(found == expected, "{}:\n{found}\nexpected:\n{expected}", path.display());
}

/// The entries of an object by their names.
fn entries<'a>(line: &'a Value, of: &str) -> Vec<(&'a String, &'a Value)> {
    line[of].as_object().unwrap_or_else(|| panic!("no {of} by name in {line}")).iter().collect()
}

pub fn sum_over(line: &Value, of: &str, value: impl Fn(&Value) -> u64) -> u64 {
    entries(line, of).into_iter().map(|(_, entry)| value(entry)).sum()
}

/// All drops, of whatever reason.
fn dropped(copies: &Value) -> u64 {
    sum_over(copies, "dropped", u64_of)
}

/// Both identities, added up here, on every level that has the numbers; and the levels agree.
pub fn assert_balanced(line: &Value) {
    let ends = ["delivered", "unmatched", "excluded", "sampled_out", "duplicate", "failed"];
    let received = number(line, "packets/received");
    assert_eq!(
        received,
        ends.iter().map(|end| number(line, &format!("packets/{end}"))).sum::<u64>(),
        "packets: {line}"
    );
    // what was taken out of the plan has no names any more
    let departed = line.get("departed");
    let of_ports = sum_over(line, "ports", |port| number(port, "received"));
    assert_eq!(received, of_ports + departed.map_or(0, |gone| number(gone, "received")), "ports: {line}");
    let ended = |copies: &Value| number(copies, "sent") + dropped(copies);
    let (mut requested, mut accounted, mut sent) = (0, 0, 0);
    if let Some(copies) = departed.map(|departed| &departed["copies"]) {
        assert_eq!(number(copies, "requested"), ended(copies), "departed: {line}");
        (requested, accounted, sent) = (ended(copies), ended(copies), number(copies, "sent"));
    }
    for (name, tool) in entries(line, "tools") {
        assert_eq!(number(tool, "requested"), ended(tool), "tool {name}: {line}");
        (requested, accounted) = (requested + number(tool, "requested"), accounted + ended(tool));
        sent += number(tool, "sent");
    }
    for (name, group) in entries(line, "groups") {
        let unassigned = &group["unassigned"];
        assert_eq!(number(unassigned, "requested"), ended(unassigned), "group {name}: {line}");
        assert_eq!(
            number(group, "requested"),
            number(group, "assigned") + ended(unassigned),
            "group {name}: {line}"
        );
        (requested, accounted) =
            (requested + number(unassigned, "requested"), accounted + ended(unassigned));
        // a share that is to be discarded counts as sent
        sent += number(unassigned, "sent");
    }
    let copies = &line["copies"];
    assert_eq!((number(copies, "requested"), ended(copies)), (requested, accounted), "copies: {line}");
    assert_eq!(requested, accounted, "copies: {line}");
    assert_eq!(number(copies, "sent"), sent, "sent: {line}");
    for (name, wire) in entries(line, "wires") {
        for way in [&wire["a_to_b"], &wire["b_to_a"]] {
            assert_eq!(
                number(way, "received"),
                number(way, "forwarded") + dropped(way),
                "wire {name}: {way}"
            );
        }
    }
    assert_eq!(line["balanced"], true, "{line}");
}

/// No stage of a lcore panicked.
pub fn assert_no_panics(line: &Value, log: &str) {
    assert_eq!(sum_over(line, "lcores", |lcore| number(lcore, "panics")), 0, "panics\n{log}");
}

/// Compares packets byte for byte, in order; a difference is told by its place.
pub fn assert_same(what: &str, got: &[Vec<u8>], expected: &[Vec<u8>]) {
    let differing = got.iter().zip(expected).position(|(got, expected)| got != expected);
    if let Some(place) = differing {
        let (got, expected) = (&got[place], &expected[place]);
        let byte = got.iter().zip(expected).position(|(got, expected)| got != expected);
        panic!(
            "{what}: packet {place} has {} bytes instead of {}, and differs at byte {byte:?}",
            got.len(),
            expected.len()
        );
    }
    assert_eq!(got.len(), expected.len(), "{what}: the number of packets");
}
