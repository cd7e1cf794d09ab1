//! The nearest of the words that would have been right.

/// The candidate that `word` is most likely a misspelling of, if one is near enough: letters in another case, or one slip (a letter
/// too many, too few, other, or two swapped) in a word of up to five characters, two in a longer one.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer words are pasted text, and the distance costs time by the square of the length.
    if word.len() > 64 {
        return None;
    }
    let lower = word.to_lowercase();
    let mut best: Option<(usize, usize, &str)> = None;
    for candidate in candidates.into_iter().filter(|candidate| candidate.len() <= 64) {
        let distance = strsim::osa_distance(&lower, &candidate.to_lowercase());
        let allowed = match word.chars().count().max(candidate.chars().count()) {
            0..=2 => 0,
            3..=5 => 1,
            _ => 2,
        };
        // Of two equally near words, the one that begins alike is meant: people slip late in a word.
        let unlike =
            candidate.len() - word.bytes().zip(candidate.bytes()).take_while(|(a, b)| a == b).count();
        if distance <= allowed
            && candidate != word
            && best.is_none_or(|(d, u, _)| (distance, unlike) < (d, u))
        {
            best = Some((distance, unlike, candidate));
        }
    }
    best.map(|(_, _, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn one_slip_in_a_short_word_and_two_in_a_long_one_are_recognised() {
        let words = ["from", "to", "match", "sample", "ids-a", "recorder"];
        assert_eq!(nearest("frm", words), Some("from"));
        assert_eq!(nearest("MATCH", words), Some("match"));
        assert_eq!(nearest("idz-a", words), Some("ids-a"));
        assert_eq!(nearest("recrodr", words), Some("recorder"));
        assert_eq!(nearest("too", words), Some("to"));
        assert_eq!(nearest("xyz", words), None);
        assert_eq!(nearest("of", words), None);
        assert_eq!(nearest("erspan", ["rspan", "erspan3"]), Some("erspan3"));
    }
}
