//! Prompts for requests of which only the lengths are known.

use overbook_sim::workload::arrival::Arrival;

use std::time::{SystemTime, UNIX_EPOCH};

use overbook_sim::counter::mix;

/// Three words as one key.
pub(crate) fn key(words: [u64; 3]) -> u64 {
    words.into_iter().fold(0x0_4272_696e_6773, mix)
}

/// A seed of prompts that no server has seen: its prefix cache may have those of the last time.
pub(crate) fn unseen(seed: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos());
    key([seed, now as u64, 0])
}

/// The tokens of a request: they begin like those of another just as far as the trace says that their blocks do, and differ
/// from there on. Where the trace knows contents beyond the prompt, so does the result. A function of the seed, the request's number and its contents alone.
pub fn prompt_tokens(arrival: &Arrival, id: u64, seed: u64, vocab: u32) -> Vec<u32> {
    let content = arrival.content.as_deref();
    let token = |position: u32| {
        let known = content.and_then(|content| {
            let id = content.ids.get((position / content.block_tokens) as usize)?;
            Some(key([*id, 1, u64::from(position % content.block_tokens)]))
        });
        let drawn = known.unwrap_or_else(|| key([seed, id.wrapping_add(2), u64::from(position)]));
        (drawn % u64::from(vocab)) as u32
    };
    let told = content.map_or(0, |content| content.ids.len() as u32 * content.block_tokens);
    let all = arrival.prompt_tokens + arrival.output_tokens;
    (0..arrival.prompt_tokens.max(told.min(all))).map(token).collect()
}

#[cfg(test)]
mod tests {
    use overbook_sim::time::Time;
    use overbook_sim::workload::arrival::Content;

    use super::*;

    #[test]
    fn no_two_replays_have_the_same_prompts() {
        assert_ne!(unseen(7), unseen(7));
    }

    #[test]
    fn equal_blocks_give_equal_tokens() {
        let with = |ids: &[u64]| {
            let content = Some(Box::new(Content { block_tokens: 4, ids: ids.into() }));
            Arrival { content, ..Arrival::new(Time::ZERO, 11, 1) }
        };
        let a = prompt_tokens(&with(&[7, 8]), 0, 1, 1000);
        let b = prompt_tokens(&with(&[7, 9]), 1, 1, 1000);
        assert_eq!(a[..4], b[..4]);
        assert_ne!(a[4..8], b[4..8]);
        assert_ne!(a[8..], b[8..]);
        assert_eq!(a, prompt_tokens(&with(&[7, 8]), 0, 1, 1000));
        assert!(a.iter().all(|&token| token < 1000));
        let longer = prompt_tokens(&with(&[7, 8, 3]), 0, 1, 1000);
        assert_eq!((a.len(), longer.len()), (11, 12), "one output token, whose block is known");
    }
}
