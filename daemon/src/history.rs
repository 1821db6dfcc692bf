//! The last minutes of VMs and devices, one point a second, for `paravanectl top`.

use std::collections::{BTreeMap, VecDeque};

use crate::view::Point;

/// Points that are kept of each: five minutes.
pub const POINTS_MAX: usize = 300;

/// By name or UUID.
#[derive(Debug, Default)]
pub struct History(BTreeMap<String, VecDeque<Point>>);

impl History {
    /// One second of all that there are; who is not among them is forgotten.
    pub fn push(&mut self, points: impl IntoIterator<Item = (String, Point)>) {
        let mut old = std::mem::take(&mut self.0);
        for (name, point) in points {
            let mut line = old.remove(&name).unwrap_or_default();
            if line.len() == POINTS_MAX {
                line.pop_front();
            }
            line.push_back(point);
            self.0.insert(name, line);
        }
    }

    /// All that is kept, oldest first.
    pub fn all(&self) -> BTreeMap<String, Vec<Point>> {
        self.0.iter().map(|(name, line)| (name.clone(), line.iter().copied().collect())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_points_are_kept_of_those_that_are_there() {
        let mut history = History::default();
        let point = |share| Point { share, memory_mib: 0 };
        for share in 0..=u32::try_from(POINTS_MAX).unwrap() {
            history.push([("a".to_string(), point(share)), ("b".to_string(), point(0))]);
        }
        history.push([("a".to_string(), point(7))]);
        let all = history.all();
        assert_eq!(all.len(), 1);
        assert_eq!((all["a"].len(), all["a"][0].share, all["a"][POINTS_MAX - 1].share), (POINTS_MAX, 2, 7));
    }
}
