//! Sessions of coding agents, recorded by kv-cache-tester (callanjfox/kv-cache-tester, WEKA, Apache-2.0): JSON lines, one session each.
//!
//! A session has `id`, `block_size`, `hash_id_scope` and `requests`; a request `t` [s since the start of the session], `model`, `in` and
//! `out` [tokens], `api_time` [s] and `think_time` [s] where they are known, and the ids of the full blocks of its prompt: as
//! `hash_ids`, or in short as `keep` (so many leading ids of the request before it in its list) and `ids` (runs `[first, count]` that
//! follow). An entry of type `subagent` has a list of `requests` of its own.
//!
//! **Ids.** `hash_id_scope: local` says that ids mean something only within their session (sub-agents included). They are set apart
//! from those of all other sessions, so that none is shared. An id stands for its block and all blocks before it; this is checked.
//!
//! **What waits for what** ([`session`]). A request is sent a pause after the answer to the one before it in its list. The pause is
//! `think_time`; where the end of the one before was not recorded, `think_time` counts from the last end that was, and the time between the
//! two requests bounds it. A sub-agent's `t` is its *end*, `duration_ms` before that it started, and the `t` of its requests count
//! from there: in the published file sub-agents of one parent start at the same millisecond, and 0.1 to 0.8 s after the parent's
//! answer. Its first request is sent that long after the answer to the parent's request before it. The parent waits for sub-agents if it
//! sent nothing while they ran, and goes on the recorded time after the last of their answers. A request that was recorded before
//! the answer to the one before it (3 of 17,274) waits for that answer nevertheless.
//!
//! **Failed** requests (`out` is 0) that are left out take the time that they took in the record.

mod line;
mod play;
mod session;

pub use play::SessionReplay;
