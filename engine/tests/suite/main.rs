//! The CPU executor: what a sequence gets depends on its tokens alone; weights and models agree with what others say.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::float_cmp)]

mod candle;
mod equality;
mod files;
mod goldens;
mod reference;
mod support;
mod tokenizer;
