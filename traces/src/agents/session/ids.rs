//! The ids of prompts: runs that grow from request to request.

use super::{Draft, NAMED_IDS, Run};
use crate::agents::line::Entry;
use crate::error::TraceError;

impl Draft<'_, '_> {
    /// Makes of the ids of the request before those of this one.
    pub(super) fn ids(
        &mut self,
        entry: &Entry<'_>,
        path: &str,
        prompt: u32,
        ids: &mut Vec<Run>,
    ) -> Result<(), TraceError> {
        let place = self.place;
        // Before they are looked at one by one, there are as many as there should be.
        let found = match (entry.keep, &entry.ids, &entry.hash_ids) {
            (Some(keep), Some(_), None) if keep > count(ids) => {
                let help = "`keep` counts leading ids of the request before it in its list";
                return Err(place.bad(path, "keep", &keep, "at most the ids of the request before", help));
            }
            (Some(keep), Some(runs), None) => runs.iter().fold(keep, |sum, run| sum.saturating_add(run.1)),
            (None, None, Some(hashes)) => hashes.len() as u64,
            _ => {
                let help = "a request has `hash_ids`, or `keep` and `ids`";
                return Err(place.bad(path, "", &"other keys", "the ids of its blocks in one form", help));
            }
        };
        let (full, all) = (prompt / self.session.block_size, prompt.div_ceil(self.session.block_size));
        if found != u64::from(full) && found != u64::from(all) {
            let help = "a request has an id for each block of `block_size` tokens of its prompt; a partial last one may have one";
            let found = format!("{found} ids for {prompt} tokens");
            return Err(place.bad(path, "", &found, "one id for each full block of the prompt", help));
        }
        truncate(ids, entry.keep.unwrap_or(0));
        let runs = entry.ids.iter().flatten().copied();
        runs.into_iter().try_for_each(|run| self.append(ids, run, path, "ids"))?;
        let hashes = entry.hash_ids.iter().flatten();
        hashes.into_iter().try_for_each(|&id| self.append(ids, (id, 1), path, "hash_ids"))
    }

    /// Adds a run at the end of the ids.
    fn append(&mut self, ids: &mut Vec<Run>, (first, more): Run, path: &str, key: &str) -> Result<(), TraceError> {
        let parts = u64::from(self.session.block_size / self.builder.block_tokens);
        let end = first.checked_add(more).filter(|end| end.checked_mul(parts).is_some_and(|end| end <= NAMED_IDS));
        let Some(end) = end else {
            let help = "ids are numbered within their session; hashes must be numbered first";
            return Err(self.place.bad(
                path,
                key,
                &first,
                "ids that, with the blocks of the engine in them, fit below 2^31",
                help,
            ));
        };
        // No id is before the first one.
        let mut before = ids.last().map_or(u64::MAX, |&(first, count)| first + count - 1);
        for id in first..end {
            if *self.before.entry(id).or_insert(before) != before {
                let help =
                    "an id stands for its block and all blocks before it, so that it always follows on the same one";
                return Err(self.place.bad(
                    path,
                    key,
                    &id,
                    "ids that follow on the ids that they followed on before",
                    help,
                ));
            }
            before = id;
        }
        match ids.last_mut() {
            Some((last, count)) if *last + *count == first => *count += more,
            _ if more > 0 => ids.push((first, more)),
            _ => {}
        }
        Ok(())
    }
}

fn count(ids: &[Run]) -> u64 {
    ids.iter().map(|&(_, count)| count).sum()
}

/// Keeps the first so many ids.
fn truncate(ids: &mut Vec<Run>, mut keep: u64) {
    let mut runs = 0;
    for run in ids.iter_mut() {
        if keep == 0 {
            break;
        }
        run.1 = run.1.min(keep);
        keep -= run.1;
        runs += 1;
    }
    ids.truncate(runs);
}
