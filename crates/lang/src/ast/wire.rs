//! `wire …`: two ports joined inline.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WireOption {
    Bypass(bool),
    PropagateLink(bool),
}
