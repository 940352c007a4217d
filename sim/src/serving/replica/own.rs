//! Identities of blocks that the workload has none for: engines hash the tokens themselves, generated ones too, so that a preempted
//! request finds what is left of its own blocks.
//!
//! No other request has these contents. So they get identities only when a request is preempted; and, as long as one waits that may come
//! back for its own, when others finish: their blocks go behind its blocks in the free queue, as hashed ones do.

use super::hash_to;
use crate::counter::{finish, mix};
use crate::kv::{KvStore, Seat};
use crate::serving::request::{Request, known};
use crate::workload::arrival::Content;

/// Gives all full blocks among the first `tokens` tokens of a request an identity, its own where the workload knows none.
pub(crate) fn name_own(kv: &mut KvStore, seat: Seat, request: &mut Request, tokens: u32) {
    if !request.kv.is_whole() {
        return; // Some of its tokens are gone, or will be: nobody finds them here again.
    }
    identify(request, tokens, kv.pool().block_tokens());
    hash_to(kv, seat, request, tokens);
}

/// Puts the full blocks among the first `tokens` tokens of a request into a tree of cached runs. The prompt ends there on its own.
#[inline]
pub(crate) fn publish(kv: &mut KvStore, seat: Seat, request: &mut Request, tokens: u32) {
    if kv.tree().is_some() && request.kv.is_whole() {
        publish_to_tree(kv, seat, request, tokens);
    }
}

fn publish_to_tree(kv: &mut KvStore, seat: Seat, request: &mut Request, tokens: u32) {
    let block_tokens = kv.pool().block_tokens();
    identify(request, tokens, block_tokens);
    let contents = known(request.content.as_deref(), tokens);
    kv.publish(seat, &mut request.kv, contents, request.prompt / block_tokens);
}

/// Makes the contents of all full blocks among the first `tokens` tokens of a request known.
fn identify(request: &mut Request, tokens: u32, block_tokens: u32) {
    let id = request.id;
    let content = request.content.get_or_insert_with(|| Box::new(Content { block_tokens, ids: Box::default() }));
    let (known, full) = (content.ids.len() as u64, u64::from(tokens / block_tokens));
    if full > known {
        content.ids = content.ids.iter().copied().chain((known..full).map(|index| own(id, index))).collect();
    }
}

/// The identity of a request's own block: mixed, so that it meets no other.
fn own(request: u64, index: u64) -> u64 {
    mix(finish(request.wrapping_add(1)), index)
}
