//! Log lines as tests read them: the text behind the time and the level.

/// What standard error has, with the texts of log lines in their place: `2026-11-30T20:31:07.123Z notice: rule 1: on` is `rule 1: on`.
/// Warnings and errors keep their level, by which other lines begin, too.
pub fn texts(stderr: &[u8]) -> String {
    String::from_utf8_lossy(stderr).split_inclusive('\n').map(text).collect()
}

fn text(line: &str) -> &str {
    let Some((_, rest)) = line.split_once(' ').filter(|(time, _)| is_time(time)) else { return line };
    ["notice: ", "info: ", "debug: "].into_iter().find_map(|level| rest.strip_prefix(level)).unwrap_or(rest)
}

/// Returns whether a word is a time in UTC to the millisecond, as RFC 3339 has it.
fn is_time(word: &str) -> bool {
    const LIKE: &str = "0000-00-00T00:00:00.000Z";
    let is_like =
        |(letter, like): (u8, u8)| if like == b'0' { letter.is_ascii_digit() } else { letter == like };
    word.len() == LIKE.len() && word.bytes().zip(LIKE.bytes()).all(is_like)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_log_line_stands_behind_its_time_and_its_level() {
        let printed = "error: as it is\n2026-11-30T20:31:07.123Z notice: rule 1: on\n2026-11-30T20:31:07.123Z warning: port p\n\
                       2026-11-30 warning: no time\n2026-11-30T20:31:07.123Z error: half";
        let expected =
            "error: as it is\nrule 1: on\nwarning: port p\n2026-11-30 warning: no time\nerror: half";
        assert_eq!(texts(printed.as_bytes()), expected);
    }
}
