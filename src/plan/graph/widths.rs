//! The widths of texts: boxes are sized for them, and no font is asked.
//!
//! The tables are the advance widths of DejaVu Sans, in thousandths of the font's size, from space to tilde. The faces that stand
//! behind it in the picture's list of fonts (Verdana, then the system's own) are not wider.

/// A face of the picture's fonts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Face {
    /// Pixels.
    pub size: u32,
    widths: &'static [u16; 95],
}

/// The face of names.
pub(super) const NAMES: Face = Face { size: 13, widths: &BOLD };
/// The face of all else.
pub(super) const LINES: Face = Face { size: 11, widths: &REGULAR };

#[rustfmt::skip]
const REGULAR: [u16; 95] = [
    318, 401, 460, 838, 636, 950, 780, 275, 390, 390, 500, 838, 318, 361, 318, 337, 636, 636, 636, 636, 636, 636, 636, 636, 636, 636,
    337, 337, 838, 838, 838, 531, 1000, 684, 686, 698, 770, 632, 575, 775, 752, 295, 295, 656, 557, 863, 748, 787, 603, 787, 695, 635,
    611, 732, 684, 989, 685, 611, 685, 390, 337, 390, 838, 500, 500, 613, 635, 550, 635, 615, 352, 635, 634, 278, 278, 579, 278, 974,
    634, 612, 635, 635, 411, 521, 392, 634, 592, 818, 592, 592, 525, 636, 337, 636, 838,
];

#[rustfmt::skip]
const BOLD: [u16; 95] = [
    348, 456, 521, 838, 696, 1002, 872, 306, 457, 457, 523, 838, 380, 415, 380, 365, 696, 696, 696, 696, 696, 696, 696, 696, 696, 696,
    400, 400, 838, 838, 838, 580, 1000, 774, 762, 734, 830, 683, 683, 821, 837, 372, 372, 775, 637, 995, 837, 850, 733, 850, 770, 720,
    682, 812, 774, 1103, 771, 724, 725, 457, 365, 457, 838, 500, 500, 675, 716, 593, 716, 678, 435, 716, 712, 343, 343, 665, 343, 1042,
    712, 687, 716, 716, 493, 595, 478, 712, 652, 924, 645, 652, 582, 712, 365, 712, 838,
];

impl Face {
    fn width_of(self, letter: char) -> u32 {
        let place = (letter as usize).checked_sub(' ' as usize);
        // no letter of Latin, Greek or Cyrillic is wider than 1.6 of the size in this face, no ideograph wider than the size
        let wide = if (letter as u32) < 0x2000 { 1200 } else { 1000 };
        place.and_then(|place| self.widths.get(place)).map_or(wide, |&width| u32::from(width))
    }

    /// Returns the width of a text in pixels, rounded up.
    pub(super) fn width(self, text: &str) -> u32 {
        (text.chars().map(|letter| self.width_of(letter)).sum::<u32>() * self.size).div_ceil(1000)
    }

    /// Returns the front of a text that is at most `most` pixels wide, with an ellipsis where it was cut.
    pub(super) fn cut(self, text: &str, most: u32) -> String {
        if self.width(text) <= most {
            return text.to_owned();
        }
        let mut kept = String::new();
        for letter in text.chars() {
            kept.push(letter);
            if self.width(&kept) + self.width("…") > most {
                kept.pop();
                break;
            }
        }
        kept + "…"
    }

    /// Breaks a text into lines that are at most `most` pixels wide, at blanks where it has them; all beyond `count` lines is cut.
    pub(super) fn wrap(self, text: &str, most: u32, count: usize) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for word in text.split_whitespace() {
            match lines.last_mut() {
                Some(line) if self.width(line) + self.width(" ") + self.width(word) <= most => {
                    line.push(' ');
                    line.push_str(word);
                }
                _ => lines.push(word.to_owned()),
            }
        }
        if lines.len() > count {
            let rest = lines.split_off(count - 1).join(" ");
            lines.push(rest);
        }
        lines.iter().map(|line| self.cut(line, most)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_and_broken_to_their_room() {
        // 4 * 0.636 * 11 = 27.98
        assert_eq!(LINES.width("0000"), 28);
        assert_eq!(LINES.cut("0000", 28), "0000");
        let text = "tcp port 80 or tcp port 443 through vlan,qinq,mpls,vxlan,gre and so on and on";
        for most in [60, 100, 200] {
            for face in [LINES, NAMES] {
                let lines = face.wrap(text, most, 3);
                assert!(lines.len() <= 3 && lines.iter().all(|line| face.width(line) <= most), "{lines:?}");
            }
        }
        assert_eq!(LINES.wrap(text, 10_000, 3), [text]);
    }
}
