//! Which slots go, and what takes their places.

/// A token that changes its slot: it takes that of one that goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Move {
    /// Where it was.
    pub from: u32,
    /// Where it is now.
    pub to: u32,
}

/// Brings a head back to `budget` slots: the slots with the lowest scores go, of equal scores those with older tokens, and never
/// one that is protected. Survivors beyond the budget take the slots of those that went, so that the occupied ones end at the budget.
///
/// # Panics
/// More slots are protected than the budget has.
pub fn cut(scores: &[f32], positions: &[u32], budget: u32, protects: impl Fn(u32) -> bool) -> Vec<Move> {
    let (slots, budget) = (positions.len(), budget as usize);
    let Some(going) = slots.checked_sub(budget).filter(|going| *going > 0) else { return Vec::new() };
    let by_worth = |a: &u32, b: &u32| {
        let (a, b) = (*a as usize, *b as usize);
        // Adding 0 makes the two zeros one.
        (scores[a] + 0.0).total_cmp(&(scores[b] + 0.0)).then(positions[a].cmp(&positions[b]))
    };
    let free = (0..slots as u32).filter(|slot| !protects(positions[*slot as usize]));
    let mut gone: Vec<u32> = if going == 1 {
        free.min_by(by_worth).into_iter().collect()
    } else {
        let mut free: Vec<u32> = free.collect();
        if going < free.len() {
            free.select_nth_unstable_by(going - 1, by_worth);
            free.truncate(going);
        }
        free
    };
    assert_eq!(gone.len(), going, "too few tokens may go");
    gone.sort_unstable();
    let inside = gone.partition_point(|slot| (*slot as usize) < budget);
    let (holes, beyond) = gone.split_at(inside);
    let survivors = (budget as u32..slots as u32).filter(|slot| beyond.binary_search(slot).is_err());
    holes.iter().zip(survivors).map(|(to, from)| Move { from, to: *to }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(scores: &[f32], positions: &[u32], budget: u32, protects: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut positions = positions.to_vec();
        for Move { from, to } in cut(scores, &positions.clone(), budget, protects) {
            positions[to as usize] = positions[from as usize];
        }
        positions.truncate(budget as usize);
        positions
    }

    #[test]
    fn the_lowest_goes_and_what_is_beyond_the_budget_takes_its_slot() {
        assert_eq!(kept(&[3.0, 1.0, 2.0, 4.0], &[0, 5, 2, 7], 3, |_| false), [0, 7, 2]);
        assert_eq!(kept(&[3.0, 4.0, 2.0, 1.0], &[0, 5, 2, 7], 3, |_| false), [0, 5, 2], "the newest may go itself");
        assert_eq!(kept(&[3.0, 1.0, 2.0, 4.0, 0.5], &[0, 5, 2, 7, 8], 2, |_| false), [0, 7]);
        assert_eq!(kept(&[1.0; 4], &[9, 5, 2, 7], 2, |_| false), [9, 7], "of equals the older ones go");
        assert_eq!(kept(&[1.0, 2.0, 3.0, 4.0], &[0, 1, 2, 3], 2, |position| position < 1), [0, 3]);
        assert_eq!(kept(&[1.0, 2.0], &[0, 1], 2, |_| false), [0, 1]);
    }
}
