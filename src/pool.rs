//! The one loop over many pieces of work on several threads.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::Cancel;

/// Threads for so many pieces of work: as asked, else one per processor, and never more than there are pieces.
pub(crate) fn threads(asked: Option<NonZeroUsize>, pieces: usize) -> usize {
    asked.or_else(|| thread::available_parallelism().ok()).map_or(1, usize::from).min(pieces)
}

/// Does the work on each item, in order of the items as threads become free. A result stands at the index of its item, whichever
/// thread made it; items that were not begun before the token was cancelled have none.
pub(crate) fn each<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    cancel: &Cancel,
    work: impl Fn(usize, &T) -> R + Sync,
) -> Vec<Option<R>> {
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::new(None)).collect();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !cancel.is_cancelled() {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { return };
                    let result = work(index, item);
                    *results[index].lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                }
            });
        }
    });
    results.into_iter().map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_stand_at_their_index_whatever_the_number_of_threads() {
        let items: Vec<u64> = (0..100).collect();
        let square = |index: usize, item: &u64| index as u64 * item;
        let wanted: Vec<Option<u64>> = items.iter().map(|item| Some(item * item)).collect();
        for threads in [1, 2, 7] {
            assert_eq!(each(&items, threads, &Cancel::new(), square), wanted, "{threads} threads");
        }
    }

    #[test]
    fn what_is_finished_before_the_token_is_cancelled_is_kept_and_nothing_is_begun_after() {
        let cancel = Cancel::new();
        let done = each(&[(); 10], 1, &cancel, |index, ()| {
            if index == 3 {
                cancel.cancel();
            }
            index
        });
        assert_eq!(done[..4], [Some(0), Some(1), Some(2), Some(3)]);
        assert!(done[4..].iter().all(Option::is_none));
    }

    #[test]
    fn there_are_never_more_threads_than_pieces() {
        assert_eq!(threads(NonZeroUsize::new(8), 3), 3);
        assert_eq!(threads(NonZeroUsize::new(2), 3), 2);
        assert_eq!(threads(None, 1), 1);
    }
}
