//! The CPU executor: what a sequence gets depends on its tokens alone; weights and models agree with what others say.

mod equality;
mod files;
mod goldens;
mod protocol;
mod support;
