//! Numbers for blocks that come and go.

/// Numbers that are given out and come back. Those given one after the other lie side by side, as far as they can: half of all
/// numbers are vacant, and the search goes on from the last one. Blocks of a request are used together and go together, so that
/// what is kept of them by number is in few cache lines.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    taken: Vec<bool>,
    len: usize,
    cursor: usize,
}

impl Places {
    /// Numbers that are given out.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether a number is given out.
    #[inline]
    pub(super) fn has(&self, number: u32) -> bool {
        self.taken[number as usize]
    }

    /// Gives out a number: below, or equal to, how many there ever were.
    #[inline]
    pub(super) fn take(&mut self) -> u32 {
        self.len += 1;
        loop {
            let at = self.cursor;
            if at == self.taken.len() {
                if at > 2 * self.len {
                    self.cursor = 0;
                    continue;
                }
                self.taken.push(false);
            }
            self.cursor += 1;
            if !std::mem::replace(&mut self.taken[at], true) {
                return at as u32;
            }
        }
    }

    /// Takes a number back.
    #[inline]
    pub(super) fn give_back(&mut self, number: u32) {
        self.taken[number as usize] = false;
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counter::draw;

    #[test]
    fn a_number_is_given_out_once_and_numbers_stay_few() {
        let (mut places, mut out) = (Places::default(), Vec::new());
        for i in 0..20_000 {
            // The population grows to some hundred, shrinks to none and grows again.
            let grows = if i / 4000 % 2 == 0 { 60 } else { 40 };
            if draw(1, i) % 100 < grows || out.is_empty() {
                let number = places.take();
                assert!(!out.contains(&number) && places.has(number), "at {i}");
                out.push(number);
            } else {
                let number = out.swap_remove(draw(2, i) as usize % out.len());
                places.give_back(number);
                assert!(!places.has(number));
            }
            assert_eq!(places.len(), out.len());
        }
        assert!(places.taken.len() <= 2 * 1200, "{}", places.taken.len());
        assert!(places.taken.len() > 600, "{}", places.taken.len());
    }
}
