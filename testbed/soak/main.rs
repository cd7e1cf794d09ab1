//! What can go on for as long as it is let: by default some seconds each, with `make soak` MINUTES each.

/// Captures that are longer than memory, explained and compared.
mod explain;
/// Whole workers, and mutated captures through random plans.
mod fuzz;
/// Full speed with rules changed, tools drained and links set down and up.
mod load;
/// Programs that talk to a broker while files take each other's place.
mod talk;
/// Every prefix of every pipeline file, every line left out, every two swapped.
mod variations;
