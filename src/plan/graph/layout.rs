//! Places boxes in columns and leads edges between them: a layered drawing (Sugiyama, Tagawa, Toda, 1981) whose layers are given.
//!
//! The order within the columns comes from barycentre sweeps, of which the order with the fewest crossings is kept. Heights come from
//! sweeps that move each box as near to the mean of its neighbours as the order allows, which is a regression under an order
//! (pool adjacent violators). An edge that passes a column has a place of its own in it, so that no edge runs through a box. Nothing
//! here is random, and ties go by the order of the boxes: the same input is placed the same.

/// Room between two boxes of a column, in which a line of text stands.
const BOX_GAP: f64 = 18.0;
/// Room that an edge takes in a column that it passes.
const PASSAGE: f64 = 10.0;
/// The most room between the ends of edges at a box.
const END_GAP: f64 = 12.0;
const SWEEPS: usize = 12;

/// A box that is to be placed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Boxed {
    pub layer: usize,
    pub w: u32,
    pub h: u32,
    /// Boxes of the layer that are kept in order stay in the order in which they are given.
    pub keeps_order: bool,
}

/// The room that is left around boxes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub left: u32,
    pub top: u32,
    /// Room between columns, at least.
    pub between: u32,
}

/// The places of boxes and edges.
#[derive(Clone, Debug, Default)]
pub(super) struct Placed {
    /// Left, top and width of each box: all boxes of a column are as wide as the column.
    pub boxes: Vec<(u32, u32, u32)>,
    /// The points of each edge: from the right side of a box to the left side of another.
    pub edges: Vec<Vec<(u32, u32)>>,
    /// Left and width of each layer that has boxes.
    pub columns: Vec<(usize, u32, u32)>,
    /// The right and lower ends of all boxes.
    pub right: u32,
    pub bottom: u32,
}

/// A box, or an edge's place in a column that it passes.
struct Item {
    layer: usize,
    h: f64,
    keeps_order: bool,
    is_passage: bool,
    before: Vec<usize>,
    behind: Vec<usize>,
    /// Its middle.
    y: f64,
}

struct Layout {
    items: Vec<Item>,
    /// The items of each layer, from top to bottom.
    layers: Vec<Vec<usize>>,
    /// The items that each edge leads over, its ends included.
    chains: Vec<Vec<usize>>,
}

/// Places boxes, and edges that lead from a box of a layer to one of a later layer.
pub(super) fn place(boxes: &[Boxed], edges: &[(usize, usize)], room: Room) -> Placed {
    if boxes.is_empty() {
        return Placed { right: room.left, bottom: room.top, ..Placed::default() };
    }
    let mut used: Vec<usize> = boxes.iter().map(|boxed| boxed.layer).collect();
    used.sort_unstable();
    used.dedup();
    let mut layout = Layout::new(boxes, edges, &used);
    layout.order();
    layout.straighten();
    layout.placed(boxes, &used, room)
}

impl Layout {
    fn new(boxes: &[Boxed], edges: &[(usize, usize)], used: &[usize]) -> Self {
        let layer_of = |layer: usize| used.iter().position(|&used| used == layer).unwrap_or_default();
        let item = |layer: usize, h: f64, keeps_order: bool, is_passage: bool| Item {
            layer,
            h,
            keeps_order,
            is_passage,
            before: Vec::new(),
            behind: Vec::new(),
            y: 0.0,
        };
        let mut items: Vec<Item> = boxes
            .iter()
            .map(|boxed| item(layer_of(boxed.layer), boxed.h.into(), boxed.keeps_order, false))
            .collect();
        let mut chains = Vec::with_capacity(edges.len());
        for &(from, to) in edges {
            let mut chain = vec![from];
            for layer in items[from].layer + 1..items[to].layer {
                chain.push(items.len());
                items.push(item(layer, PASSAGE, false, true));
            }
            chain.push(to);
            for pair in chain.windows(2) {
                items[pair[0]].behind.push(pair[1]);
                items[pair[1]].before.push(pair[0]);
            }
            chains.push(chain);
        }
        let mut layers = vec![Vec::new(); used.len()];
        for (index, item) in items.iter().enumerate() {
            layers[item.layer].push(index);
        }
        Self { items, layers, chains }
    }

    /// Sweeps over the layers to and fro, and keeps the order that has the fewest crossings.
    fn order(&mut self) {
        let mut best = (self.crossings(), self.layers.clone());
        for sweep in 0..SWEEPS {
            let is_forward = sweep % 2 == 0;
            let count = self.layers.len();
            for step in 1..count {
                let layer = if is_forward { step } else { count - 1 - step };
                self.sort(layer, is_forward);
            }
            let crossings = self.crossings();
            if crossings < best.0 {
                best = (crossings, self.layers.clone());
            }
        }
        self.layers = best.1;
    }

    /// The place of each item in its layer, from 0 to 1.
    fn ranks(&self) -> Vec<f64> {
        let mut ranks = vec![0.0; self.items.len()];
        for layer in &self.layers {
            for (place, &item) in layer.iter().enumerate() {
                ranks[item] = (place as f64 + 0.5) / layer.len() as f64;
            }
        }
        ranks
    }

    /// Sorts a layer by the mean rank of each item's neighbours on one side.
    fn sort(&mut self, layer: usize, is_forward: bool) {
        let ranks = self.ranks();
        let key = |item: usize| {
            let neighbours = self.neighbours(item, is_forward);
            if neighbours.is_empty() {
                return ranks[item];
            }
            neighbours.iter().map(|&other| ranks[other]).sum::<f64>() / neighbours.len() as f64
        };
        let mut keyed: Vec<(f64, usize)> =
            self.layers[layer].iter().map(|&item| (key(item), item)).collect();
        keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
        // the slots of those that keep their order are filled in it
        let mut kept: Vec<usize> =
            keyed.iter().map(|&(_, item)| item).filter(|&item| self.items[item].keeps_order).collect();
        kept.sort_unstable();
        let mut kept = kept.into_iter();
        let sorted = keyed
            .into_iter()
            .map(|(_, item)| if self.items[item].keeps_order { kept.next().unwrap_or(item) } else { item });
        self.layers[layer] = sorted.collect();
    }

    fn neighbours(&self, item: usize, is_forward: bool) -> &[usize] {
        if is_forward { &self.items[item].before } else { &self.items[item].behind }
    }

    /// Counts the pairs of edges that cross between two layers, over all layers.
    fn crossings(&self) -> u64 {
        let ranks = self.ranks();
        let count = |layer: &Vec<usize>| {
            let mut ends: Vec<f64> = Vec::new();
            for &item in layer {
                let mut behind: Vec<f64> = self.items[item].behind.iter().map(|&to| ranks[to]).collect();
                behind.sort_by(f64::total_cmp);
                ends.extend(behind);
            }
            inversions(&mut ends)
        };
        self.layers.iter().map(count).sum()
    }

    /// Moves items towards their neighbours, layer by layer to and fro.
    fn straighten(&mut self) {
        for layer in 0..self.layers.len() {
            let wanted = vec![(0.0, 1.0); self.layers[layer].len()];
            self.settle(layer, &wanted);
        }
        for sweep in 0..2 * SWEEPS {
            let is_forward = sweep % 2 == 0;
            for step in 0..self.layers.len() {
                let layer = if is_forward { step } else { self.layers.len() - 1 - step };
                // in the end both sides count
                let both = sweep + 4 >= 2 * SWEEPS;
                let wanted: Vec<(f64, f64)> = self.layers[layer]
                    .iter()
                    .map(|&item| self.wish(item, is_forward || both, !is_forward || both))
                    .collect();
                self.settle(layer, &wanted);
            }
        }
    }

    /// The middle that an item would have by its neighbours, and its weight.
    fn wish(&self, item: usize, by_before: bool, by_behind: bool) -> (f64, f64) {
        let Item { before, behind, y, is_passage, .. } = &self.items[item];
        let sides = [(by_before, before), (by_behind, behind)];
        let neighbours = sides.iter().filter(|(counts, _)| *counts).flat_map(|(_, side)| side.iter());
        let (mut sum, mut weights) = (0.0, 0.0);
        for &other in neighbours {
            // a long edge is to be straight where nobody looks at its ends
            let weight = if *is_passage && self.items[other].is_passage { 6.0 } else { 1.0 };
            sum += weight * self.items[other].y;
            weights += weight;
        }
        // boxes give way to them: each step of a long edge is one bend more to follow
        let weight = if *is_passage { 8.0 * weights } else { weights };
        if weights == 0.0 { (*y, 0.05) } else { (sum / weights, weight) }
    }

    fn gap(&self, above: usize, below: usize) -> f64 {
        let [above, below] = [&self.items[above], &self.items[below]];
        let gap = if above.is_passage && below.is_passage { 0.0 } else { BOX_GAP };
        (above.h + below.h) / 2.0 + gap
    }

    /// Gives the items of a layer the middles that are nearest to `wanted`, weighted, without overlaps.
    fn settle(&mut self, layer: usize, wanted: &[(f64, f64)]) {
        let items = std::mem::take(&mut self.layers[layer]);
        let mut offsets = vec![0.0; items.len()];
        for place in 1..items.len() {
            offsets[place] = offsets[place - 1] + self.gap(items[place - 1], items[place]);
        }
        // blocks of items that touch: the weighted sum of their wishes, their weight, their count
        let mut blocks: Vec<(f64, f64, usize)> = Vec::new();
        for (&(wish, weight), offset) in wanted.iter().zip(&offsets) {
            blocks.push(((wish - offset) * weight, weight, 1));
            while let [.., above, below] = blocks[..]
                && above.0 / above.1 > below.0 / below.1
            {
                blocks.truncate(blocks.len() - 2);
                blocks.push((above.0 + below.0, above.1 + below.1, above.2 + below.2));
            }
        }
        let middles =
            blocks.iter().flat_map(|&(sum, weight, count)| std::iter::repeat_n(sum / weight, count));
        for ((&item, middle), offset) in items.iter().zip(middles).zip(offsets) {
            self.items[item].y = middle + offset;
        }
        self.layers[layer] = items;
    }

    /// Returns the places in whole pixels.
    fn placed(&mut self, boxes: &[Boxed], used: &[usize], room: Room) -> Placed {
        let (tops, bottom) = self.tops(room.top);
        let height = bottom - room.top;
        // steep edges want room
        let between = room.between + (height / 12).min(160);
        let mut columns = Vec::new();
        let mut left = room.left;
        for (layer, &name) in used.iter().enumerate() {
            let widest = boxes.iter().zip(&self.items).filter(|(_, item)| item.layer == layer);
            let width = widest.map(|(boxed, _)| boxed.w).max().unwrap_or_default();
            columns.push((name, left, width));
            left += width + between;
        }
        let column = |item: usize| columns[self.items[item].layer];
        let placed = (0..boxes.len()).map(|item| (column(item).1, tops[item], column(item).2));
        Placed {
            boxes: placed.collect(),
            edges: self.paths(boxes, &tops, &columns),
            right: left - between,
            bottom,
            columns,
        }
    }

    /// Returns the top of each item in whole pixels, and the lowest end.
    fn tops(&self, top: u32) -> (Vec<u32>, u32) {
        let upper = |item: &Item| item.y - item.h / 2.0;
        let least = self.items.iter().map(upper).fold(f64::INFINITY, f64::min);
        let mut tops = vec![0; self.items.len()];
        let mut lowest = top;
        for layer in &self.layers {
            let mut free = top;
            for (place, &index) in layer.iter().enumerate() {
                let item = &self.items[index];
                let wanted = top + (upper(item) - least).round() as u32;
                tops[index] = wanted.max(free);
                let end = tops[index] + item.h as u32;
                lowest = lowest.max(end);
                let is_apart = layer
                    .get(place + 1)
                    .is_some_and(|&next| !(item.is_passage && self.items[next].is_passage));
                free = end + if is_apart { BOX_GAP as u32 - 1 } else { 0 };
            }
        }
        (tops, lowest)
    }

    fn paths(&self, boxes: &[Boxed], tops: &[u32], columns: &[(usize, u32, u32)]) -> Vec<Vec<(u32, u32)>> {
        let middle = |item: usize| tops[item] + self.items[item].h as u32 / 2;
        // the ends of edges at each side of a box, from top to bottom by where they come from
        let ends = |of: &dyn Fn(&[usize]) -> (usize, usize)| {
            let mut sides: Vec<Vec<(u32, usize)>> = vec![Vec::new(); boxes.len()];
            for (edge, chain) in self.chains.iter().enumerate() {
                let (at, other) = of(chain);
                sides[at].push((middle(other), edge));
            }
            let mut heights = vec![0; self.chains.len()];
            for (at, side) in sides.iter_mut().enumerate() {
                side.sort_unstable();
                let most = side.len().saturating_sub(1) as f64;
                let gap =
                    if most > 0.0 { END_GAP.min((f64::from(boxes[at].h) - 10.0) / most) } else { 0.0 };
                for (place, &(_, edge)) in side.iter().enumerate() {
                    let height = f64::from(middle(at)) + (place as f64 - most / 2.0) * gap;
                    heights[edge] = height.round() as u32;
                }
            }
            heights
        };
        let starts = ends(&|chain| (chain[0], chain[1]));
        let stops = ends(&|chain| (chain[chain.len() - 1], chain[chain.len() - 2]));
        let path = |(edge, chain): (usize, &Vec<usize>)| {
            let mut points = Vec::with_capacity(2 * chain.len() - 2);
            let (_, left, width) = columns[self.items[chain[0]].layer];
            points.push((left + width, starts[edge]));
            for &item in &chain[1..chain.len() - 1] {
                let (_, left, width) = columns[self.items[item].layer];
                points.extend([(left, middle(item)), (left + width, middle(item))]);
            }
            let (_, left, _) = columns[self.items[chain[chain.len() - 1]].layer];
            points.push((left, stops[edge]));
            points
        };
        self.chains.iter().enumerate().map(path).collect()
    }
}

/// Sorts numbers, and returns how many pairs of them stood in the wrong order.
fn inversions(values: &mut [f64]) -> u64 {
    if values.len() < 2 {
        return 0;
    }
    let half = values.len() / 2;
    let (left, right) = values.split_at_mut(half);
    let mut count = inversions(left) + inversions(right);
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut a, mut b) = (0, 0);
    while a < left.len() || b < right.len() {
        if b == right.len() || a < left.len() && left[a] <= right[b] {
            merged.push(left[a]);
            a += 1;
        } else {
            count += (left.len() - a) as u64;
            merged.push(right[b]);
            b += 1;
        }
    }
    values.copy_from_slice(&merged);
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn inversions_are_those_of_two_loops(values in proptest::collection::vec(0..20u8, 0..40)) {
            let mut numbers: Vec<f64> = values.iter().map(|&value| value.into()).collect();
            let pairs = (0..values.len()).flat_map(|a| (a + 1..values.len()).map(move |b| (a, b)));
            let expected = pairs.filter(|&(a, b)| values[a] > values[b]).count();
            prop_assert_eq!(inversions(&mut numbers), expected as u64);
            prop_assert!(numbers.is_sorted());
        }
    }
}
